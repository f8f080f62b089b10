import { describe, expect, test } from 'vitest'
import { commerceLayer } from '../../adapters/commerce-layer.ts'
import type { JsonObject } from '../../src/lib/json.ts'
import type { Kind } from '../../src/model/enums.ts'
import type { AnyValues } from '../../src/model/fields.ts'
import { Unreadable } from '../../src/model/unreadable.ts'
import { apiCredential, apiCredentialWithRole, jsonApiError, permission, role } from './documented.ts'
import { answer, open, resultOf, translate } from './translation.ts'

const of = (kind: Kind) => translate('commerce-layer', kind, 'commerce-layer:xYZkjABcde')
const credential = of('credential')

/** A documented answer in which some attributes have other values. */
const having = <D extends { data: { attributes: JsonObject } }>(document: D, attributes: JsonObject) => ({
  data: { ...document.data, attributes: { ...document.data.attributes, ...attributes } },
})
const linked = apiCredentialWithRole({ type: 'roles', id: 'ABCRtyUpBa' })

test.each(['credential', 'role', 'permission'] as const)('takes opaque ids for keys of a %s', (kind) => {
  const { key, checkKey } = of(kind).spec
  expect(key).toEqual(['id'])
  for (const id of ['xYZkjABcde', 'a', 'A-b_9', 'x'.repeat(64)]) expect(checkKey(id)).toBeUndefined()
  for (const id of ['', 'a b', 'a.b', 'a@b', 'é', 'a\n', 'x'.repeat(65)]) expect(checkKey(id)).toBeDefined()
})

describe('a read', () => {
  test.each([
    ['credential', '/api/api_credentials/{id}?include=role'],
    ['role', '/api/roles/{id}'],
    ['permission', '/api/permissions/{id}'],
  ] as const)('asks for the %s at %s', (kind, template) => {
    expect(of(kind).spec.read?.request({ id: 'xYZkjABcde' })).toEqual({
      method: 'GET',
      template,
      ref: { id: 'xYZkjABcde' },
      headers: { accept: 'application/vnd.api+json' },
    })
  })

  // The documentation links to the plural type; the published schema names the singular one.
  test.each([
    ['an included role', { type: 'roles', id: 'ABCRtyUpBa' }, ['ABCRtyUpBa']],
    ['an included role of the singular type', { type: 'role', id: 'ABCRtyUpBa' }, ['ABCRtyUpBa']],
    ['no role', null, []],
  ])('tells %s', (_, linkage, roles) => {
    const read = resultOf(credential.read(answer(200, apiCredentialWithRole(linkage))))
    expect(read.values).toMatchObject({ roles })
  })

  test('does not tell a role that was not included', () => {
    expect(resultOf(credential.read(answer(200, apiCredential))).values).not.toHaveProperty('roles')
  })

  test('tells what is null as null, and what is absent not at all', () => {
    const nulls = { redirect_uri: null, expires_in: null, reference: null, metadata: null }
    const { scopes: _, ...attributes } = having(apiCredential, nulls).data.attributes as JsonObject
    const { values } = resultOf(credential.read(answer(200, { data: { ...apiCredential.data, attributes } })))
    expect(values).toMatchObject({ redirectUri: null, tokenLifetime: null, reference: null, metadata: null })
    expect(values).not.toHaveProperty('scopes')
  })

  test.each([
    ['an integer', { expires_in: '7200' }, 'tokenLifetime'],
    ['a text', { reference: 5 }, 'reference'],
    ['an object', { metadata: ['foo'] }, 'metadata'],
    ['a flag', { confidential: 'yes' }, 'confidential'],
  ])('an attribute that is not %s is unreadable, and decides nothing', (_, attributes, field) => {
    const document = having(apiCredential, attributes)
    const { values } = resultOf(credential.read(answer(200, document)))
    expect((values as AnyValues)[field]).toBeInstanceOf(Unreadable)
    expect(credential.parse(answer(200, document))).toMatchObject({ outcome: 'applied' })
    expect(resultOf(credential.plan({ name: 'New' }, document)).body).toEqual({
      data: { type: 'api_credentials', id: expect.any(String), attributes: { name: 'New' } },
    })
  })
})

describe('a plan', () => {
  const dataOf = (kind: Kind, body: JsonObject, before?: JsonObject) => {
    const { data } = open(resultOf(of(kind).plan(body, before)).body) as { data: JsonObject }
    const { type: _, id: __, ...rest } = data
    return rest
  }

  test.each<[string, Kind, JsonObject, JsonObject]>([
    [
      'a role',
      'credential',
      { roles: ['kLmNoPqRsT'] },
      { relationships: { role: { data: { type: 'roles', id: 'kLmNoPqRsT' } } }, attributes: {} },
    ],
    ['no role', 'credential', { roles: [] }, { relationships: { role: { data: null } }, attributes: {} }],
    [
      'null for what may be cleared',
      'credential',
      { tokenLifetime: null, redirectUri: null, reference: null, referenceOrigin: null, metadata: null },
      {
        attributes: {
          expires_in: null,
          redirect_uri: null,
          reference: null,
          reference_origin: null,
          metadata: null,
        },
      },
    ],
    [
      'all that can be set of a credential',
      'credential',
      {
        name: 'Warehouse sync',
        tokenLifetime: 14400,
        redirectUri: 'https://example.com/callback',
        reference: 'vault:9021',
        referenceOrigin: 'vault',
        metadata: { owner: 'ops' },
      },
      {
        attributes: {
          name: 'Warehouse sync',
          expires_in: 14400,
          redirect_uri: 'https://example.com/callback',
          reference: 'vault:9021',
          reference_origin: 'vault',
          metadata: { owner: 'ops', foo: 'bar' },
        },
      },
    ],
    [
      'all that can be set of a role',
      'role',
      { name: 'Catalog editors', reference: null, referenceOrigin: 'vault', metadata: { team: 'pim' } },
      {
        attributes: {
          name: 'Catalog editors',
          reference: null,
          reference_origin: 'vault',
          metadata: { team: 'pim', foo: 'bar' },
        },
      },
    ],
    [
      'the switches of a permission by their names on the wire',
      'permission',
      { canCreate: true, canRead: true, canUpdate: true, canDestroy: true },
      { attributes: { can_create: true, can_read: true, can_update: true, can_destroy: true } },
    ],
  ])('writes %s', (_, kind, body, data) => {
    const before = { credential: linked, role, permission }[kind]
    expect(dataOf(kind, body, before)).toEqual(data)
  })

  test('writes only what differs from what was read', () => {
    const body = { name: 'My app', roles: ['ABCRtyUpBa'], tokenLifetime: 7200, reference: 'vault:1' }
    expect(dataOf('credential', body, linked)).toEqual({ attributes: { reference: 'vault:1' } })
  })

  test('writes metadata whole, merged with what was read', () => {
    const before = having(apiCredential, { metadata: { foo: 'bar', gone: 1, deep: { a: 1 } } })
    expect(dataOf('credential', { metadata: { gone: null, deep: { b: 2 }, added: [] } }, before)).toEqual({
      attributes: { metadata: { foo: 'bar', deep: { b: 2 }, added: [] } },
    })
  })
})

describe('a refusal', () => {
  const fault = (pointer: string, meta: JsonObject) => ({
    title: 'A title',
    detail: 'a detail',
    code: 'VALIDATION_ERROR',
    source: { pointer },
    status: '422',
    meta,
  })

  test('of values names our fields, and says what is wrong with them in our words', () => {
    const errors = [
      fault('/data/attributes/name', { error: 'blank' }),
      fault('/data/attributes/expires_in', { error: 'greater_than_or_equal_to', value: 60, count: 7200 }),
      fault('/data/attributes/expires_in', { error: 'less_than_or_equal_to', value: 1e9, count: 31536000 }),
      fault('/data/attributes/redirect_uri', { error: 'invalid', value: 'x' }),
      fault('/data/attributes/reference_origin', { error: 'a validator that nobody knows' }),
      fault('/data/relationships/role', { error: 'inclusion' }),
      fault('/data/attributes/somewhere_else', { error: 'taken' }),
      fault('/data', {}),
      { code: 'VALIDATION_ERROR' },
    ]
    const parsed = credential.parse(answer(422, { errors }))
    expect(parsed).toMatchObject({ outcome: 'rejected', refusal: { problem: 'upstream-validation-failed' } })
    const told = parsed.outcome === 'rejected' ? parsed.refusal.errors : []
    expect(told?.map(({ pointer, detail }) => [pointer, detail])).toEqual([
      ['#/name', 'must not be blank'],
      ['#/tokenLifetime', 'is too small'],
      ['#/tokenLifetime', 'is too large'],
      ['#/redirectUri', 'is not valid'],
      ['#/referenceOrigin', 'was refused by the provider'],
      ['#/roles', 'is not one of the accepted values'],
      ['#', 'is in use already'],
      ['#', 'was refused by the provider'],
      ['#', 'was refused by the provider'],
    ])
  })

  test.each([
    [400, 'PARAM_NOT_ALLOWED', 'upstream-failed'],
    [400, 'KEY_NOT_INCLUDED_IN_URL', 'upstream-failed'],
    [401, 'UNAUTHORIZED', 'upstream-unauthorized'],
    [401, 'INVALID_TOKEN', 'upstream-unauthorized'],
    [403, 'FORBIDDEN', 'upstream-unauthorized'],
    [404, 'RECORD_NOT_FOUND', 'not-found'],
    [405, 'METHOD_NOT_ALLOWED', 'upstream-failed'],
    [406, 'NOT_ACCEPTABLE', 'upstream-failed'],
    [409, 'RECORD_NOT_UNIQUE', 'upstream-conflict'],
    [415, 'UNSUPPORTED_MEDIA_TYPE', 'upstream-failed'],
    [422, 'VALIDATION_ERROR', 'upstream-validation-failed'],
    [423, 'LOCKED', 'upstream-locked'],
  ])('with %i %s means %s, with a body and without', (status, code, problem) => {
    for (const body of [jsonApiError(code, { status: String(status) }), undefined, '']) {
      for (const kind of ['credential', 'role', 'permission'] as const) {
        expect(of(kind).parse(answer(status, body))).toMatchObject({
          outcome: 'rejected',
          refusal: { problem },
        })
        expect(of(kind).read(answer(status, body))).toMatchObject({ ok: false, refusal: { problem } })
      }
    }
  })

  test.each(['INVALID_TOKEN', 'UNAUTHORIZED'])(
    'with 401 %s may mean a token that is not taken any more',
    (code) => {
      const unauthorized = answer(401, jsonApiError(code, { status: '401' }))
      const refusal = { problem: 'upstream-unauthorized', staleToken: true }
      expect(credential.parse(unauthorized)).toMatchObject({ refusal })
      expect(credential.read(unauthorized)).toMatchObject({ refusal })
    },
  )

  test('of a role that is not there speaks of the role, where the change names one', () => {
    const absent = answer(404, jsonApiError('RECORD_NOT_FOUND', { status: '404' }))
    const parse = (desired?: object) => credential.spec.parse({ id: 'xYZkjABcde' }, absent, desired as never)
    expect(parse({ roles: ['ABCRtyUpBa'] })).toMatchObject({
      outcome: 'rejected',
      refusal: { problem: 'upstream-validation-failed', errors: [{ pointer: '#/roles' }] },
    })
    for (const desired of [{ name: 'New' }, undefined]) {
      expect(parse(desired)).toMatchObject({
        outcome: 'rejected',
        refusal: { problem: 'not-found' },
      })
    }
  })
})

describe('sign-in', () => {
  const [way, ...others] = commerceLayer.auth
  if (way?.scheme !== 'client-credentials') throw new TypeError('there is no token endpoint')
  const issued = {
    access_token: 'eyJ...',
    token_type: 'bearer',
    expires_in: 7200,
    scope: 'provisioning-api',
    created_at: 1760000000,
  }

  test('asks the token endpoint of the authentication host, in JSON', () => {
    expect(others).toEqual([])
    expect(way).toMatchObject({
      endpoint: { base: 'authUrl', default: 'https://auth.commercelayer.io' },
      template: '/oauth/token',
      encoding: 'json',
    })
  })

  test('takes the token and its lifetime in seconds, with and without a token type', () => {
    const { token_type: _, ...untyped } = issued
    for (const body of [issued, untyped]) {
      const { accessToken, lifetime } = resultOf(way.parse(answer(200, body)))
      expect([accessToken.expose(), lifetime]).toEqual(['eyJ...', { seconds: 7200 }])
    }
  })

  test.each([
    ['the text of a number', '7200'],
    ['a number', 7200],
  ])('reads a lifetime that is %s', (_, expires_in) => {
    expect(resultOf(way.parse(answer(200, { ...issued, expires_in }))).lifetime).toEqual({ seconds: 7200 })
  })

  test.each(['soon', '', '-5', '7200s', '1e400', true, null, {}, [7200]])(
    'takes no lifetime for %j',
    (expires_in) => {
      expect(way.parse(answer(200, { ...issued, expires_in }))).toMatchObject({ ok: false })
    },
  )

  test.each(['provisioning-api', 'provisioning-api market:all', undefined, null])(
    'takes a token with the scope %j',
    (scope) => {
      expect(way.parse(answer(200, { ...issued, scope })).ok).toBe(true)
    },
  )

  test.each(['market:all', 'market:id:abcdefghij stock_location:1', 'provisioning-apis', ''])(
    'says of the scope %j that it is of another API, and does not repeat it',
    (scope) => {
      const read = way.parse(answer(200, { ...issued, scope }))
      expect(read).toMatchObject({ ok: false, refusal: { problem: 'upstream-unauthorized' } })
      const { detail } = (read as { refusal: { detail: string } }).refusal
      expect(detail).toContain('personal client of an organization’s admin')
      if (scope !== '') expect(detail).not.toContain(scope)
    },
  )

  test.each([400, 401, 403])(
    'refuses as the gateway’s own fault what the endpoint answers with %i',
    (status) => {
      const body = { errors: [{ title: 'invalid_client', code: 'UNAUTHORIZED', status }] }
      expect(way.parse(answer(status, body))).toMatchObject({
        ok: false,
        refusal: { problem: 'upstream-unauthorized' },
      })
    },
  )
})

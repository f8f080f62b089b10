import { gatewayFetch, useGateway } from '#gateway'
import { beforeAll, describe, expect, test } from 'vitest'
import { operationsIn } from '../harness/documented-requests.ts'
import {
  call,
  eventsOf,
  mintApinizer,
  mintCommerceLayer,
  mintDiscue,
  providers,
  put,
} from '../harness/gateway-calls.ts'
import type { Json } from '../harness/sandbox-calls.ts'

useGateway()

const ids = { apinizer: '', commerceLayer: '', permission: '', discue: '' }
beforeAll(async () => {
  ids.apinizer = (await mintApinizer()).id
  ids.commerceLayer = `commerce-layer:${await mintCommerceLayer('api_credentials')}`
  ids.permission = `commerce-layer:${await mintCommerceLayer('permissions')}`
  ids.discue = `discue:${await mintDiscue()}`
})

const routes = {
  apinizer: () => `/credentials/${ids.apinizer}`,
  commerceLayer: () => `/credentials/${ids.commerceLayer}`,
  permission: () => `/permissions/${ids.permission}`,
  discue: () => `/credentials/${ids.discue}`,
}

describe('a body that is refused', () => {
  test.each<[string, keyof typeof routes, unknown, string, [string, string][]]>([
    ['an unknown field', 'discue', { nmae: 'x' }, 'unsupported-field', [['#/nmae', 'unsupported-field']]],
    [
      'a field that the provider lacks',
      'discue',
      { email: 'a@b.example' },
      'unsupported-field',
      [['#/email', 'unsupported-field']],
    ],
    [
      'a read-only field',
      'commerceLayer',
      { clientId: 'x' },
      'read-only-field',
      [['#/clientId', 'read-only-field']],
    ],
    [
      'an immutable field',
      'permission',
      { subject: 'skus' },
      'read-only-field',
      [['#/subject', 'read-only-field']],
    ],
    [
      'metadata that is only carried over',
      'apinizer',
      { metadata: {} },
      'read-only-field',
      [['#/metadata', 'read-only-field']],
    ],
    [
      'faults of several sorts, all of them',
      'commerceLayer',
      { kind: 'webapp', secret: 'x', tokenLifetime: 1, roles: ['a', 'b'], redirectUri: 'nowhere' },
      'validation-failed',
      [
        ['#/kind', 'read-only-field'],
        ['#/redirectUri', 'invalid-format'],
        ['#/roles', 'too-big'],
        ['#/secret', 'unsupported-field'],
        ['#/tokenLifetime', 'too-small'],
      ],
    ],
    [
      'null where it cannot be cleared',
      'commerceLayer',
      { name: null },
      'validation-failed',
      [['#/name', 'invalid-type']],
    ],
    ['a blank name', 'apinizer', { name: ' ' }, 'validation-failed', [['#/name', 'custom']]],
    ['an empty secret', 'apinizer', { secret: '' }, 'validation-failed', [['#/secret', 'custom']]],
    ['no field at all', 'discue', {}, 'validation-failed', []],
    [
      'an address that is none',
      'apinizer',
      { allowedIps: ['10.0.0.300'] },
      'validation-failed',
      [['#/allowedIps/0', 'invalid-union']],
    ],
    [
      'an address twice',
      'apinizer',
      { allowedIps: ['10.0.0.1', '10.0.0.1'] },
      'validation-failed',
      [['#/allowedIps', 'custom']],
    ],
    [
      'a date without an offset',
      'apinizer',
      { expiresAt: '2027-01-01T00:00:00' },
      'validation-failed',
      [['#/expiresAt', 'invalid-format']],
    ],
    [
      'a date finer than a millisecond',
      'apinizer',
      { expiresAt: '2027-01-01T00:00:00.1234Z' },
      'validation-failed',
      [['#/expiresAt', 'custom']],
    ],
    ['a lone surrogate', 'discue', '{"name":"\\ud800"}', 'validation-failed', [['#/name', 'custom']]],
    [
      'a lone surrogate deep in metadata',
      'commerceLayer',
      '{"metadata":{"a":["\\udfff"]}}',
      'validation-failed',
      [['#/metadata', 'custom']],
    ],
    [
      'a lone surrogate in a name',
      'discue',
      '{"\\ud800":1}',
      'unsupported-field',
      [['#', 'unsupported-field']],
    ],
    [
      'a name that could be a value',
      'discue',
      { 'hunter2 is my password': 1 },
      'unsupported-field',
      [['#', 'unsupported-field']],
    ],
    ['a NUL', 'discue', { name: 'a\0b' }, 'validation-failed', [['#/name', 'custom']]],
    [
      'a mail address that is none',
      'apinizer',
      { email: 'nobody' },
      'validation-failed',
      [['#/email', 'invalid-format']],
    ],
  ])('%s', async (_, route, body, slug, errors) => {
    const reply = await put(routes[route](), body)
    expect(reply.status).toBe(422)
    expect(reply.headers.get('content-type')).toBe('application/problem+json')
    expect(reply.body).toMatchObject({ type: `/problems/${slug}`, status: 422, retryable: false })
    const named = (reply.body.errors ?? []).map(({ pointer, code }: { pointer: string; code: string }) => [
      pointer,
      code,
    ])
    expect(named.toSorted()).toEqual(errors.toSorted())
  })

  test.each([
    ['no JSON', '{"name":', 'malformed-request'],
    ['not an object', '["name"]', 'malformed-request'],
    ['a member twice', '{"name":"a","name":"a"}', 'malformed-request'],
    ['a member twice, deep inside', '{"metadata":{"a":{"b":1,"\\u0062":2}}}', 'malformed-request'],
    ['a number too large', '{"metadata":{"a":1e400}}', 'malformed-request'],
    [
      'an integer that would lose its last digits',
      '{"metadata":{"a":[12345678901234567890]}}',
      'malformed-request',
    ],
    ['__proto__', '{"__proto__":{"name":"a"}}', 'malformed-request'],
    [
      'more than 1000 members and elements',
      `{"metadata":{"a":[${'0,'.repeat(997)}0]},"name":1}`,
      'malformed-request',
    ],
    [
      'a string of more than 32768 characters',
      `{"metadata":{"a":"${'x'.repeat(32_769)}"}}`,
      'malformed-request',
    ],
    ['a name of more than 32768 characters', `{"metadata":{"${'x'.repeat(32_769)}":1}}`, 'malformed-request'],
    ['nested without end', `{"metadata":${'['.repeat(20_000)}${']'.repeat(20_000)}}`, 'malformed-request'],
  ])('%s', async (_, body, slug) => {
    const reply = await put(routes.commerceLayer(), body)
    expect(reply.status).toBe(400)
    expect(reply.body.type).toBe(`/problems/${slug}`)
  })

  test('another media type is 415, and so is a content encoding', async () => {
    for (const headers of [
      { 'content-type': 'text/plain' },
      { 'content-type': 'application/json; charset=utf-16' },
      { 'content-type': 'application/json', 'content-encoding': 'gzip' },
    ]) {
      const reply = await put(routes.discue(), { name: 'a' }, { headers })
      expect(reply.status).toBe(415)
      expect(reply.body.type).toBe('/problems/unsupported-media-type')
    }
  })

  test('more than 64 KiB is 413', async () => {
    const reply = await put(routes.discue(), { name: 'a'.repeat(64 * 1024) })
    expect(reply.status).toBe(413)
    expect(reply.body.type).toBe('/problems/payload-too-large')
  })

  test('replacing needs every writable field and names those that are missing', async () => {
    const reply = await put(`${routes.apinizer()}?mode=replace`, {
      secret: 'x',
      enabled: true,
      description: null,
    })
    expect(reply.status).toBe(422)
    expect(reply.body.type).toBe('/problems/incomplete-representation')
    expect(reply.body.errors.map(({ pointer }: { pointer: string }) => pointer).toSorted()).toEqual([
      '#/allowedIps',
      '#/email',
      '#/expiresAt',
      '#/name',
      '#/roles',
    ])
  })

  test.each([
    ['mode=merge', 'mode must be replace or absent'],
    ['dryRun=1', 'dryRun must be true or absent'],
    ['dryRun=true&dryRun=true', 'dryRun is given twice'],
    ['pretty=true', 'this operation takes mode, dryRun, allowSelf'],
    ['allowSelf=yes', 'allowSelf must be true or absent'],
  ])('the query %s is 400', async (query, says) => {
    const reply = await put(`${routes.discue()}?${query}`, { name: 'a' })
    expect(reply.status).toBe(400)
    expect(reply.body.type).toBe('/problems/invalid-query')
    expect(reply.body.detail).toContain(says)
  })

  test.each([
    ['x-change-reason', '%zz'],
    ['x-change-reason', 'a'.repeat(501)],
    ['x-change-reason', 'a%0d%0ab'],
    ['if-match', 'abc'],
    ['if-match', '"a" "b"'],
    ['if-match', '"a", *'],
    ['if-match', ', ,'],
    ['if-match', `"a"${' '.repeat(4000)}b`],
    ['idempotency-key', 'a b'],
    ['idempotency-key', 'k'.repeat(256)],
  ])('the header %s: %s is 400', async (name, value) => {
    const reply = await put(routes.discue(), { name: 'a' }, { headers: { [name]: value } })
    expect(reply.status).toBe(400)
    expect(reply.body.type).toBe('/problems/invalid-header')
  })

  test('none of them was sent or recorded', async () => {
    for (const [name, control] of Object.entries(providers())) {
      const own = Object.values(ids).flatMap((id) => id.split(':').slice(1, 2))
      const writes = (await control.requests()).filter(
        ({ method, path }) => method !== 'GET' && own.some((id) => path.includes(id)),
      )
      expect(writes, name).toEqual([])
    }
    for (const id of Object.values(ids)) expect(await eventsOf(id)).toEqual([])
  })
})

test('a query is refused with what the document says of it', async () => {
  const document = (await (await gatewayFetch('/openapi.json')).json()) as Json
  let refused = 0
  for (const { template: path, method, operation } of operationsIn(document)) {
    if (method === 'HEAD') continue
    const queries: Json[] = (operation.parameters ?? []).filter((one: Json) => one.in === 'query')
    const names = queries.map(({ name }: Json) => name)
    const target = path.replace(/\{\w+\}/, 'discue:a').replace('/problems/discue:a', '/problems/not-found')
    const asked = async (query: string): Promise<string> => {
      const { status, body } = await call(method, `${target}?${query}`, undefined)
      expect([path, query, status, body.type]).toEqual([path, query, 400, '/problems/invalid-query'])
      expect(body.detail).not.toContain('hunter2')
      return body.detail
    }
    const takes = `this operation takes ${names.join(', ') || 'none'}`
    expect(await asked('hunter2=hunter2')).toBe(`a query parameter is unknown; ${takes}`)
    for (const { name, schema } of queries) {
      expect(await asked(`${name}=hunter2&${name}=hunter2`)).toBe(
        `${name} is given twice; it can be given once`,
      )
      const { enum: values, format, minimum, maximum, pattern } = schema as Json
      if ([values, format, minimum, pattern].every((rule) => rule === undefined)) continue
      refused += 1
      const says = await asked(`${name}=hunter2%20`)
      expect(says).toMatch(new RegExp(`^${name} must be `))
      for (const word of values ?? [minimum, maximum]) if (word !== undefined) expect(says).toContain(word)
    }
  }
  expect(refused).toBeGreaterThan(15)
})

test('as many members and elements, and as long a string, as may be are taken', async () => {
  for (const value of [Array(998).fill(0), 'x'.repeat(32_768)]) {
    const reply = await put(`${routes.commerceLayer()}?dryRun=true`, { metadata: { a: value } })
    expect(reply.status).toBe(200)
    expect(reply.body.plan.fields.metadata.to.a).toEqual(value)
  }
})

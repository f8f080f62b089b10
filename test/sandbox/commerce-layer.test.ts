import { createPublicKey, verify } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Sandbox, startSandbox } from '../../sandbox/server.ts'
import { call, commerceLayerAs, type Control, controlOf, type Json, patch } from '../harness/sandbox-calls.ts'

let sandbox: Sandbox
let control: Control
let as: Awaited<ReturnType<typeof commerceLayerAs>>

beforeAll(async () => {
  sandbox = await startSandbox()
  control = controlOf(sandbox.urls.commerceLayer)
})
afterAll(() => sandbox.close())
beforeEach(async () => {
  await control.reset()
  as = await commerceLayerAs(sandbox)
})

const own = '/api/api_credentials/xYZkjABcde'
const attributes = (change: object) => patch('api_credentials', 'xYZkjABcde', change)
const role = (id: string | null) => ({ role: { data: id === null ? null : { type: 'roles', id } } })
const codes = ({ json }: { json: Json }) => json.errors.map((error: Json) => error.code)

describe('tokens', () => {
  const token = (body: unknown, type = 'application/json') =>
    call('POST', `${sandbox.urls.commerceLayerAuth}/oauth/token`, { headers: { 'content-type': type }, body })
  const grant = {
    grant_type: 'client_credentials',
    client_id: 'sandbox-client-id',
    client_secret: 'sandbox-client-secret',
  }

  test.each(['application/json', 'application/vnd.api+json', 'application/json; charset=utf-8'])(
    'are issued to a request in %s',
    async (type) => {
      const { status, json } = await token(grant, type)
      expect(status).toBe(200)
      expect(json).toEqual({
        access_token: expect.any(String),
        token_type: 'bearer',
        expires_in: 7200,
        scope: 'provisioning-api',
        created_at: expect.any(Number),
      })
    },
  )

  test('are JWTs that the published keys verify', async () => {
    const { json } = await token(grant)
    const [head, payload, signature] = json.access_token.split('.') as [string, string, string]
    const { keys } = (await call('GET', `${sandbox.urls.commerceLayerAuth}/.well-known/jwks.json`)).json
    const decoded = (part: string) => JSON.parse(Buffer.from(part, 'base64url').toString())
    expect(decoded(head)).toEqual({ alg: 'RS512', typ: 'JWT', kid: keys[0].kid })
    expect(decoded(payload)).toEqual({
      user: { id: expect.any(String) },
      application: {
        id: expect.any(String),
        client_id: 'sandbox-client-id',
        kind: 'user',
        public: false,
        confidential: true,
      },
      scope: 'provisioning-api',
      exp: json.created_at + 7200,
      iat: json.created_at,
      test: false,
      rand: expect.any(Number),
      iss: 'https://auth.commercelayer.io',
    })
    const key = createPublicKey({ key: keys[0], format: 'jwk' })
    expect(
      verify('sha512', Buffer.from(`${head}.${payload}`), key, Buffer.from(signature, 'base64url')),
    ).toBe(true)
  })

  test.each([
    [{ ...grant, client_secret: 'wrong' }, 401, 'UNAUTHORIZED', 'invalid_client'],
    [{ ...grant, grant_type: 'password' }, 400, 'BAD_REQUEST', 'unsupported_grant_type'],
    ['{', 400, 'BAD_REQUEST', 'invalid_request'],
  ])('are refused with a numeric status: %j', async (body, status, code, title) => {
    const reply = await token(body)
    expect(reply.status).toBe(status)
    expect(reply.json.errors).toEqual([{ title, detail: expect.any(String), code, status }])
  })

  test('are not issued to a form', async () => {
    expect((await token('grant_type=client_credentials', 'application/x-www-form-urlencoded')).status).toBe(
      415,
    )
  })

  test('expire by the clock', async () => {
    expect((await as('GET', own)).status).toBe(200)
    await control.advance(7199_000)
    expect((await as('GET', own)).status).toBe(200)
    await control.advance(2_000)
    const reply = await as('GET', own)
    expect(reply.status).toBe(401)
    expect(reply.json.errors[0]).toMatchObject({
      code: 'INVALID_TOKEN',
      title: 'Invalid token',
      status: '401',
    })
    expect((await (await commerceLayerAs(sandbox))('GET', own)).status).toBe(200)
  })

  test.each(['expire', 'revoke'])('can all be made to %s', async (verb) => {
    expect(await control.send('POST', `/tokens/${verb}`)).toEqual({ tokens: 1 })
    expect(codes(await as('GET', own))).toEqual(['INVALID_TOKEN'])
  })

  test('are revoked by their client only', async () => {
    const revoke = (secret: string) =>
      call('POST', `${sandbox.urls.commerceLayerAuth}/oauth/revoke`, {
        headers: { 'content-type': 'application/json' },
        body: { client_id: 'sandbox-client-id', client_secret: secret, token: as.token },
      })
    const refused = await revoke('guess')
    expect(refused.status).toBe(403)
    expect(refused.json.errors[0]).toMatchObject({
      code: 'FORBIDDEN',
      title: 'unauthorized_client',
      status: 403,
    })
    expect((await as('GET', own)).status).toBe(200)
    const accepted = await revoke('sandbox-client-secret')
    expect([accepted.status, accepted.json]).toEqual([200, {}])
    expect(codes(await as('GET', own))).toEqual(['INVALID_TOKEN'])
  })

  test('of a user who is no admin read but never write', async () => {
    const reader = await commerceLayerAs(sandbox, 'sandbox-reader')
    expect((await reader('GET', own)).status).toBe(200)
    for (const [method, body] of [
      ['PATCH', attributes({ name: 'x' })],
      ['DELETE', undefined],
    ] as const) {
      const reply = await reader(method, own, body)
      expect(reply.status).toBe(401)
      expect(reply.json.errors[0]).toMatchObject({
        code: 'UNAUTHORIZED',
        title: 'Access denied',
        status: '401',
      })
    }
    expect(await control.ledger()).toEqual([])
  })
})

describe('the order of checks', () => {
  /** Each row repairs the fault of the row above it and keeps those below. */
  const wrongLink = { role: { data: { type: 'permissions', id: 'x' } } }
  test.each([
    ['no data', {}, 400, 'PARAM_MISSING'],
    ['data is no object', { data: [] }, 400, 'INVALID_DATA_FORMAT'],
    ['no id', { data: { type: 'wrong', attributes: { kind: 'x' } } }, 400, 'KEY_ORDER_MISMATCH'],
    ['another id', { data: { id: 'other', type: 'wrong' } }, 400, 'KEY_NOT_INCLUDED_IN_URL'],
    ['no type', { data: { id: 'nObOdYhErE', attributes: { kind: 'x' } } }, 400, 'PARAM_MISSING'],
    [
      'wrong type',
      { data: { id: 'nObOdYhErE', type: 'roles', attributes: { kind: 'x' } } },
      400,
      'INVALID_RESOURCE',
    ],
    [
      'not updatable',
      patch('api_credentials', 'nObOdYhErE', { kind: 'x' }, wrongLink),
      400,
      'PARAM_NOT_ALLOWED',
    ],
    [
      'wrong link type',
      patch('api_credentials', 'nObOdYhErE', { expires_in: 1 }, wrongLink),
      400,
      'TYPE_MISMATCH',
    ],
    ['bad link', patch('api_credentials', 'nObOdYhErE', {}, { role: 'x' }), 400, 'INVALID_LINKS_OBJECT'],
    ['unknown record', patch('api_credentials', 'nObOdYhErE', { expires_in: 1 }), 404, 'RECORD_NOT_FOUND'],
  ])('%s', async (_, body, status, code) => {
    const reply = await as('PATCH', '/api/api_credentials/nObOdYhErE', body)
    expect(reply.status).toBe(status)
    expect(codes(reply)).toEqual([code])
    expect(reply.json.errors[0].status).toBe(String(status))
    expect(reply.headers.get('content-type')).toBe('application/vnd.api+json')
  })

  test('authentication stands before everything, media types before the body', async () => {
    const nobody = { authorization: 'Bearer foreign', 'content-type': 'text/plain', accept: 'text/html' }
    expect(codes(await as('PATCH', '/api/nothing', '{', nobody))).toEqual(['INVALID_TOKEN'])
    expect(
      codes(await as('PATCH', own, '{', { ...nobody, authorization: as.headers.authorization })),
    ).toEqual(['UNSUPPORTED_MEDIA_TYPE'])
    expect(codes(await as('PATCH', own, '{', { 'content-type': 'application/json' }))).toEqual([
      'UNSUPPORTED_MEDIA_TYPE',
    ])
    expect(codes(await as('PATCH', own, '{', { accept: 'application/json' }))).toEqual(['NOT_ACCEPTABLE'])
    expect(codes(await as('PATCH', own, '{'))).toEqual(['BAD_REQUEST'])
    expect((await as('PATCH', own, attributes({}), { accept: '*/*' })).status).toBe(200)
  })

  test('unknown paths and methods answer in the shape of the API', async () => {
    expect((await as('GET', '/api/coupons')).status).toBe(404)
    expect((await as('GET', '/')).json.errors[0]).toMatchObject({ status: '404' })
    expect((await as('GET', `${own}/versions`)).status).toBe(404)
    expect((await as('GET', '/api/roles/%ff')).status).toBe(400)
    for (const type of ['roles', 'permissions']) {
      const reply = await as('DELETE', `/api/${type}/xYZkjABcde`)
      expect(reply.status).toBe(405)
      expect(reply.headers.get('allow')).toBe('GET, PATCH')
    }
  })

  test.each([
    [
      'api_credentials',
      ['kind', 'confidential', 'client_id', 'client_secret', 'scopes', 'mode', 'custom', 'nonsense'],
    ],
    ['roles', ['kind', 'created_at']],
    ['permissions', ['subject', 'restrictions', 'can_delete']],
  ])('every attribute of %s that is not updatable is named', async (type, names) => {
    const body = patch(type, 'xYZkjABcde', Object.fromEntries(names.map((name) => [name, 'x'])))
    const reply = await as('PATCH', `/api/${type}/xYZkjABcde`, body)
    expect(reply.status).toBe(400)
    expect(codes(reply)).toEqual(names.map(() => 'PARAM_NOT_ALLOWED'))
    expect(reply.json.errors.map((error: Json) => error.detail)).toEqual(
      names.map((name) => `${name} is not allowed.`),
    )
  })

  test('the organization is fixed at creation, and a permission keeps its role', async () => {
    const organization = { organization: { data: { type: 'organizations', id: 'oRgAnIzAtN' } } }
    const reply = await as('PATCH', own, patch('api_credentials', 'xYZkjABcde', {}, organization))
    expect(codes(reply)).toEqual(['PARAM_NOT_ALLOWED'])
    const moved = patch('permissions', 'xYZkjABcde', {}, role('ABCRtyUpBa'))
    expect(codes(await as('PATCH', '/api/permissions/xYZkjABcde', moved))).toEqual(['PARAM_NOT_ALLOWED'])
  })
})

describe('an update', () => {
  test('changes what was sent and nothing else, and moves updated_at', async () => {
    const before = (await as('GET', own)).json.data.attributes
    await control.send('POST', '/clock', { now: '2026-05-01T00:00:00.000Z' })
    as = await commerceLayerAs(sandbox)
    const reply = await as(
      'PATCH',
      own,
      attributes({ expires_in: 14_400, metadata: { owner: 'ops' }, reference: null }),
    )
    const after = reply.json.data.attributes
    expect(after).toEqual({
      ...before,
      expires_in: 14_400,
      metadata: { owner: 'ops' },
      reference: null,
      updated_at: expect.stringMatching(/^2026-05-01T00:00:0\d\.\d{3}Z$/),
    })
    expect((await as('GET', own)).json.data.attributes).toEqual(after)
    const [entry] = await control.ledger()
    expect(entry).toMatchObject({ operation: 'PATCH api_credentials', id: 'xYZkjABcde', path: own })
    expect(entry.before.attributes).toEqual(before)
    expect(entry.after.attributes).toEqual(after)
  })

  test('may carry empty or no attributes and empty relationships', async () => {
    expect((await as('PATCH', own, patch('api_credentials', 'xYZkjABcde', {}, {}))).status).toBe(200)
    const linkOnly = {
      data: { type: 'api_credentials', id: 'xYZkjABcde', relationships: role('rEaDoNlYrO') },
    }
    expect((await as('PATCH', own, linkOnly)).status).toBe(200)
  })

  test('names each invalid attribute in an error of its own', async () => {
    const reply = await as(
      'PATCH',
      own,
      attributes({ name: '', expires_in: 7199, metadata: 'no', redirect_uri: 5 }),
    )
    expect(reply.status).toBe(422)
    expect(reply.json.errors).toEqual([
      {
        title: "can't be blank",
        detail: "name - can't be blank",
        code: 'VALIDATION_ERROR',
        source: { pointer: '/data/attributes/name' },
        status: '422',
        meta: { error: 'blank' },
      },
      expect.objectContaining({ source: { pointer: '/data/attributes/redirect_uri' } }),
      expect.objectContaining({
        detail: 'expires_in - must be greater than or equal to 7200',
        meta: { error: 'greater_than_or_equal_to', value: 7199, count: 7200 },
      }),
      expect.objectContaining({ source: { pointer: '/data/attributes/metadata' } }),
    ])
    expect(await control.ledger()).toEqual([])
  })

  test.each([
    [7200, 200],
    [31_536_000, 200],
    [null, 200],
    [31_536_001, 422],
    [7200.5, 422],
    ['7200', 422],
  ])('expires_in %j answers %i', async (expires_in, status) => {
    expect((await as('PATCH', own, attributes({ expires_in }))).status).toBe(status)
  })

  test('rejects null where the schema does', async () => {
    expect((await as('PATCH', own, attributes({ name: null }))).status).toBe(422)
    const flags = patch('permissions', 'xYZkjABcde', { can_read: null, can_update: 'yes', can_create: true })
    const reply = await as('PATCH', '/api/permissions/xYZkjABcde', flags)
    expect(reply.json.errors.map((error: Json) => error.source.pointer)).toEqual([
      '/data/attributes/can_read',
      '/data/attributes/can_update',
    ])
  })

  test('adds the missing permissions of a role on request, and shows no trace of the trigger', async () => {
    const body = patch('roles', 'ABCRtyUpBa', { _add_missing_base_permissions: true })
    const reply = await as('PATCH', '/api/roles/ABCRtyUpBa', body)
    expect(reply.json.data.attributes).not.toHaveProperty('_add_missing_base_permissions')
    const added = await as('GET', '/api/roles/ABCRtyUpBa/permissions')
    expect(added.json.data.length).toBeGreaterThan(1)
  })
})

describe('role rules', () => {
  const pointer = '/data/relationships/role'
  test.each([
    ['an integration loses its role', 'xYZkjABcde', null, 422],
    ['an integration gets another role', 'xYZkjABcde', 'rEaDoNlYrO', 200],
    ['a role that does not exist', 'xYZkjABcde', 'nObOdYhErE', 422],
    ['a sales channel gets a role', 'sAlEsChAnN', 'rEaDoNlYrO', 422],
    ['a sales channel stays without', 'sAlEsChAnN', null, 200],
    ['a web app gets a role', 'wEbApPcReD', 'rEaDoNlYrO', 422],
  ])('%s', async (_, id, roleId, status) => {
    const reply = await as(
      'PATCH',
      `/api/api_credentials/${id}`,
      patch('api_credentials', id, {}, role(roleId)),
    )
    expect(reply.status).toBe(status)
    if (status === 422) expect(reply.json.errors).toEqual([expect.objectContaining({ source: { pointer } })])
  })

  test('custom roles need the Enterprise plan', async () => {
    await control.settings({ enterprise: false })
    const custom = patch('api_credentials', 'xYZkjABcde', {}, role('ABCRtyUpBa'))
    expect((await as('PATCH', own, custom)).status).toBe(422)
    const organization = { organization: { data: { type: 'organizations', id: 'oRgAnIzAtN' } } }
    const body = { data: { type: 'roles', attributes: { name: 'New' }, relationships: organization } }
    expect(codes(await as('POST', '/api/roles', body))).toEqual(['UNAUTHORIZED'])
  })
})

describe('creating and deleting', () => {
  const organization = { data: { type: 'organizations', id: 'oRgAnIzAtN' } }
  const creation = (attributes: object, relationships: object = { organization }) => ({
    data: { type: 'api_credentials', attributes, relationships },
  })

  test('an API credential comes with generated secrets and goes for good', async () => {
    const relationships = { organization, ...role('aDmInRoLeX') }
    const reply = await as(
      'POST',
      '/api/api_credentials',
      creation({ name: 'New', kind: 'integration' }, relationships),
    )
    expect(reply.status).toBe(201)
    const { id, attributes: created } = reply.json.data
    expect(id).toMatch(/^[A-Za-z0-9]{10}$/)
    expect(created).toMatchObject({
      name: 'New',
      mode: 'live',
      expires_in: 7200,
      custom: false,
      redirect_uri: null,
    })
    expect(created.client_secret).toMatch(/.{20,}/)
    const path = `/api/api_credentials/${id}`
    expect((await as('GET', path)).json.data.attributes).toEqual(created)
    const gone = await as('DELETE', path)
    expect([gone.status, gone.text]).toEqual([204, ''])
    expect((await as('GET', path)).status).toBe(404)
    expect((await control.ledger()).map(({ operation, id: of }) => [operation, of])).toEqual([
      ['POST api_credentials', id],
      ['DELETE api_credentials', id],
    ])
  })

  test.each([
    [creation({}), ['/data/attributes/name', '/data/attributes/kind']],
    [creation({ name: 'x', kind: 'webapp' }, {}), ['/data/relationships/organization']],
    [creation({ name: 'x', kind: 'toaster' }), ['/data/attributes/kind']],
    [creation({ name: 'x', kind: 'integration' }), ['/data/relationships/role']],
  ])('a create names what is missing or wrong: %#', async (body, pointers) => {
    const reply = await as('POST', '/api/api_credentials', body)
    expect(reply.json.errors.map((error: Json) => error.source.pointer)).toEqual(pointers)
  })

  test('a permission needs its four flags, a subject and a role', async () => {
    const flags = { can_create: true, can_read: true, can_update: false, can_destroy: false }
    const body = (attributes: object, relationships: object) => ({
      data: { type: 'permissions', attributes, relationships },
    })
    const bad = await as('POST', '/api/permissions', body({}, {}))
    expect(bad.json.errors).toHaveLength(6)
    const good = await as('POST', '/api/permissions', body({ ...flags, subject: 'skus' }, role('ABCRtyUpBa')))
    expect(good.status).toBe(201)
    expect(good.json.data.attributes).toMatchObject({ ...flags, subject: 'skus' })
  })
})

describe('reads', () => {
  test('a list has pages, a count and links', async () => {
    const { json } = await as('GET', '/api/api_credentials?page[size]=3&page[number]=1&sort=-created_at')
    expect(json.data).toHaveLength(3)
    expect(json.meta).toEqual({ record_count: 4, page_count: 2 })
    expect(json.links).toEqual({
      first: 'https://provisioning.commercelayer.io/api_credentials?page[number]=1&page[size]=3',
      next: 'https://provisioning.commercelayer.io/api_credentials?page[number]=2&page[size]=3',
      last: 'https://provisioning.commercelayer.io/api_credentials?page[number]=2&page[size]=3',
    })
    const second = await as('GET', '/api/api_credentials?page[size]=3&page[number]=2')
    expect(second.json.data).toHaveLength(1)
    expect(second.json.links).not.toHaveProperty('next')
  })

  test('an included relationship has data, and its resource comes along', async () => {
    const { json } = await as(
      'GET',
      `${own}?include=role&fields[api_credentials]=name,role&fields[roles]=name`,
    )
    expect(json.data.attributes).toEqual({ name: 'My app' })
    expect(json.data.relationships).toEqual({
      role: { links: expect.any(Object), data: { type: 'roles', id: 'aDmInRoLeX' } },
    })
    expect(json.included).toEqual([
      expect.objectContaining({ type: 'roles', id: 'aDmInRoLeX', attributes: { name: 'Admin' } }),
    ])
    const channel = await as('GET', '/api/api_credentials/sAlEsChAnN?include=role')
    expect(channel.json.data.relationships.role.data).toBeNull()
    expect(channel.json.included).toEqual([])
  })

  test('related resources', async () => {
    expect((await as('GET', `${own}/role`)).json.data).toMatchObject({ type: 'roles', id: 'aDmInRoLeX' })
    expect((await as('GET', `${own}/organization`)).json.data).toMatchObject({ id: 'oRgAnIzAtN' })
    expect((await as('GET', '/api/api_credentials/sAlEsChAnN/role')).json).toEqual({ data: null })
    const holders = await as('GET', '/api/roles/aDmInRoLeX/api_credentials')
    expect(holders.json.data.map((one: Json) => one.id)).toEqual(['xYZkjABcde', 'gAtEwAyOwn'])
    expect((await as('GET', '/api/api_credentials/nObOdYhErE/role')).status).toBe(404)
  })

  test.each([
    ['filter[q][kind_eq]=webapp', ['wEbApPcReD']],
    ['filter[q][name_cont]=APP', ['xYZkjABcde']],
    ['filter[q][expires_in_gt]=7200', ['sAlEsChAnN']],
    ['filter[q][kind_not_eq]=integration&sort=-id', ['wEbApPcReD', 'sAlEsChAnN']],
  ])('%s', async (query, ids) => {
    const { json } = await as('GET', `/api/api_credentials?${query}`)
    expect(json.data.map((one: Json) => one.id)).toEqual(ids)
  })

  test.each([
    ['page[size]=26', 'INVALID_PAGE_VALUE'],
    ['page[number]=0', 'INVALID_PAGE_VALUE'],
    ['include=memberships', 'INVALID_INCLUDE'],
    ['fields[api_credentials]=nonsense', 'INVALID_FIELD'],
    ['sort=client_secret', 'INVALID_SORT_CRITERIA'],
    ['filter[q][client_secret_eq]=x', 'FILTER_NOT_ALLOWED'],
  ])('%s is refused', async (query, code) => {
    const reply = await as('GET', `/api/api_credentials?${query}`)
    expect([reply.status, codes(reply)]).toEqual([400, [code]])
  })

  test("the gateway's own client is one of the credentials", async () => {
    const { json } = await as('GET', '/api/api_credentials/gAtEwAyOwn')
    expect(json.data.attributes.client_id).toBe('sandbox-client-id')
  })
})

describe('rate limits', () => {
  const write = () => as('PATCH', own, attributes({}))
  const many = async (count: number) => {
    const statuses = []
    for (let at = 0; at < count; at += 1) statuses.push((await write()).status)
    return statuses
  }

  test('50 writes in ten seconds per endpoint, 200 in a minute over all', async () => {
    const first = await write()
    expect(Object.fromEntries(first.headers)).toMatchObject({
      'x-ratelimit-limit': '50',
      'x-ratelimit-interval': '10',
      'x-ratelimit-remaining': '49',
    })
    expect(new Set(await many(49))).toEqual(new Set([200]))
    const refused = await write()
    expect(refused.status).toBe(429)
    expect(refused.json.errors[0].status).toBe('429')
    expect(refused.headers.get('x-ratelimit-remaining')).toBe('0')
    expect(refused.headers.get('retry-after')).toBeNull()
    const elsewhere = patch('roles', 'xYZkjABcde', {})
    expect((await as('PATCH', '/api/roles/xYZkjABcde', elsewhere)).status).toBe(200)
    expect((await as('GET', own)).status).toBe(200)

    await control.advance(10_500)
    expect(new Set(await many(50))).toEqual(new Set([200]))
    await control.advance(10_500)
    expect(new Set(await many(50))).toEqual(new Set([200]))
    await control.advance(10_500)
    // 152 writes have been counted, the refused one among them: 48 are left of the minute's 200.
    const last = await many(49)
    expect(last.slice(0, 48).every((status) => status === 200)).toBe(true)
    expect(last[48]).toBe(429)
    expect(await control.ledger()).toHaveLength(199)
  })

  test('30 tokens a minute', async () => {
    const statuses = []
    for (let at = 0; at < 30; at += 1)
      statuses.push(
        (await call('POST', `${sandbox.urls.commerceLayerAuth}/oauth/token`, { body: '{}' })).status,
      )
    expect(statuses.filter((status) => status === 429)).toHaveLength(1)
    await control.advance(60_500)
    expect((await commerceLayerAs(sandbox)).token).toEqual(expect.any(String))
  })

  test('can be switched off, replaced, and answered in other shapes', async () => {
    await control.settings({ limits: 'off' })
    expect(new Set(await many(60))).toEqual(new Set([200]))
    const tight = { average: { limit: 2, seconds: 60 }, burst: { limit: 1, seconds: 10 } }
    const limits = { writes: tight, reads: tight, token: { limit: 1, seconds: 60 } }
    await control.settings({ limits, retryAfter: true, limitBody: 'empty' })
    expect(await many(2)).toEqual([200, 429])
    const refused = await write()
    expect(refused.text).toBe('')
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
  })

  test('can be off from the start', async () => {
    const other = await startSandbox({ limits: 'off' })
    try {
      expect(await controlOf(other.urls.commerceLayer).send('GET', '/settings')).toMatchObject({
        limits: 'off',
      })
    } finally {
      await other.close()
    }
  })
})

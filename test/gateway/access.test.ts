import { useGateway } from '#gateway'
import { describe, expect, test } from 'vitest'
import { keys } from '../harness/configuration.ts'
import {
  call,
  eventsOf,
  freshId,
  get,
  mintApinizer,
  mintCommerceLayer,
  mintDiscue,
  providers,
  put,
} from '../harness/gateway-calls.ts'

useGateway()

const credential = async () => `/credentials/commerce-layer:${await mintCommerceLayer('api_credentials')}`

describe('who calls', () => {
  test.each([
    ['no key', null],
    ['no key of this gateway', 'sk_live_123'],
    ['an unknown id', keys.admin.replace('cgw_admin_', 'cgw_nobody_')],
    ['a wrong secret', keys.admin.slice(0, -1) + (keys.admin.endsWith('A') ? 'B' : 'A')],
    ['an expired key', keys.expired],
    ['nothing', ''],
  ])('%s is 401 with a challenge', async (_, key) => {
    for (const [method, path] of [
      ['GET', await credential()],
      ['PUT', await credential()],
      ['GET', '/audit'],
      ['GET', '/providers'],
      ['GET', '/connections'],
    ] as const) {
      const reply = await call(method, path, method === 'PUT' ? { reference: 'x' } : undefined, { key })
      expect(reply.status).toBe(401)
      expect(reply.headers.get('www-authenticate')).toMatch(/^Bearer/)
      expect(reply.body.type).toBe('/problems/unauthenticated')
    }
  })

  test('a bearer is as good as X-API-Key, the same key in both is one, and another is 400', async () => {
    const path = await credential()
    const bearer = { authorization: `Bearer ${keys.admin}` }
    expect((await get(path, { key: null, headers: bearer })).status).toBe(200)
    expect((await get(path, { headers: bearer })).status).toBe(200)
    expect((await get(path, { key: keys.rotated, headers: bearer })).status).toBe(400)
    expect(
      (await get(path, { key: null, headers: { authorization: `Basic ${btoa(keys.admin)}` } })).status,
    ).toBe(401)
  })

  test('two keys of one caller work at once', async () => {
    const path = await credential()
    const reference = freshId()
    const reply = await put(path, { reference }, { key: keys.rotated })
    expect(reply.status).toBe(200)
    const [intent] = await eventsOf(reply.body.credential.id)
    expect(intent.actor).toMatchObject({ caller: 'admin', key: 'rotated' })
  })

  test('a key in the query is no key', async () => {
    expect((await get(`${await credential()}?key=${keys.admin}`, { key: null })).status).toBe(401)
  })
})

describe('what a caller may', () => {
  test('an id outside the rules answers like one that does not exist, without a call upstream', async () => {
    const { id, project } = await mintApinizer()
    const hidden = await get(`/credentials/${id}`, { key: keys.narrow })
    const absent = await get(`/credentials/apinizer:Absent${freshId()}:nobody`, { key: keys.narrow })
    const nowhere = await get(`/credentials/no-connection:${freshId()}`, { key: keys.narrow })
    const alias = await get('/credentials/billing-worker', { key: keys.narrow })
    const written = await put(`/credentials/${id}`, { secret: 's', name: 'x' }, { key: keys.narrow })
    for (const reply of [hidden, absent, nowhere, alias, written]) {
      expect(reply.status).toBe(404)
      const { instance: _i, requestId: _r, ...body } = reply.body
      const { instance: _j, requestId: _s, ...same } = hidden.body
      expect(body).toEqual(same)
    }
    expect((await providers().apinizer.requests()).filter(({ path }) => path.includes(project))).toEqual([])
  })

  test('an absent resource that the caller could see answers with the same words', async () => {
    const seen = await get(`/credentials/commerce-layer:${freshId()}`)
    const unseen = await get(`/credentials/discue:${freshId()}`, { key: keys.narrow })
    expect([seen.status, seen.body.detail]).toEqual([404, unseen.body.detail])
  })

  test('a kind outside the rules does not exist, even with a key that breaks the grammar', async () => {
    expect((await get('/roles/commerce-layer:xYZkjABcde', { key: keys.reader })).status).toBe(404)
    expect((await get('/roles/commerce-layer:a+b', { key: keys.reader })).status).toBe(404)
    expect((await get('/credentials/commerce-layer:a+b', { key: keys.reader })).status).toBe(400)
  })

  test('a kind that the provider lacks is 404', async () => {
    expect((await get(`/roles/discue:${await mintDiscue()}`)).status).toBe(404)
    expect((await put('/permissions/apinizer:MyProject:api-user', { canRead: true })).status).toBe(404)
  })

  test('an action that is lacking on a visible id is 403', async () => {
    const path = await credential()
    const writing = await put(path, { reference: 'x' }, { key: keys.reader })
    expect([writing.status, writing.body.type]).toEqual([403, '/problems/forbidden'])
    expect((await put(path, { reference: 'x' }, { key: keys.planner })).status).toBe(403)
    expect((await put(`${path}?dryRun=true`, { reference: 'x' }, { key: keys.planner })).status).toBe(200)
    expect((await get(path, { key: keys.planner })).status).toBe(403)
    expect((await get('/audit', { key: keys.reader })).status).toBe(403)
    const events = await eventsOf(path.slice('/credentials/'.length))
    expect(events.map(({ type }) => type)).toEqual(['refused', 'refused'])
  })

  test('a field that is lacking is 403 and named, before anything is sent', async () => {
    const { apinizer } = providers()
    await apinizer.mint('credential', 'Narrow/svc', { fullName: 'Before', email: 'hidden@example.com' })
    const before = await apinizer.state('credential', 'Narrow/svc')
    const path = '/credentials/apinizer:Narrow:svc'
    const reply = await put(path, { secret: 's', email: 'x@example.com', roles: [] }, { key: keys.narrow })
    expect(reply.status).toBe(403)
    expect(reply.body.detail).toContain('email, roles')
    expect(await apinizer.state('credential', 'Narrow/svc')).toEqual(before)
  })

  test('fields that may not be read are hidden in replies, diffs and plans', async () => {
    const { apinizer } = providers()
    await apinizer.mint('credential', 'Narrow/seen', {
      fullName: 'Before',
      email: 'hidden@example.com',
      ipList: ['10.9.9.9'],
    })
    const path = '/credentials/apinizer:Narrow:seen'
    const plan = await put(`${path}?dryRun=true`, { secret: 's', name: 'After' }, { key: keys.narrow })
    const reply = await put(path, { secret: 's', name: 'After' }, { key: keys.narrow })
    const read = await get(path, { key: keys.narrow })
    expect([plan.status, reply.status, read.status]).toEqual([200, 200, 200])
    expect(read.body).toMatchObject({
      name: 'After',
      email: '[hidden]',
      allowedIps: ['[hidden]'],
      roles: ['[hidden]'],
    })
    expect(reply.body.fields.name).toEqual({ action: 'set', from: 'Before', to: 'After' })
    expect(plan.body.plan.request.body).toMatchObject({
      fullName: 'After',
      email: '[hidden]',
      password: '[secret]',
    })
    expect(JSON.stringify([plan.body, reply.body, read.body])).not.toMatch(/hidden@example|10\.9\.9\.9/)
    // What was hidden from the caller was sent to the provider as it stood.
    expect(await apinizer.state('credential', 'Narrow/seen')).toMatchObject({
      email: 'hidden@example.com',
      ipList: ['10.9.9.9'],
    })
  })

  test('writing without reading shows nothing of what was there', async () => {
    const key = await mintCommerceLayer('roles', { name: 'Hush', reference: 'hush-hush' })
    const reply = await put(`/roles/commerce-layer:${key}`, { reference: 'mine' }, { key: keys.blind })
    expect(reply.status).toBe(200)
    expect(reply.body.fields).toEqual({ reference: { action: 'set', from: '[hidden]', to: '[hidden]' } })
    expect(JSON.stringify(reply.body)).not.toMatch(/hush/i)
    const { id } = await mintApinizer()
    const secret = await put(`/credentials/${id}`, { secret: 's' }, { key: keys.blind })
    expect(secret.body.fields).toEqual({ secret: { action: 'set', fingerprint: '[hidden]' } })
  })

  test('connections are listed as far as the rules touch them, without addresses or secrets', async () => {
    const all = await get('/connections')
    const narrow = await get('/connections', { key: keys.narrow })
    expect(all.body.data).toHaveLength(22)
    expect(narrow.body.data).toEqual([
      { name: 'apinizer', provider: 'apinizer', kinds: ['credential'], verifyWrites: true },
    ])
    expect(JSON.stringify(all.body)).not.toMatch(/127\.0\.0\.1|sandbox-/)
  })
})

describe('routes', () => {
  test('a method that a route lacks is 405 with Allow; an unknown route is 404', async () => {
    const reply = await call('DELETE', '/credentials/discue:abc')
    expect([reply.status, reply.headers.get('allow')]).toEqual([405, 'GET, HEAD, PUT'])
    expect((await call('POST', '/audit', {})).headers.get('allow')).toBe('GET, HEAD')
    expect((await get('/credential/x')).status).toBe(404)
    expect((await get('/')).body.type).toBe('/problems/not-found')
  })

  test('HEAD is answered like GET, without a body', async () => {
    const path = await credential()
    const [head, full] = [await call('HEAD', path), await get(path)]
    expect([head.status, head.headers.get('etag'), head.body]).toEqual([200, full.headers.get('etag'), ''])
  })

  test('request ids and traces are taken over when well formed, else made; the trace goes upstream', async () => {
    const key = await mintDiscue()
    const traceparent = `00-${'a1'.repeat(16)}-${'b2'.repeat(8)}-01`
    const headers = { 'x-request-id': 'req-42', traceparent }
    const reply = await put(`/credentials/discue:${key}`, { name: `a.${key}` }, { headers })
    expect(reply.headers.get('x-request-id')).toBe('req-42')
    expect(reply.headers.get('traceparent')).toBe(traceparent)
    const [intent] = await eventsOf(`discue:${key}`)
    expect(intent).toMatchObject({ requestId: 'req-42', upstream: { traceparent } })
    const [entry] = (await providers().discue.ledger()).filter(({ id }) => id === key)
    expect(entry.traceparent).toBe(traceparent)
    const bad = await get('/providers', {
      headers: { 'x-request-id': 'a "quoted" id', traceparent: 'ff-00' },
    })
    expect(bad.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/)
    expect(bad.headers.get('traceparent')).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/)
  })

  test('health is public and says nothing of providers', async () => {
    for (const path of ['/health/live', '/health/ready']) {
      const reply = await get(path, { key: null })
      expect([reply.status, reply.body]).toEqual([200, { status: 'ok', reasons: [] }])
    }
  })

  test('providers tell every field of every kind, unsupported ones too', async () => {
    const { body } = await get('/providers')
    const discue = body.data.find(({ name }: { name: string }) => name === 'discue').kinds.credential
    expect(discue).toMatchObject({
      key: '{api_client_id}',
      readable: false,
      fields: { name: { mutability: 'readWrite', upstream: 'name' } },
    })
    expect(discue.fields.secret).toEqual({ mutability: 'unsupported' })
    const layer = body.data.find(({ name }: { name: string }) => name === 'commerce-layer').kinds
    expect(Object.keys(layer)).toEqual(['credential', 'role', 'permission'])
    expect(layer.credential.fields.tokenLifetime).toMatchObject({
      nullable: true,
      minimum: 7200,
      maximum: 31536000,
    })
  })
})

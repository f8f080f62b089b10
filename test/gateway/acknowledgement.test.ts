import { useGateway } from '#gateway'
import { describe, expect, test } from 'vitest'
import { keys } from '../harness/configuration.ts'
import {
  type Answer,
  eventsOf,
  freshId,
  get,
  mintApinizer,
  mintCommerceLayer,
  mintDiscue,
  providers,
  put,
} from '../harness/gateway-calls.ts'
import type { Json } from '../harness/sandbox-calls.ts'

// Providers that answer with success and do something else.

useGateway()

const problem = ({ status, body }: Answer) => [status, body.type, body.outcome]
const NOT_TAKEN = '/problems/not-taken'
const UNKNOWN = [504, '/problems/outcome-unknown', 'unknown']

type Type = 'api_credentials' | 'roles' | 'permissions'
const routes = { api_credentials: 'credentials', roles: 'roles', permissions: 'permissions' }

/** A resource at Commerce Layer and what it does to the next write, or the next reads. */
async function commerceLayer(type: Type, attributes: object = {}, connection = 'commerce-layer') {
  const key = await mintCommerceLayer(type, attributes)
  const control = providers().commerceLayer
  return {
    path: `/${routes[type]}/${connection}:${key}`,
    id: `${connection}:${key}`,
    on: (method: 'PATCH' | 'GET', fault: object, times: number | null = 1) =>
      control.fault(fault, { match: { method, path: key }, times }),
    sent: async (method: string) =>
      (await control.requests()).filter((seen) => seen.method === method && seen.path.includes(key)).length,
    state: async () => (await control.state(type, key)).attributes as Json,
  }
}

async function discue() {
  const key = await mintDiscue()
  return {
    path: `/credentials/discue:${key}`,
    id: `discue:${key}`,
    key,
    on: (fault: object, times = 1) =>
      providers().discue.fault(fault, { match: { method: 'PUT', path: key }, times }),
  }
}

async function apinizer(connection = 'apinizer') {
  const { id, project, state } = await mintApinizer()
  const { apinizer: control } = providers()
  const named = id.replace('apinizer:', `${connection}:`)
  return {
    path: `/credentials/${named}`,
    id: named,
    state,
    on: (method: 'PUT' | 'PATCH' | 'GET', fault: object, times: number | null = 1) =>
      control.fault(fault, { match: { method, path: project }, times }),
    /** The first read comes before the write; this fails or falsifies those after it. */
    async afterwards(fault: object, times: number | null = null) {
      await control.fault({}, { match: { method: 'GET', path: project } })
      await control.fault(fault, { match: { method: 'GET', path: project }, times })
    },
    sent: async (method: string) =>
      (await control.requests()).filter((seen) => seen.method === method && seen.path.includes(project))
        .length,
  }
}

const outcomeOf = async (id: string): Promise<Json> =>
  (await eventsOf(id)).findLast(({ type }) => type === 'outcome')

describe('an answer that tells something else', () => {
  test('for all that was asked, as the read does: rejected, with what is there, and sent once', async () => {
    const { path, id, on, sent, state } = await commerceLayer('permissions', { can_update: true })
    await on('PATCH', { keep: ['can_update'] })
    const reply = await put(path, { canUpdate: false })
    expect(problem(reply)).toEqual([502, NOT_TAKEN, 'rejected'])
    expect(reply.body.errors).toMatchObject([{ pointer: '#/canUpdate', code: 'not-taken' }])
    const fields = { canUpdate: { action: 'set', from: true, to: false, told: true } }
    expect(reply.body.fields).toEqual(fields)
    expect((await state()).can_update).toBe(true)
    expect(await sent('PATCH')).toBe(1)
    expect(await outcomeOf(id)).toMatchObject({
      outcome: 'rejected',
      fields,
      upstream: { status: 200, attempts: 1, notTaken: ['canUpdate'] },
    })
    expect((await get(`/changes?resource=${id}`)).body.data[0].state).toBe('rejected')
  })

  test('for one of two: partial, and open', async () => {
    const { path, id, on, state } = await commerceLayer('roles', { name: 'Before', reference: 'before' })
    await on('PATCH', { keep: ['reference'] })
    const reply = await put(path, { name: 'After', reference: 'after' })
    expect(problem(reply)).toEqual([502, NOT_TAKEN, 'partial'])
    expect(reply.body.errors.map(({ pointer }: Json) => pointer)).toEqual(['#/reference'])
    expect(await state()).toMatchObject({ name: 'After', reference: 'before' })
    expect((await get(`/changes?resource=${id}&outcome=partial`)).body.data).toHaveLength(1)
  })

  test('while a read shows what was asked for: unknown, until it is settled', async () => {
    const { path, on } = await commerceLayer('roles', { name: 'Before' })
    await on('PATCH', { tell: { name: 'Before' } })
    const reply = await put(path, { name: 'After' })
    expect(problem(reply)).toEqual(UNKNOWN)
    const state = async () => (await get(`/changes/${reply.body.changeId}`)).body.state
    await expect.poll(state, { timeout: 20_000, interval: 250 }).toBe('applied')
  })

  test('and a read that fails: unknown, for nothing tells what is there', async () => {
    const { path, on } = await commerceLayer('roles', { name: 'Before' })
    await on('PATCH', { keep: ['name'] })
    await on('GET', {}, 1)
    await on('GET', { status: 403 }, 2)
    expect(problem(await put(path, { name: 'After' }))).toEqual(UNKNOWN)
  })

  test('and a first read that is stale: the second one counts', async () => {
    const { path, on } = await commerceLayer('roles', { name: 'Before', reference: 'before' })
    await on('PATCH', { tell: { reference: 'before' }, keep: ['reference'] })
    await on('GET', {}, 1)
    await on('GET', { tell: { name: 'Before' } }, 1)
    const reply = await put(path, { name: 'After', reference: 'after' })
    expect(problem(reply)).toEqual([502, NOT_TAKEN, 'partial'])
  })

  test('while one of two reads shows what was asked for: not rejected', async () => {
    const { path, on, state } = await commerceLayer('roles', { name: 'Before' })
    await on('PATCH', { tell: { name: 'Before' } })
    await on('GET', {}, 2)
    await on('GET', { tell: { name: 'Before' } })
    expect(problem(await put(path, { name: 'After' }))).toEqual(UNKNOWN)
    expect((await state()).name).toBe('After')
  })

  test('after an attempt without an answer: unknown, for that one may still land', async () => {
    const { path, on, sent } = await commerceLayer('roles', { name: 'Before' })
    await on('PATCH', { reset: 'before' })
    await on('PATCH', { keep: ['name'] })
    expect(problem(await put(path, { name: 'After' }))).toEqual(UNKNOWN)
    expect(await sent('PATCH')).toBe(2)
  })

  test('of a secret’s change: what the secret has come to is not known', async () => {
    const { path, on, id } = await apinizer()
    const before = (await get(path)).body.etag
    await on('PUT', { keep: ['description'] })
    const reply = await put(path, { secret: 'next-secret', description: 'after' })
    expect(problem(reply)).toEqual(UNKNOWN)
    expect(reply.body.errors).toMatchObject([{ pointer: '#/description' }])
    expect((await outcomeOf(id)).upstream).toMatchObject({ notTaken: ['description'] })
    // The secret may be in force, so a tag from before must not fit.
    expect((await get(path)).body.etag).not.toBe(before)
  })

  test('of a secret’s change with another field in force: partial', async () => {
    const { path, on } = await apinizer()
    await on('PUT', { keep: ['description'] })
    const reply = await put(path, { secret: 'next-secret', description: 'after', enabled: false })
    expect(problem(reply)).toEqual([502, NOT_TAKEN, 'partial'])
    expect(reply.body.errors.map(({ pointer }: Json) => pointer)).toEqual(['#/description'])
  })

  test('and a deployment that failed: both are told', async () => {
    const { path, on } = await apinizer()
    const partialDeployment = { environments: ['staging'], level: 'environment' }
    await on('PUT', { partialDeployment, keep: ['description'] }, 2)
    const reply = await put(path, { secret: 'next-secret', description: 'after', enabled: false })
    expect(problem(reply)).toEqual([502, NOT_TAKEN, 'partial'])
    expect(reply.body.deployment.success).toBe(false)
  })
})

describe('what the answer does not tell', () => {
  test('is read, and found', async () => {
    const { path, id, sent } = await commerceLayer('api_credentials')
    const reply = await put(path, { roles: ['ABCRtyUpBa'] })
    expect([reply.status, reply.body.verified]).toEqual([200, true])
    expect(reply.body.credential.roles).toEqual(['ABCRtyUpBa'])
    expect(await sent('GET')).toBe(2)
    expect((await outcomeOf(id)).upstream.verified).toBe(true)
    expect((await get(path)).body.etag).toBe(reply.body.credential.etag)
  })

  test('is read, and found to be as it was: not applied', async () => {
    const { path, on, sent } = await commerceLayer('api_credentials')
    await on('PATCH', { keep: ['role'] })
    const reply = await put(path, { roles: ['ABCRtyUpBa'] })
    expect(problem(reply)).toEqual(UNKNOWN)
    expect(reply.body.fields.roles).toMatchObject({ from: ['aDmInRoLeX'], told: ['aDmInRoLeX'] })
    // Before the write and twice after it.
    expect([await sent('PATCH'), await sent('GET')]).toEqual([1, 3])
  })

  test('is not read where it is all told, or a secret alone was asked for', async () => {
    const role = await commerceLayer('roles')
    const told = await put(role.path, { name: `told ${freshId()}` })
    expect([told.status, told.body.verified, await role.sent('GET')]).toEqual([200, undefined, 1])
    const user = await apinizer()
    const secret = await put(user.path, { secret: 'next-secret' })
    expect([secret.status, secret.body.verified, await user.sent('GET')]).toEqual([200, undefined, 1])
  })

  test('is read after every full update of Apinizer', async () => {
    const { path, sent, id } = await apinizer()
    const reply = await put(path, { secret: 'next-secret', description: 'after' })
    expect([reply.status, reply.body.verified, await sent('GET')]).toEqual([200, true, 2])
    expect((await eventsOf(id))[0].unchanged).toEqual({
      carried: ['name', 'email', 'enabled', 'roles', 'allowedIps', 'expiresAt', 'metadata'],
    })
  })

  test.each([
    ['refused', { status: 403 }],
    ['cut', { reset: 'before' }],
    ['half of an answer', { truncate: true }],
    ['of the provider’s spent rate limit', { status: 429, retryAfter: '600', body: 'empty' }],
  ])('contradicts nothing where the read is %s', async (_, fault) => {
    const { path, id, afterwards } = await apinizer('apinizer-spent')
    await afterwards(fault, 3)
    const reply = await put(path, { secret: 'next-secret', description: 'after' })
    expect([reply.status, reply.body.verified]).toEqual([200, false])
    expect((await outcomeOf(id)).upstream.verified).toBe(false)
  })

  test('is taken on trust where the connection says so, and told as such', async () => {
    const { path, sent, on } = await apinizer('apinizer-unverified')
    await on('PUT', { keep: ['description'] })
    const reply = await put(path, { secret: 'next-secret', description: 'after' })
    expect([reply.status, reply.body.verified, await sent('GET')]).toEqual([200, false, 1])
    const { data } = (await get('/connections')).body
    const verifies = (name: string) => data.find((one: Json) => one.name === name).verifyWrites
    expect(['apinizer-unverified', 'apinizer', 'discue'].map(verifies)).toEqual([false, true, false])
  })
})

describe('another spelling of what was asked for', () => {
  test.each<[string, Json, Json, Json, string, Json]>([
    ['a text without the space at its ends', 'description', ' after ', 'after', 'description', 'after'],
    ['a name without the space at its ends', 'name', 'After  ', 'After', 'fullName', 'After'],
    [
      'an e-mail address in lower case',
      'email',
      'Ops@Example.COM',
      'ops@example.com',
      'email',
      'ops@example.com',
    ],
    [
      'an instant cut to seconds',
      'expiresAt',
      '2031-01-31T23:59:59.987Z',
      '2031-01-31T23:59:59.000Z',
      'expireDate',
      '2031-01-31T23:59:59Z',
    ],
    [
      'addresses in another spelling',
      'allowedIps',
      ['2001:DB8::0:1', '10.0.0.1'],
      ['10.0.0.1/32', '2001:db8::1'],
      'ipList',
      ['10.0.0.1/32', '2001:db8::1'],
    ],
  ])('is applied, with what the provider holds: %s', async (_, field, asked, held, upstream, stored) => {
    const { path, on, id } = await apinizer()
    await on('PUT', { store: { [upstream]: stored } })
    const reply = await put(path, { secret: 'next-secret', [field]: asked })
    expect([reply.status, reply.body.verified]).toEqual([200, true])
    expect(reply.body.credential[field]).toEqual(held)
    expect(reply.body.warnings).toEqual([`the provider holds ${field} in a spelling of its own`])
    expect(reply.body.fields[field].told).toEqual(held)
    expect((await outcomeOf(id)).fields[field].told).toEqual(held)
  })

  test.each<[string, Json, string, Json]>([
    ['description', 'after', 'description', 'after.'],
    ['description', 'after', 'description', 'After'],
    ['email', 'ops@example.com', 'email', 'ops@example.org'],
    ['expiresAt', '2031-01-31T23:59:59.987Z', 'expireDate', '2031-01-31T23:59:58.000Z'],
    ['expiresAt', '2031-01-31T23:59:59.000Z', 'expireDate', null],
    ['allowedIps', ['10.0.0.1'], 'ipList', ['10.0.0.0/31']],
    ['allowedIps', ['10.0.0.1'], 'ipList', []],
    ['roles', ['READER'], 'roleNameList', ['reader']],
  ])('is no other value: %s %j', async (field, asked, upstream, stored) => {
    const { path, on } = await apinizer()
    await on('PUT', { store: { [upstream]: stored } })
    expect(problem(await put(path, { secret: 'next-secret', [field]: asked }))).toEqual(UNKNOWN)
  })

  test('proves nothing where it was there before', async () => {
    const { path, on, state } = await commerceLayer('roles', { name: 'Before' })
    await on('PATCH', { reset: 'before' }, 3)
    expect(problem(await put(path, { name: 'Before ' }))).toEqual(UNKNOWN)
    expect((await state()).name).toBe('Before')
  })

  test('is enough for a read to prove a change', async () => {
    const { path, on } = await commerceLayer('roles', { name: 'Before' })
    await on('PATCH', { store: { name: 'After' }, reset: 'after' })
    const reply = await put(path, { name: 'After ' })
    expect([reply.status, reply.body.role.name]).toEqual([200, 'After'])
    expect(reply.body.warnings).toHaveLength(1)
  })
})

describe('a provider that cannot be read', () => {
  const name = () => `example.com/${freshId()}`

  test('shows what it told, not what was asked for', async () => {
    const { path, on } = await discue()
    const other = name()
    await on({ store: { name: other } })
    const reply = await put(path, { name: name() })
    expect(problem(reply)).toEqual(UNKNOWN)
    expect((await get(path)).body.name).toBe(other)
  })

  test('and calls the name an alias, as newer clients do, is understood', async () => {
    const { path, on } = await discue()
    const asked = name()
    await on({ omit: ['name'], tell: { alias: asked } })
    const reply = await put(path, { name: asked })
    expect([reply.status, reply.body.credential.name]).toEqual([200, asked])
    await on({ omit: ['name'], tell: { alias: 'example.com/other' } })
    expect(problem(await put(path, { name: name() }))).toEqual(UNKNOWN)
    expect((await get(path)).body.name).toBe('example.com/other')
  })

  test('and tells two names leaves open which one it is', async () => {
    const { path, on } = await discue()
    const asked = name()
    await on({ tell: { alias: 'example.com/other' } })
    const reply = await put(path, { name: asked })
    expect(problem(reply)).toEqual(UNKNOWN)
    expect((await outcomeOf(`discue:${path.split(':')[1]}`)).upstream.attempts).toBe(1)
  })

  test('and tells nothing is taken at its word', async () => {
    const { path, on } = await discue()
    const asked = name()
    await on({ omit: ['name'] })
    const reply = await put(path, { name: asked })
    expect([reply.status, reply.body.verified]).toEqual([200, false])
    expect((await get(path)).body.name).toBe(asked)
  })

  test('and holds the name in a spelling of its own shows that', async () => {
    const { path, on } = await discue()
    const asked = name()
    await on({ store: { name: asked } })
    const reply = await put(path, { name: ` ${asked}` })
    expect([reply.status, reply.body.credential.name, reply.body.warnings?.length]).toEqual([200, asked, 1])
    expect((await get(path)).body.name).toBe(asked)
  })
})

test('a secret that may be in force counts for the ETag from its intent on', async () => {
  const { path, on } = await apinizer()
  const tag = async () => (await get(path)).body.etag as string
  const before = await tag()
  await on('PATCH', { delayBeforeMs: 700 })
  const reply = put(path, { secret: 'next-secret' })
  await expect.poll(tag).not.toBe(before)
  const under = await tag()
  const { credential } = (await reply).body
  expect([before, under]).not.toContain(credential.etag)
  expect(await tag()).toBe(credential.etag)
  const late = await put(path, { secret: 'another' }, { headers: { 'if-match': before } })
  expect(late.status).toBe(412)
})

test('a secret that is known not to have been taken leaves the ETag as it was', async () => {
  const { path, on } = await apinizer()
  const { etag } = (await get(path)).body
  const conditional = { headers: { 'if-match': etag, 'idempotency-key': freshId() } }
  // What Cloudflare's edge answers when it does not reach the origin: the same request is good later.
  await on('PATCH', { status: 523 }, 3)
  expect((await put(path, { secret: 'next-secret' }, conditional)).body.outcome).toBe('not_sent')
  await on('PATCH', { status: 422 })
  const refused = await put(path, { secret: 'refused' }, { headers: { 'if-match': etag } })
  expect(refused.body.outcome).toBe('rejected')
  expect((await get(path)).body.etag).toBe(etag)
  const again = await put(path, { secret: 'next-secret' }, conditional)
  expect([again.status, again.body.credential?.etag === etag]).toEqual([200, false])
})

describe('what a contradiction shows', () => {
  test('is masked for who sees it, and anew on every replay', async () => {
    const { path, on } = await commerceLayer('roles', { name: 'Before', reference: 'hush-hush' })
    await on('PATCH', { keep: ['*'] })
    const headers = { 'idempotency-key': freshId() }
    const blind = await put(path, { reference: 'mine' }, { key: keys.blind, headers })
    expect(problem(blind)).toEqual([502, NOT_TAKEN, 'rejected'])
    expect(blind.body.fields.reference).toEqual({
      action: 'set',
      from: '[hidden]',
      to: '[hidden]',
      told: '[hidden]',
    })
    expect(JSON.stringify(blind.body)).not.toContain('hush')
    const again = await put(path, { reference: 'mine' }, { key: keys.blind, headers })
    expect(again.headers.get('idempotency-replayed')).toBe('true')
    expect({ ...again.body, requestId: '' }).toEqual({ ...blind.body, requestId: '' })
  })

  test('is stored whole: a caller who may read sees it on the replay as at first', async () => {
    const { path, on } = await commerceLayer('roles', { reference: 'seen' })
    await on('PATCH', { keep: ['*'] })
    const headers = { 'idempotency-key': freshId() }
    const first = await put(path, { reference: 'mine' }, { headers })
    const again = await put(path, { reference: 'mine' }, { headers })
    expect(again.headers.get('idempotency-replayed')).toBe('true')
    expect(again.body.fields).toEqual(first.body.fields)
    expect(again.body.fields.reference.told).toBe('seen')
  })

  test('leaves out metadata that the connection hides', async () => {
    const { path, id, on } = await commerceLayer('roles', { metadata: { hidden: 'before' } }, 'cl-hiding')
    await on('PATCH', { keep: ['metadata'] })
    const reply = await put(path, { metadata: { hidden: 'after' } })
    expect(problem(reply)).toEqual([502, NOT_TAKEN, 'rejected'])
    expect(reply.body.fields.metadata.told).toBe('[hidden]')
    const events = JSON.stringify(await eventsOf(id))
    expect(events).toContain('"told":"[hidden]"')
    for (const value of ['before', 'after']) expect(events).not.toContain(`"${value}"`)
  })

  test('repeats no value that is very long, and records the outcome all the same', async () => {
    const { path, id, on } = await commerceLayer('roles', { reference: 'before' })
    await on('PATCH', { store: { reference: 'x'.repeat(600_000) } })
    const headers = { 'idempotency-key': freshId() }
    const reply = await put(path, { reference: 'after' }, { headers })
    expect(problem(reply)).toEqual([502, NOT_TAKEN, 'rejected'])
    expect(reply.body.fields.reference.told).toBe('[too long]')
    expect((await outcomeOf(id)).outcome).toBe('rejected')
    expect((await put(path, { reference: 'after' }, { headers })).body.fields).toEqual(reply.body.fields)
  })

  test('conceals nothing for the letters of a short secret that were there before', async () => {
    const { path } = await apinizer()
    const plan = await put(`${path}?dryRun=true`, { secret: 'test', enabled: false })
    expect(plan.body.plan.request.body.description).toBe('made by a test')
  })

  test('has no value of a plan, or the caller’s own, that gives a secret away', async () => {
    const { path, id } = await apinizer()
    const secret = `correct-horse-${freshId()}`
    const headers = { 'x-change-reason': encodeURIComponent(`rotated to ${secret}`) }
    const applied = await put(path, { secret, description: `mine is ${secret}` }, { headers })
    expect(applied.status).toBe(200)
    const plan = await put(`${path}?dryRun=true`, { secret, enabled: false })
    expect(plan.body.plan.request.body.description).toBe('[hidden]')
    expect((await eventsOf(id)).map(({ reason }) => reason)).toEqual(['[hidden]', '[hidden]'])
    for (const shown of [applied.body, plan.body, await eventsOf(id)])
      expect(JSON.stringify(shown)).not.toContain(secret)
  })

  test('has no value that gives a secret of the request away', async () => {
    const { path, id, on } = await apinizer()
    const secret = `correct-horse-${freshId()}`
    await on('PUT', { store: { description: `the password is ${secret}` } })
    const headers = { 'idempotency-key': freshId() }
    const reply = await put(path, { secret, description: 'after', enabled: false }, { headers })
    expect(problem(reply)).toEqual([502, NOT_TAKEN, 'partial'])
    expect(reply.body.fields.description).toMatchObject({ to: 'after', told: '[hidden]' })
    const audit = await eventsOf(id)
    for (const shown of [reply.body, audit]) expect(JSON.stringify(shown)).not.toContain(secret)
    // It is there from now on, and neither the reply nor the diff of the next change repeats it.
    const next = await put(path, { secret, description: 'again' })
    expect(next.status).toBe(200)
    expect(next.body.fields.description).toEqual({ action: 'set', from: '[hidden]', to: 'again' })
    for (const shown of [next.body, await eventsOf(id)]) expect(JSON.stringify(shown)).not.toContain(secret)
  })
})

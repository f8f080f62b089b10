import { runtime, useGateway } from '#gateway'
import { beforeAll, describe, expect, test } from 'vitest'
import { GENESIS, hashOf } from '../../src/ledger/event.ts'
import { keys } from '../harness/configuration.ts'
import { differences } from '../harness/differences.ts'
import {
  call,
  eventsOf,
  freshId,
  get,
  mintApinizer,
  mintCommerceLayer,
  mintDiscue,
  put,
} from '../harness/gateway-calls.ts'
import type { Json } from '../harness/sandbox-calls.ts'

useGateway()

const refusedConnection = differences.refusedConnection[runtime]

const made = { discue: '', apinizer: '', role: '' }
let started = ''
let between = ''

beforeAll(async () => {
  started = new Date().toISOString()
  made.discue = `discue:${await mintDiscue()}`
  made.apinizer = (await mintApinizer()).id
  made.role = `commerce-layer:${await mintCommerceLayer('roles')}`
  for (let at = 0; at < 3; at++) await put(`/credentials/${made.discue}`, { name: `a.${freshId()}` })
  await put(`/credentials/${made.apinizer}`, { secret: 's', name: 'x' })
  between = new Date().toISOString()
  await put(`/roles/${made.role}`, { name: 'y' }, { key: keys.rotated })
  await put(`/credentials/discue-nowhere:${freshId()}`, { name: 'z' })
})

const list = async (query = ''): Promise<Json[]> => (await get(`/audit?limit=1000${query}`)).body.data

describe('the chain', () => {
  test('is whole for every connection: hashes, links, no gaps', async () => {
    const chains = Map.groupBy((await list()).toReversed(), ({ connection }) => connection as string)
    expect(chains.size).toBe(4)
    for (const events of chains.values()) {
      let previous = GENESIS
      for (const [at, event] of events.entries()) {
        expect(event.seq).toBe(at + 1)
        expect(event.previous).toBe(previous)
        expect(hashOf(event)).toBe(event.hash)
        previous = event.hash
      }
    }
  })

  test('shows a change of any member', async () => {
    const [event] = await list()
    for (const member of Object.keys(event)) {
      if (member === 'hash') continue
      expect(hashOf({ ...event, [member]: 'forged' })).not.toBe(event.hash)
    }
  })
})

describe('the list', () => {
  test('is newest first, and its times are those of its ids', async () => {
    const events = await list()
    expect(events.map(({ id }) => id)).toEqual(
      events
        .map(({ id }) => id)
        .toSorted()
        .toReversed(),
    )
    for (const { id, at } of events)
      expect(Number.parseInt(id.replace('-', '').slice(0, 12), 16)).toBe(Date.parse(at))
  })

  test.each<[string, () => string, (event: Json) => boolean]>([
    ['resource', () => `&resource=${made.discue}`, ({ resource }) => resource === made.discue],
    ['connection', () => '&connection=apinizer', ({ connection }) => connection === 'apinizer'],
    ['provider', () => '&provider=discue', ({ connection }) => connection.startsWith('discue')],
    [
      'outcome',
      () => `&outcome=${refusedConnection.outcome}`,
      ({ outcome }) => outcome === refusedConnection.outcome,
    ],
    ['actor', () => '&actor=admin', ({ actor }) => actor.caller === 'admin'],
    ['since', () => `&since=${between}`, ({ at }) => at >= between],
    ['until', () => `&until=${between}`, ({ at }) => at < between],
    [
      'several at once',
      () => `&since=${started}&connection=discue&outcome=applied`,
      (event) => event.connection === 'discue' && event.outcome === 'applied',
    ],
  ])('by %s', async (_, query, belongs) => {
    const all = await list()
    const found = await list(query())
    expect(found).toEqual(all.filter(belongs))
    expect(found.length).toBeGreaterThan(0)
  })

  test('by change', async () => {
    const [event] = await eventsOf(made.role)
    expect((await list(`&change=${event.changeId}`)).map(({ type }) => type)).toEqual(['outcome', 'intent'])
  })

  test('by an alias: what it leads to, as far as the caller may see it', async () => {
    const id = 'commerce-layer:xYZkjABcde'
    await put('/credentials/seed-credential', { reference: freshId() })
    const found = await list('&resource=seed-credential')
    expect(found).toMatchObject([{ resource: id, alias: 'seed-credential' }, { resource: id }])
    expect(await list(`&resource=${id}`)).toEqual(found)
    const hidden = await get('/audit?resource=seed-credential', { key: keys.auditor })
    expect([hidden.status, hidden.body.data]).toEqual([200, []])
  })

  test('of an actor, connection or resource that is not there is empty', async () => {
    expect(await list('&actor=nobody')).toEqual([])
    expect(await list('&resource=nobody')).toEqual([])
    expect(await list(`&resource=discue:${freshId()}`)).toEqual([])
    expect(await list('&connection=nowhere')).toEqual([])
    expect(await list('&connection=discue&provider=apinizer')).toEqual([])
  })

  test('pages without a gap and without a repeat', async () => {
    const all = (await list()).map(({ id }) => id)
    const paged: string[] = []
    let cursor: string | null = ''
    while (cursor !== null) {
      const { body } = await get(`/audit?limit=3${cursor && `&cursor=${cursor}`}`)
      expect(body.data.length).toBeLessThanOrEqual(3)
      paged.push(...body.data.map(({ id }: Json) => id))
      cursor = body.nextCursor
    }
    expect(paged).toEqual(all)
  })

  test.each([
    ['limit=0', 'limit must be a whole number from 1 to 1000'],
    ['limit=1001', 'limit must be a whole number from 1 to 1000'],
    ['limit=many', 'limit must be a whole number from 1 to 1000'],
    ['cursor=next', 'cursor must be the nextCursor of a page'],
    ['since=yesterday', 'since must be a date and time with an offset (RFC 3339)'],
    ['outcome=fine', 'outcome must be one of applied, rejected, partial, unknown'],
    ['type=fine', 'type must be one of intent, attempt, outcome, settled, resolved, refused'],
    ['limit=0&until=now', 'until must be a date and time with an offset (RFC 3339); limit must be'],
    ['resource=Asc', 'resource must be an id, {connection}:{key}, or an alias'],
    ['resource=/credentials/many', 'resource must be an id, {connection}:{key}, or an alias'],
    ['resource=discue:', 'resource must be an id, {connection}:{key}, or an alias'],
    ['resource=discue:%25zzmany', 'resource must be an id, {connection}:{key}, or an alias'],
    ['limit=5&limit=6', 'limit is given twice; it can be given once'],
    ['hunter2=5&hunter2=6', 'a query parameter is given twice'],
    ['order=asc', 'a query parameter is unknown; this operation takes since, until, actor, resource'],
  ])('refuses %s, and says what would be right', async (query, says) => {
    const reply = await get(`/audit?${query}`)
    expect([reply.status, reply.body.type]).toEqual([400, '/problems/invalid-query'])
    expect(reply.body.detail).toContain(says)
    expect(reply.body.detail).not.toMatch(/\b(many|yesterday|fine|now|asc|hunter2)\b/)
  })

  test('shows a caller only what its rules reach', async () => {
    const seen = (await get('/audit?limit=1000', { key: keys.auditor })).body.data
    expect(seen.length).toBeGreaterThanOrEqual(6)
    for (const { resource } of seen) expect(resource).toMatch(/^discue:/)
  })
})

describe('an event', () => {
  test('holds who, what and why, with secrets as keyed fingerprints', async () => {
    const { id } = await mintApinizer()
    const headers = { 'x-change-reason': encodeURIComponent('Rotation für März'), 'x-request-id': 'req-7' }
    const reply = await put(`/credentials/${id}`, { secret: 'top', description: null }, { headers })
    const [intent, outcome] = await eventsOf(id)
    const fields = {
      description: { action: 'clear', from: 'made by a test', to: null },
      secret: { action: 'set', fingerprint: expect.stringMatching(/^hmac-sha256:1:[0-9a-f]{64}$/) },
    }
    expect(intent).toMatchObject({
      type: 'intent',
      outcome: null,
      changeId: reply.body.changeId,
      actor: { caller: 'admin', key: 'admin' },
      kind: 'credential',
      alias: null,
      fields,
      widens: false,
      reason: 'Rotation für März',
      requestId: 'req-7',
      upstream: { method: 'PUT' },
    })
    expect(outcome).toMatchObject({
      type: 'outcome',
      outcome: 'applied',
      fields,
      upstream: { status: 200, attempts: 1, deployment: { success: true } },
    })
  })

  test('of the same secret elsewhere has another fingerprint', async () => {
    const fingerprints = await Promise.all(
      [await mintApinizer(), await mintApinizer()].map(async ({ id }) => {
        const reply = await put(`/credentials/${id}`, { secret: 'shared secret' })
        return reply.body.fields.secret.fingerprint
      }),
    )
    expect(fingerprints[0]).not.toBe(fingerprints[1])
  })

  test('is also there for a change that found no provider', async () => {
    const { status, slug, outcome, attempts } = refusedConnection
    const id = `discue-nowhere:${freshId()}`
    const reply = await put(`/credentials/${id}`, { name: 'a.b' })
    expect([reply.status, reply.body.type, reply.body.outcome]).toEqual([
      status,
      `/problems/${slug}`,
      outcome,
    ])
    expect((await eventsOf(id)).map((event) => [event.type, event.outcome])).toEqual([
      ['intent', null],
      ...Array.from({ length: attempts - 1 }, () => ['attempt', null]),
      ['outcome', outcome],
    ])
  })

  test('cannot be made or changed over HTTP', async () => {
    for (const method of ['POST', 'PUT', 'PATCH', 'DELETE'])
      expect((await call(method, '/audit', {})).status).toBe(405)
  })
})

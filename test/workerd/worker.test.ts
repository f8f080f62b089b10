import { gatewayFetch } from '#gateway'
import { abortAllDurableObjects, runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { sql } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/durable-sqlite'
import { v7 as uuidv7 } from 'uuid'
import { afterEach, describe, expect, test, vi } from 'vitest'
import toPlainIds from '../../migrations/0006_plain-ids.sql?raw'
import migrations from '../../migrations/migrations.js'
import { openLedger } from '../../src/ledger/ledger.ts'
import * as schema from '../../src/ledger/schema.ts'
import { deriveAuditKeys } from '../../src/lib/keyed-digests.ts'
import { Secret } from '../../src/lib/secret.ts'
import worker from '../../src/worker.ts'
import type { ConnectionObject } from '../../src/worker/object.ts'
import { keys } from '../harness/configuration.ts'
import {
  eventsOf,
  get,
  mintApinizer,
  mintCommerceLayer,
  mintDiscue,
  providers,
  put,
} from '../harness/gateway-calls.ts'
import { draftOf } from '../ledger/subject.ts'

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))

afterEach(() => vi.restoreAllMocks())

const variables = env as unknown as Record<string, string>
const config = variables['GATEWAY_CONFIG'] ?? ''

/** One request to the Worker in another environment. Its objects keep the environment of wrangler.toml. */
const fetchWith = (changed: Record<string, unknown>, path: string, init?: RequestInit): Promise<Response> =>
  worker.fetch(new Request(new URL(path, 'https://gateway.example'), init), { ...env, ...changed })

function withPlainHttp(baseUrl: string): string {
  const { connections, ...rest } = JSON.parse(config)
  const apinizer = { ...connections.apinizer, baseUrl, allowPrivateAddresses: true, allowHttp: true }
  return JSON.stringify({ ...rest, connections: { ...connections, apinizer } })
}

describe('an environment at fault', () => {
  const secret = 'a-secret-that-nobody-may-see'
  test.each<[string, Record<string, unknown>, string[]]>([
    ['no configuration', { GATEWAY_CONFIG: undefined }, ['GATEWAY_CONFIG']],
    ['a configuration that is no JSON', { GATEWAY_CONFIG: `{"${secret}` }, ['#: is not JSON']],
    [
      'a configuration that is a table of wrangler.toml',
      { GATEWAY_CONFIG: { connections: {} } },
      ['GATEWAY_CONFIG'],
    ],
    ['a secret that is not set', { APINIZER_TOKEN: undefined }, ['names APINIZER_TOKEN, which is not set']],
    [
      'plain HTTP, which a Node gateway would take',
      { GATEWAY_CONFIG: withPlainHttp(`http://${secret}.example`) },
      ['allowHttp: is for Node alone'],
    ],
    ['a bad audit key and a bad level', { AUDIT_KEY: secret, LOG_LEVEL: secret }, ['AUDIT_KEY', 'LOG_LEVEL']],
  ])('%s: nothing is served but health, and only the log says why', async (_, changed, faults) => {
    const log = vi.spyOn(console, 'log').mockImplementation(() => {})
    const seen: string[] = []
    for (const path of ['/credentials/discue:abc', '/providers', '/openapi.json', '/nowhere']) {
      const response = await fetchWith(changed, path, { headers: { 'x-api-key': keys.admin } })
      expect(response.status).toBe(503)
      expect(response.headers.get('content-type')).toBe('application/problem+json')
      expect(response.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/)
      const text = await response.text()
      expect(JSON.parse(text).type).toBe('/problems/not-ready')
      seen.push(text)
    }
    expect((await fetchWith(changed, '/health/live')).status).toBe(200)
    const ready = await fetchWith(changed, '/health/ready')
    expect(ready.status).toBe(503)
    seen.push(await ready.text())
    const logged = log.mock.calls.join('\n')
    for (const fault of faults) {
      expect(logged).toContain(fault)
      expect(seen.join()).not.toContain(fault)
    }
    expect(logged + seen.join()).not.toContain(secret)
  })
})

test('a configuration may go on in further variables', async () => {
  const [first, second] = [config.slice(0, 4000), config.slice(4000)]
  const split = {
    GATEWAY_CONFIG: first,
    GATEWAY_CONFIG_2: second.slice(0, 10),
    GATEWAY_CONFIG_3: second.slice(10),
  }
  const init = { headers: { 'x-api-key': keys.admin } }
  const whole = await (await gatewayFetch('/connections', init)).json()
  expect(await (await fetchWith(split, '/connections', init)).json()).toEqual(whole)
})

describe('an object', () => {
  const stored = (name: string, query: string) =>
    runInDurableObject(env.CONNECTIONS.getByName(name), (_, { storage }) => storage.sql.exec(query).toArray())

  test('is migrated once, however many ask first', async () => {
    const replies = await Promise.all(Array.from({ length: 50 }, () => get('/audit?connection=cl-careful')))
    expect(new Set(replies.map(({ status }) => status))).toEqual(new Set([200]))
    const { length } = migrations.journal.entries
    expect(await stored('cl-careful', 'SELECT 1 FROM __drizzle_migrations')).toHaveLength(length)
    await abortAllDurableObjects()
    expect((await get('/audit?connection=cl-careful')).status).toBe(200)
    expect(await stored('cl-careful', 'SELECT 1 FROM __drizzle_migrations')).toHaveLength(length)
  })

  test('takes no change of what is in its audit', async () => {
    const key = await mintDiscue()
    expect((await put(`/credentials/discue:${key}`, { name: `a.${key}` })).status).toBe(200)
    for (const query of [
      "UPDATE audit SET actor = 'nobody'",
      'DELETE FROM audit',
      'INSERT OR REPLACE INTO audit SELECT * FROM audit WHERE seq = 1',
    ]) {
      await expect(stored('discue', query), query).rejects.toThrow('append-only')
    }
  })

  test('that is lost in the middle of a change leaves an unknown one, and its successor settles it', async () => {
    const key = await mintCommerceLayer('roles', { name: 'Before' })
    const { commerceLayer } = providers()
    await commerceLayer.fault({ delayAfterMs: 5000 }, { match: { method: 'PATCH', path: key } })
    const reply = put(`/roles/commerce-layer:${key}`, { name: 'After' })
    const applied = async () => (await commerceLayer.state('roles', key)).attributes.name
    await expect.poll(applied).toBe('After')
    await abortAllDurableObjects()
    const { status, body } = await reply
    expect([status, body.type, body.outcome]).toEqual([504, '/problems/outcome-unknown', 'unknown'])
    const told = async () =>
      (await eventsOf(`commerce-layer:${key}`)).map(({ type, outcome }) => [type, outcome])
    await expect.poll(told).toEqual([
      ['intent', null],
      ['settled', 'applied'],
    ])
  })

  test('that fails or keeps silent is named in the lists, which hold what the others know', async () => {
    const key = await mintDiscue()
    const { body } = await put(`/credentials/discue:${key}`, { name: `a.${key}` })
    await stored('cl-hiding', 'DROP TABLE audit')
    await stored('cl-hiding', 'DROP TABLE changes')
    const silent = runInDurableObject(env.CONNECTIONS.getByName('cl-reader'), (_, state) =>
      state.blockConcurrencyWhile(() => pause(10_000)),
    )
    const missing = {
      unanswered: expect.toSatisfy((names) => names.toSorted().join() === 'cl-hiding,cl-reader'),
    }
    const list = (path: string) => get(`${path}?resource=discue:${key}`)
    await expect
      .poll(() => list('/audit'))
      .toMatchObject({
        status: 200,
        body: { ...missing, data: [{ outcome: 'applied' }, { type: 'intent' }] },
      })
    expect(await list('/changes')).toMatchObject({
      status: 200,
      body: { ...missing, data: [{ id: body.changeId }] },
    })
    expect((await get('/audit?connection=discue')).body.unanswered).toEqual([])
    const ndjson = { headers: { accept: 'application/x-ndjson' } }
    const exported = await get(`/audit?resource=discue:${key}`, ndjson)
    const lines = exported.body.trimEnd().split('\n').map(JSON.parse)
    expect(lines).toMatchObject([{ outcome: 'applied' }, { type: 'intent' }, missing])
    // What the caller's rules do not touch is not named either.
    const theirs = await get(`/audit?resource=discue:${key}`, { key: keys.auditor })
    expect(theirs.body).toMatchObject({ data: [{}, {}], unanswered: [] })

    expect((await get(`/changes/${body.changeId}`)).status).toBe(200)
    // Somebody who did not answer may hold it: nobody can say that it does not exist.
    const nowhere = await get(`/changes/${uuidv7()}`)
    expect([nowhere.status, nowhere.body.type]).toEqual([503, '/problems/not-ready'])
    await silent
  })

  test('of a connection that is configured no more stays in the lists', async () => {
    const resource = `cl-careful:${await mintCommerceLayer('roles', { name: 'Before' })}`
    const { body } = await get(`/roles/${resource}`)
    const careful = { headers: { 'if-match': body.etag } }
    expect((await put(`/roles/${resource}`, { name: 'After' }, careful)).status).toBe(200)
    const without = JSON.parse(config)
    delete without.connections['cl-careful']
    const init = { headers: { 'x-api-key': keys.admin } }
    for (const query of ['', '?connection=cl-careful']) {
      const listed = await fetchWith({ GATEWAY_CONFIG: JSON.stringify(without) }, `/changes${query}`, init)
      const { data } = (await listed.json()) as { data: { resource: string }[] }
      expect(data.map(({ resource }) => resource)).toContain(resource)
    }
  })

  test('of before ids were plain text goes on: its open change, its key, its events by either spelling', async () => {
    const username = `o'brien ${uuidv7()}`
    const [plain, encoded] = [
      `apinizer:MyProject:${username}`,
      `apinizer:MyProject:${username.replace("'", '%27').replace(' ', '%20')}`,
    ]
    await providers().apinizer.mint('credential', `MyProject/${username}`, {})
    const { fingerprint, request } = deriveAuditKeys({
      id: 1,
      bytes: Buffer.from(Array.from({ length: 32 }, (_, n) => n * 7)),
    })
    const body = { secret: 'again' }
    const secret = {
      action: 'set' as const,
      fingerprint: fingerprint('credential', encoded, 'secret', new Secret(body.secret)),
    }
    const draft = draftOf({
      resource: encoded,
      actor: { caller: 'admin', key: 'admin', address: null },
      fields: { secret },
    })
    expect((await get('/audit?connection=apinizer')).status).toBe(200)
    await runInDurableObject(env.CONNECTIONS.getByName('apinizer'), async (_, { storage }) => {
      const db = drizzle(storage, { schema })
      const ledger = openLedger(db, async (write) => db.transaction(write))
      const scope = {
        caller: 'admin',
        subject: '',
        kind: 'credential' as const,
        resource: encoded,
        key: 'kept',
      }
      await ledger.append({
        connection: 'apinizer',
        draft,
        reserve: { ...scope, fingerprint: request(['admin', 'credential', encoded, body, 'merge']) },
      })
      await ledger.append({
        connection: 'apinizer',
        draft: { ...draft, type: 'outcome', outcome: 'unknown' },
      })
      for (const statement of toPlainIds.split('--> statement-breakpoint')) db.run(sql.raw(statement))
    })

    const path = `/credentials/${encodeURIComponent(plain)}`
    const resumed = await put(path, body, { headers: { 'idempotency-key': 'kept' } })
    expect(resumed).toMatchObject({
      status: 200,
      body: { changeId: draft.changeId, credential: { id: plain }, fields: { secret } },
    })
    const stored = [encoded, encoded, plain]
    for (const spelled of [plain, encoded]) {
      const events = await eventsOf(spelled)
      expect(events.map(({ resource }) => resource).slice(0, 3)).toEqual(stored)
      expect(new Set(events.slice(2).map(({ resource }) => resource))).toEqual(new Set([plain]))
      const changes = await get(`/changes?resource=${encodeURIComponent(spelled)}`)
      expect(changes.body.data).toMatchObject([{ id: draft.changeId, resource: plain, state: 'applied' }])
    }
    const document = JSON.parse(config)
    const admin = document.callers.find(({ name }: { name: string }) => name === 'admin')
    for (const [ids, seen] of [
      [`apinizer:MyProject:${username.slice(0, 9)}*`, true],
      ['apinizer:MyProject:o"*', false],
    ] as const) {
      const callers = [{ ...admin, allow: [{ ...admin.allow[0], ids: [ids] }] }]
      const narrow = { GATEWAY_CONFIG: JSON.stringify({ ...document, callers }) }
      const page = await fetchWith(narrow, '/audit?connection=apinizer&limit=1000', {
        headers: { 'x-api-key': keys.admin },
      })
      const { data } = (await page.json()) as { data: { resource: string }[] }
      expect(new Set(data.map(({ resource }) => resource))).toEqual(new Set(seen ? [plain, encoded] : []))
    }
  })

  test('is not made for a connection that never was', async () => {
    expect((await get('/audit?connection=never-was')).body).toEqual({
      data: [],
      nextCursor: null,
      unanswered: [],
    })
    const enlisted = await runInDurableObject(env.CONNECTIONS.getByName('_gateway'), (object) =>
      (object as ConnectionObject).enlisted(),
    )
    expect(enlisted).toContain('discue')
    expect(enlisted).not.toContain('never-was')
  })

  test('asks its provider no more than six things at once', async () => {
    const ids = await Promise.all(Array.from({ length: 14 }, () => mintDiscue()))
    const { discue } = providers()
    const delayBeforeMs = 300
    await Promise.all(
      ids.map((id) => discue.fault({ delayBeforeMs }, { match: { method: 'PUT', path: id }, times: null })),
    )
    const replies = await Promise.all(ids.map((id) => put(`/credentials/discue:${id}`, { name: `b.${id}` })))
    expect(replies.map(({ status }) => status)).toEqual(ids.map(() => 200))
    const arrivals = (await discue.requests())
      .filter(({ method, path }) => method === 'PUT' && ids.some((id) => path.includes(id)))
      .map(({ at }) => Date.parse(at))
      .toSorted((a, b) => a - b)
    expect(arrivals).toHaveLength(14)
    for (const [index, at] of arrivals.slice(6).entries()) {
      // The one that came six places earlier has been answered. A clock tick may be lost on either side.
      expect(at - (arrivals[index] ?? 0)).toBeGreaterThanOrEqual(delayBeforeMs - 2)
    }
  })

  test('that is almost full begins nothing new, and is read as before', async () => {
    const id = `apinizer-login:${(await mintApinizer()).id.split(':').slice(1).join(':')}`
    const sizes: number[] = []
    const stub = env.CONNECTIONS.getByName('apinizer-login')
    const pretend = (size?: number) =>
      runInDurableObject(stub, (_, { storage: { sql } }) => {
        sizes.push(sql.databaseSize)
        if (size === undefined) delete (sql as { databaseSize?: number }).databaseSize
        else Object.defineProperty(sql, 'databaseSize', { value: size, configurable: true })
      })
    await pretend(9_999_000_000)
    const refused = await put(`/credentials/${id}`, { description: 'x', secret: 'a-new-password' })
    expect([refused.status, refused.body.type]).toEqual([503, '/problems/audit-unavailable'])
    expect((await get(`/credentials/${id}`)).status).toBe(200)
    expect(await eventsOf(id)).toEqual([])
    await pretend()
    expect((await put(`/credentials/${id}`, { description: 'x', secret: 'a-new-password' })).status).toBe(200)
    await pretend()
    expect(sizes).toEqual([expect.any(Number), 9_999_000_000, expect.any(Number)])
    expect(sizes[0]).toBeLessThan(1e6)
  })

  test('whose audit was written with another key takes no change', async () => {
    const path = `/credentials/discue-short:${await mintDiscue()}`
    expect((await put(path, { name: 'a.b' })).status).toBe(200)
    expect((await gatewayFetch('/health/ready')).status).toBe(200)
    for (const name of ['discue-short', '_gateway']) {
      await stored(name, "UPDATE audit_keys SET check_value = 'another'")
    }
    await abortAllDurableObjects()
    const reply = await put(path, { name: 'a.c' })
    expect([reply.status, reply.body.type]).toEqual([503, '/problems/not-ready'])
    expect((await get('/audit?connection=discue-short')).body.data).toHaveLength(2)
    // An answer stands for a second.
    const ready = async () => (await gatewayFetch('/health/ready')).json()
    await expect
      .poll(ready)
      .toMatchObject({ status: 'unavailable', reasons: [expect.stringContaining('AUDIT_KEY')] })
  })

  test('that counts limits and keeps silent stops nobody', async () => {
    const silent = runInDurableObject(env.CONNECTIONS.getByName('_gateway'), (_, state) =>
      state.blockConcurrencyWhile(() => pause(6000)),
    )
    const asked = () => get('/providers', { key: keys.limited })
    await expect.poll(async () => (await asked()).headers.get('ratelimit')).toBeNull()
    for (let n = 0; n < 4; n++) expect((await asked()).status).toBe(200)
    await silent
    expect((await asked()).headers.get('ratelimit')).not.toBeNull()
  })
})

import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import Database from 'better-sqlite3'
import { type SQL, sql } from 'drizzle-orm'
import { v7 as uuidv7 } from 'uuid'
import { afterAll, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest'
import { type AuditEvent, GENESIS, hashOf } from '../../src/ledger/event.ts'
import { type Commit, type Db, type EventDraft, type Ledger, openLedger } from '../../src/ledger/ledger.ts'
import { openDatabase } from '../../src/node-database.ts'
import { configuration, keys } from '../configuration.ts'
import { startTestGateway, type TestGateway } from '../gateway.node.ts'
import { controlOf, type Json } from '../sandbox-calls.ts'

/** A migrated, empty database of one of the drivers. */
interface OpenDatabase {
  db: Db
  commit: Commit
  close(): void
}

/** An intent on a resource that no other event is about. */
const draftOf = (more: Partial<EventDraft> = {}): EventDraft => ({
  type: 'intent',
  changeId: uuidv7(),
  actor: { caller: 'billing', key: 'k1', address: '127.0.0.1' },
  alias: null,
  kind: 'credential',
  resource: `main:${randomBytes(8).toString('hex')}`,
  fields: { name: { action: 'set', to: 'Ünïcode ✓' } },
  widens: false,
  reason: null,
  requestId: 'request-1',
  outcome: null,
  upstream: { method: 'PUT', path: '/api_clients/abc' },
  ...more,
})

type Row = Record<string, string | number | null>

/** What every ledger has to hold, whatever drives its SQLite. */
function ledgerContract(driver: string, open: () => OpenDatabase): void {
  describe(`a ledger on ${driver}`, () => {
    let database: OpenDatabase
    let ledger: Ledger
    let connection: string
    beforeAll(() => {
      database = open()
      ledger = openLedger(database.db, database.commit)
    })
    afterAll(() => database.close())
    // A chain of its own for every test.
    beforeEach(() => {
      connection = `c-${randomBytes(8).toString('hex')}`
    })

    const append = (more: Partial<EventDraft> = {}, to = connection): Promise<AuditEvent> =>
      ledger.append({ connection: to, draft: draftOf(more) })
    const rows = () => database.db.all<Row>(sql`SELECT rowid, * FROM audit ORDER BY rowid`)

    function expectWhole(chain: string, length: number) {
      const events = ledger.events({ connections: [chain], limit: 1000 }).rows.toReversed()
      expect(events.map(({ seq }) => seq)).toEqual(Array.from({ length }, (_, index) => index + 1))
      expect(events.map(({ previous }) => previous)).toEqual([
        GENESIS,
        ...events.slice(0, -1).map(({ hash }) => hash),
      ])
      for (const event of events) expect(hashOf(event)).toBe(event.hash)
    }

    describe('keeps a chain', () => {
      test('of every event, from 1 and without gaps', async () => {
        for (let at = 0; at < 5; at++) await append()
        expectWhole(connection, 5)
      })

      test('of every event that is appended at once', async () => {
        const appended = await Promise.all(Array.from({ length: 40 }, () => append()))
        expect(new Set(appended.map(({ seq }) => seq)).size).toBe(40)
        expectWhole(connection, 40)
      })

      test('for each connection by itself', async () => {
        const other = `${connection}-other`
        await Promise.all(
          Array.from({ length: 30 }, (_, at) => append({}, at % 3 === 0 ? other : connection)),
        )
        expectWhole(other, 10)
        expectWhole(connection, 20)
      })

      test('whose events come back as they were appended', async () => {
        const event = await append({ reason: 'Grund: „Rotation“', alias: 'billing-worker', widens: true })
        expect(ledger.events({ connections: [connection], limit: 10 })).toEqual({
          rows: [event],
          complete: true,
        })
        expect(event).toMatchObject({ reason: 'Grund: „Rotation“', alias: 'billing-worker', widens: true })
      })

      test('that shows a change of any member, wherever it stands', async () => {
        const event = await append()
        for (const member of Object.keys(event).filter((name) => name !== 'hash'))
          expect(hashOf({ ...event, [member]: 'forged' }), member).not.toBe(event.hash)
        expect(hashOf({ ...event, fields: { name: { action: 'set', to: 'forged' } } })).not.toBe(event.hash)
      })

      test('that a ledger opened later goes on with', async () => {
        await append()
        const later = openLedger(database.db, database.commit)
        await later.append({ connection, draft: draftOf() })
        await append()
        expectWhole(connection, 3)
      })
    })

    describe('writes all of an entry or nothing', () => {
      const applied = (resource: string, values: object, secretChanged: boolean) =>
        ledger.append({
          connection,
          draft: draftOf({ resource, type: 'outcome', outcome: 'applied' }),
          applied: { values: values as Record<string, string>, secretChanged },
        })
      /** Fails after its event was inserted, when what was applied is written. */
      const failing = () => applied(connection, { name: 1n }, true)

      test('when it fails alone', async () => {
        await append()
        const before = rows()
        await expect(failing()).rejects.toThrow()
        expect(rows()).toEqual(before)
        expect(ledger.resource('credential', connection)).toEqual({ applied: {}, secretChanges: 0 })
        await append()
        expectWhole(connection, 2)
      })

      test('when it fails between others that are appended at once', async () => {
        const results = await Promise.allSettled([append(), failing(), append(), failing()])
        expect(results.map(({ status }) => status)).toEqual([
          'fulfilled',
          'rejected',
          'fulfilled',
          'rejected',
        ])
        expectWhole(connection, 2)
      })

      test('and the record of the resource with it', async () => {
        await applied(connection, { name: 'first', first: true }, true)
        await applied(connection, { name: 'second', second: true }, false)
        expect(ledger.resource('credential', connection)).toEqual({
          applied: { name: 'second', first: true, second: true },
          secretChanges: 1,
        })
      })
    })

    describe.each(['ON', 'OFF'])('with recursive_triggers %s', (recursive) => {
      let events: Row[]
      let victim: AuditEvent
      beforeEach(async () => {
        database.db.run(sql.raw(`PRAGMA recursive_triggers = ${recursive}`))
        await append()
        await append({}, `${connection}-other`)
        victim = await append()
        events = rows()
      })
      afterAll(() => void database.db.run(sql`PRAGMA recursive_triggers = ON`))

      /** An insert of a forged event; it clashes with the victim in the columns that are named. */
      const insert = (verb: string, clashes: string[], tail = ''): SQL => {
        const row = events.at(-1) ?? {}
        const fresh: Row = { id: uuidv7(), connection: `${connection}-forged`, seq: 1, reason: 'forged' }
        const columns = Object.keys(row).filter((name) => name !== 'rowid' || clashes.includes(name))
        const values = columns.map((name) =>
          name in fresh && !clashes.includes(name) ? fresh[name] : row[name],
        )
        return sql`${sql.raw(verb)} INTO audit (${sql.raw(columns.join(', '))}) VALUES (${sql.join(
          values.map((value) => sql`${value}`),
          sql`, `,
        )}) ${sql.raw(tail)}`
      }
      const PLACE = ['connection', 'seq']

      test.each<[string, () => SQL]>([
        ['UPDATE', () => sql`UPDATE audit SET reason = 'forged' WHERE id = ${victim.id}`],
        ['UPDATE of everything', () => sql`UPDATE audit SET reason = 'forged'`],
        ['UPDATE that changes nothing', () => sql`UPDATE audit SET reason = reason`],
        ['UPDATE of the rowid', () => sql`UPDATE audit SET rowid = rowid + 100`],
        ['UPDATE OR REPLACE', () => sql`UPDATE OR REPLACE audit SET seq = 1 WHERE id = ${victim.id}`],
        ['UPDATE OR IGNORE', () => sql`UPDATE OR IGNORE audit SET seq = seq + 100`],
        ['DELETE', () => sql`DELETE FROM audit WHERE id = ${victim.id}`],
        ['DELETE of everything', () => sql`DELETE FROM audit`],
        ['INSERT on the place in the chain', () => insert('INSERT', PLACE)],
        ['INSERT on the id', () => insert('INSERT', ['id'])],
        ['INSERT on the rowid', () => insert('INSERT', ['rowid'])],
        ['INSERT OR REPLACE on the place in the chain', () => insert('INSERT OR REPLACE', PLACE)],
        ['INSERT OR REPLACE on the id', () => insert('INSERT OR REPLACE', ['id'])],
        ['INSERT OR REPLACE on the rowid', () => insert('INSERT OR REPLACE', ['rowid'])],
        ['REPLACE', () => insert('REPLACE', [...PLACE, 'id', 'rowid'])],
        ['INSERT OR IGNORE', () => insert('INSERT OR IGNORE', PLACE)],
        [
          'UPSERT on the place in the chain',
          () => insert('INSERT', PLACE, "ON CONFLICT (connection, seq) DO UPDATE SET reason = 'forged'"),
        ],
        [
          'UPSERT on the id',
          () => insert('INSERT', ['id'], "ON CONFLICT (id) DO UPDATE SET reason = 'forged'"),
        ],
        ['UPSERT on anything', () => insert('INSERT', ['id'], "ON CONFLICT DO UPDATE SET reason = 'forged'")],
        ['UPSERT that does nothing', () => insert('INSERT', PLACE, 'ON CONFLICT DO NOTHING')],
      ])('refuses %s', async (_, statement) => {
        expect(() => database.db.run(statement())).toThrow()
        expect(rows()).toEqual(events)
        // Inside a transaction it takes nothing else with it, and the chain goes on.
        await expect(database.commit(() => void database.db.run(statement()))).rejects.toThrow()
        expect(rows()).toEqual(events)
        await append()
        expectWhole(connection, 3)
      })

      test('says why', () => {
        let said: unknown
        try {
          database.db.run(sql`DELETE FROM audit`)
        } catch (error) {
          said = error
        }
        const words = [said, (said as Error).cause].map(String).join(' ')
        expect(words).toContain('the audit is append-only: DELETE refused')
      })

      test('takes an event in a place of its own, as the ledger makes them', () => {
        database.db.run(insert('INSERT', []))
        expect(rows()).toHaveLength(events.length + 1)
      })
    })
  })
}

let folder = ''
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'ledger-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

const freshFile = (): string => join(folder, `${randomBytes(8).toString('hex')}.db`)

ledgerContract('better-sqlite3', () => openDatabase(freshFile()))

/** Locks a database for writing, as another process would. */
function lock(file: string): { release(): void } {
  const other = new Database(file, { timeout: 0 })
  other.exec('BEGIN IMMEDIATE')
  return {
    release() {
      other.exec('ROLLBACK')
      other.close()
    },
  }
}

/** What another process sees of the audit: only what is committed. */
function committed(file: string): Row[] {
  const other = new Database(file, { readonly: true })
  try {
    return other.prepare('SELECT * FROM audit ORDER BY id').all() as Row[]
  } finally {
    other.close()
  }
}

describe('a database file that is locked for writing', () => {
  test('is waited for, and the event loop goes on meanwhile', async () => {
    const file = freshFile()
    const { db, commit, close } = openDatabase(file)
    const ledger = openLedger(db, commit)
    const held = lock(file)
    // Only a loop that is free gets to the release.
    setTimeout(() => held.release(), 200)
    const event = await ledger.append({ connection: 'main', draft: draftOf() })
    expect(committed(file).map(({ hash }) => hash)).toEqual([event.hash])
    close()
  })

  test('refuses the write in the end, and nothing of it is left', async () => {
    const file = freshFile()
    const { db, commit, close } = openDatabase(file)
    const ledger = openLedger(db, commit)
    await ledger.append({ connection: 'main', draft: draftOf() })
    const held = lock(file)
    const late = Array.from({ length: 3 }, () => ledger.append({ connection: 'main', draft: draftOf() }))
    const results = await Promise.allSettled(late)
    expect(results.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected'])
    expect(ledger.events({ limit: 10 }).rows).toHaveLength(1)
    held.release()
    const next = await ledger.append({ connection: 'main', draft: draftOf() })
    expect(next.seq).toBe(2)
    close()
  })
})

describe('the gateway', () => {
  let gateway: TestGateway
  let provider: Awaited<ReturnType<typeof fakeDiscue>>
  beforeAll(async () => {
    provider = await fakeDiscue()
    const { connections, ...rest } = configuration(inject('sandbox')) as Json
    const discue = { ...connections.discue, baseUrl: provider.url }
    gateway = await startTestGateway({ ...rest, connections: { ...connections, discue } })
  })
  afterAll(async () => {
    await gateway?.close()
    provider?.close()
  })

  /** A Discue that tells when a change arrives, before it answers. */
  async function fakeDiscue() {
    const arrived: string[] = []
    const hooks: { onPut?: () => void } = {}
    const server = createServer(async (incoming, outgoing) => {
      const body = JSON.parse(Buffer.concat(await incoming.toArray()).toString())
      arrived.push(body.id)
      hooks.onPut?.()
      outgoing.setHeader('content-type', 'application/json').end(JSON.stringify({ api_client: body }))
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return {
      url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      /** Ids of the clients that were changed. */
      arrived,
      hooks,
      close() {
        server.close()
        server.closeAllConnections()
      },
    }
  }

  async function call(method: string, path: string, body?: object) {
    const response = await fetch(gateway.url + path, {
      method,
      headers: { 'x-api-key': keys.admin, 'content-type': 'application/json' },
      ...(body && { body: JSON.stringify(body) }),
    })
    return { status: response.status, body: (await response.json()) as Json }
  }
  const freshId = (): string => randomBytes(10).toString('hex')
  const put = (id: string, name = `example.com/${id}`) => call('PUT', `/credentials/discue:${id}`, { name })
  const events = (id: string) =>
    committed(gateway.database)
      .filter(({ resource }) => resource === `discue:${id}`)
      .map(({ type, outcome }) => [type, outcome])
  const storyOf = async (id: string) =>
    (await call('GET', `/audit?resource=discue:${id}`)).body.data
      .toReversed()
      .map(({ type, outcome }: Json) => [type, outcome])

  const reads = ['/health/live', '/audit?limit=1', '/providers', '/connections', '/openapi.json']

  test('commits the intent before the provider is called, and the outcome before the reply', async () => {
    const id = freshId()
    let seen: unknown
    provider.hooks.onPut = () => (seen = events(id))
    const reply = await put(id)
    const afterwards = events(id)
    expect(reply.status).toBe(200)
    expect(seen).toEqual([['intent', null]])
    expect(afterwards).toEqual([
      ['intent', null],
      ['outcome', 'applied'],
    ])
  })

  test('gives no reply as long as the outcome cannot be stored', async () => {
    const id = freshId()
    let held = { release() {} }
    const { promise: isLocked, resolve } = Promise.withResolvers<void>()
    provider.hooks.onPut = () => {
      held = lock(gateway.database)
      resolve()
    }
    let replied = false
    const reply = put(id).finally(() => (replied = true))
    await isLocked
    await pause(150)
    expect([replied, events(id)]).toEqual([false, [['intent', null]]])
    held.release()
    expect((await reply).status).toBe(200)
    expect(events(id)).toHaveLength(2)
  })

  test('calls no provider when the intent cannot be stored, and goes on reading', async () => {
    delete provider.hooks.onPut
    const id = freshId()
    const held = lock(gateway.database)
    const refused = await put(id)
    expect([refused.status, refused.body.type, refused.body.retryable]).toEqual([
      503,
      '/problems/audit-unavailable',
      true,
    ])
    expect(refused.body).not.toHaveProperty('outcome')
    for (const path of [...reads, `/credentials/discue:${id}`])
      expect((await call('GET', path)).status, path).toBe(200)
    held.release()
    expect(provider.arrived).not.toContain(id)
    expect(events(id)).toEqual([])
    await expect.poll(async () => (await put(id)).status, { timeout: 10_000 }).toBe(200)
  })

  test('of a provider that can be read only reads then', async () => {
    const control = controlOf(inject('sandbox').commerceLayer)
    const id = randomBytes(5).toString('hex')
    await control.mint('roles', id, { attributes: { name: 'Before' } })
    const held = lock(gateway.database)
    const refused = await call('PUT', `/roles/commerce-layer:${id}`, { name: 'After' })
    expect([refused.status, refused.body.type]).toEqual([503, '/problems/audit-unavailable'])
    expect((await call('GET', `/roles/commerce-layer:${id}`)).body.name).toBe('Before')
    held.release()
    const methods = (await control.requests())
      .filter(({ path }) => path.includes(id))
      .map(({ method }) => method)
    expect(new Set(methods)).toEqual(new Set(['GET']))
    expect((await control.state('roles', id)).attributes.name).toBe('Before')
  })

  test('says so when a change was made and its outcome cannot be stored', async () => {
    const id = freshId()
    let held = { release() {} }
    provider.hooks.onPut = () => (held = lock(gateway.database))
    const reply = await put(id)
    expect([reply.status, reply.body.type, reply.body.outcome]).toEqual([
      500,
      '/problems/outcome-not-recorded',
      'applied',
    ])
    expect(reply.body.instance).toBe(`/changes/${reply.body.changeId}`)
    expect(provider.arrived.filter((one) => one === id)).toHaveLength(1)

    // Writes are off, reads are not.
    delete provider.hooks.onPut
    const other = freshId()
    const refused = await put(other)
    expect([refused.status, refused.body.type]).toEqual([503, '/problems/audit-unavailable'])
    expect(provider.arrived).not.toContain(other)
    for (const path of reads) expect((await call('GET', path)).status, path).toBe(200)
    expect(await storyOf(id)).toEqual([['intent', null]])
    held.release()

    await expect.poll(async () => (await put(other)).status, { timeout: 10_000 }).toBe(200)
    expect(await storyOf(id)).toEqual([
      ['intent', null],
      ['outcome', 'applied'],
    ])
  })
})

import Database from 'better-sqlite3'
import { randomBytes } from 'node:crypto'
import { drizzle } from 'drizzle-orm/better-sqlite3'
import { migrate } from 'drizzle-orm/better-sqlite3/migrator'
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type AuditEvent, GENESIS, hashOf, toRow } from '../../src/ledger/event.ts'
import { openLedger } from '../../src/ledger/ledger.ts'
import { openDatabase } from '../../src/node-database.ts'
import { draftOf } from '../ledger/subject.ts'

// A database that an earlier version has written is taken over as it is.

let folder = ''
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'upgrade-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

/** The database as it was after the first `count` migrations. */
function openedAfter(count: number): Database.Database {
  const migrations = join(folder, 'migrations')
  cpSync(fileURLToPath(new URL('../../migrations', import.meta.url)), migrations, { recursive: true })
  const file = join(migrations, 'meta/_journal.json')
  const journal = JSON.parse(readFileSync(file, 'utf8')) as { entries: unknown[] }
  writeFileSync(file, JSON.stringify({ ...journal, entries: journal.entries.slice(0, count) }))
  const sqlite = new Database(join(folder, `${randomBytes(4).toString('hex')}.db`))
  migrate(drizzle(sqlite), { migrationsFolder: migrations })
  return sqlite
}

const START = Date.parse('2026-11-20T10:00:00.000Z')

/** Ids as they were: the time, and a counter from anywhere in each millisecond. */
const idOf = (ms: number, counter: number): string => {
  const hex = ms.toString(16).padStart(12, '0')
  return `${hex.slice(0, 8)}-${hex.slice(8)}-7abc-8000-${counter.toString(16).padStart(12, '0')}`
}

/** Two chains whose events come in turn, several in a millisecond. From the `back`th on the clock was set back by an hour. */
function earlierEvents(back = Infinity): AuditEvent[] {
  const tips = new Map<string, AuditEvent>()
  return Array.from({ length: 300 }, (_, index) => {
    const connection = index % 3 === 0 ? 'a' : 'b'
    const ms = START + Math.floor(index / 7) - (index < back ? 0 : 3_600_000)
    const before = tips.get(connection)
    const unhashed = {
      ...draftOf({ resource: `${connection}:x`, outcome: index % 2 ? 'applied' : null }),
      id: idOf(ms, index),
      connection,
      seq: (before?.seq ?? 0) + 1,
      at: new Date(ms).toISOString(),
      previous: before?.hash ?? GENESIS,
    }
    const event: AuditEvent = { ...unhashed, hash: hashOf(unhashed) }
    tips.set(connection, event)
    return event
  })
}

const snake = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)

/** Members that events have since then. */
const LATER = ['position', 'unchanged']

/** Writes them as the version did that had no positions, or none of the later members only. */
function store(sqlite: Database.Database, events: AuditEvent[], without = LATER): void {
  for (const event of events) {
    const position = Date.parse(event.at) * 1024 + event.seq
    const whole = { ...toRow(event, position), widens: Number(event.widens) }
    const row = Object.entries(whole).filter(([name]) => !without.includes(name))
    const columns = row.map(([name]) => snake(name)).join(', ')
    const values = row.map(([, value]) => value)
    sqlite
      .prepare(`INSERT INTO audit (${columns}) VALUES (${values.map(() => '?').join(', ')})`)
      .run(...values)
  }
}

test('the audit of the version before events had positions', async () => {
  const sqlite = openedAfter(4)
  const events = earlierEvents()
  store(sqlite, events)
  const change = ['c1', 'a', 'credential', 'a:x', 'billing', 'unknown', events[0]?.at]
  sqlite.prepare('INSERT INTO changes VALUES (?, ?, ?, ?, ?, ?, ?)').run(...change)
  sqlite.close()

  const database = openDatabase(sqlite.name)
  const ledger = openLedger(database.db, database.commit)
  const last = events.findLast(({ connection }) => connection === 'a')
  const next = await ledger.append({ connection: 'a', draft: draftOf() })
  expect(next).toMatchObject({ seq: (last?.seq ?? 0) + 1, previous: last?.hash })
  expect(Object.values(ledger.change('c1') ?? {})).toEqual(expect.arrayContaining(change))
  const paged: AuditEvent[] = []
  for (let before: string | null | undefined; before !== null;) {
    const { rows, end } = ledger.events({ limit: 5, ...(before && { before }) })
    paged.push(...rows)
    before = end
  }
  expect(paged.toReversed()).toEqual([...events, next])
  const [since, until] = [3, 20].map((ms) => new Date(START + ms).toISOString()) as [string, string]
  expect(ledger.events({ since, until, limit: 1000 }).rows.toReversed()).toEqual(
    events.filter(({ at }) => at >= since && at < until),
  )
  database.close()
})

test('is refused where it does not stand in the order of its ids, and left as it is', () => {
  const sqlite = openedAfter(4)
  store(sqlite, earlierEvents(290))
  const dump = () => sqlite.prepare('SELECT * FROM audit').all()
  const before = dump()
  expect(() => openDatabase(sqlite.name)).toThrow('the audit does not stand in the order of its ids')
  expect(dump()).toEqual(before)
  sqlite.close()
})

/** Two changes of one resource that nobody knows the end of, as the version wrote them that knew of no `unchanged`. */
function openChanges(): AuditEvent[] {
  const events: AuditEvent[] = []
  for (const [type, changeId, outcome, field] of [
    ['intent', 'c1', null, 'name'],
    ['outcome', 'c1', 'unknown', 'name'],
    ['intent', 'c2', null, 'reference'],
    ['outcome', 'c2', 'unknown', 'reference'],
  ] as const) {
    const seq = events.length + 1
    const at = new Date(START + seq).toISOString()
    const fields = { [field]: { action: 'set' as const, to: 'After' } }
    const unhashed = {
      ...draftOf({ type, changeId, outcome, fields, resource: 'a:x', kind: 'role' }),
      id: idOf(START + seq, seq),
      connection: 'a',
      seq,
      at,
      previous: events.at(-1)?.hash ?? GENESIS,
    }
    events.push({ ...unhashed, hash: hashOf(unhashed) })
  }
  return events
}

test('open changes and their keys go on, by what they were to alter', async () => {
  const sqlite = openedAfter(5)
  const events = openChanges()
  store(sqlite, events, ['unchanged'])
  const insert = (table: string, ...values: unknown[]) =>
    sqlite.prepare(`INSERT INTO ${table} VALUES (${values.map(() => '?').join(', ')})`).run(...values)
  for (const id of ['c1', 'c2']) {
    insert('changes', id, 'a', 'role', 'a:x', 'billing', 'unknown', events[3]?.at)
    insert('idempotency', 'billing', 'role', 'a:x', `key-${id}`, id, `fingerprint-${id}`, null, null)
  }
  insert('resources', 'role', 'a:x', '{"name":"Before"}', 3)
  sqlite.close()

  const database = openDatabase(sqlite.name)
  const ledger = openLedger(database.db, database.commit)
  const scope = { caller: 'billing', kind: 'role' as const, resource: 'a:x' }
  expect(ledger.reservedKey({ ...scope, key: 'key-c1' })).toMatchObject({ changeId: 'c1', answer: null })
  expect(ledger.open('a', 'role', 'a:x').toSorted()).toEqual(['c1', 'c2'])
  expect(ledger.resource('role', 'a:x')).toEqual({ applied: { name: 'Before' }, secretChanges: 3 })
  const fields = { name: { action: 'set' as const, to: 'Newer' } }
  const draft = draftOf({ kind: 'role', resource: 'a:x', fields })
  await ledger.append({ connection: 'a', draft })
  expect([ledger.isOvertaken('c1'), ledger.isOvertaken('c2')]).toEqual([true, false])
  await ledger.append({
    connection: 'a',
    draft: { ...draft, type: 'outcome', outcome: 'applied' },
    applied: { values: { name: 'Newer' }, secretChanged: false },
  })
  expect([ledger.change('c1')?.state, ledger.change('c2')?.state]).toEqual(['superseded', 'unknown'])
  expect(ledger.resource('role', 'a:x').applied).toEqual({ name: 'Newer' })
  // The chain goes on, and what was written before is what was hashed.
  const all = ledger.events({ connections: ['a'], limit: 100 }).rows.toReversed()
  expect(all.slice(0, 4)).toEqual(events)
  for (const [index, event] of all.entries()) {
    expect(event.previous).toBe(all[index - 1]?.hash ?? GENESIS)
    expect(hashOf(event)).toBe(event.hash)
  }
  database.close()
})

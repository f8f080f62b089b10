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

/** Writes them as the version did that had no positions. */
function store(sqlite: Database.Database, events: AuditEvent[]): void {
  for (const event of events) {
    const whole = { ...toRow(event, 0), widens: Number(event.widens) }
    const row = Object.entries(whole).filter(([name]) => !LATER.includes(name))
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

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { drizzle } from 'drizzle-orm/better-sqlite3'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openLedger } from '../../src/ledger/ledger.ts'
import * as schema from '../../src/ledger/schema.ts'
import type { ChangeFilter, EventFilter, Ledger } from '../../src/ledger/types.ts'
import { openDatabase } from '../../src/node/database.ts'
import { home } from '../harness/home.ts'
import { silent } from '../harness/silent-log.ts'
import { draftOf } from '../ledger/subject.ts'

// What SQLite means to do for a list must not grow with the audit: it goes down one index, in the order of the list.

let folder = ''
let sqlite: Database.Database
let ledger: Ledger
const asked: { text: string; params: unknown[] }[] = []

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'plans-'))
  const file = join(folder, 'gateway.db')
  openDatabase(file, silent, home).close()
  sqlite = new Database(file)
  const logger = { logQuery: (text: string, params: unknown[]) => void asked.push({ text, params }) }
  ledger = openLedger(drizzle(sqlite, { schema, logger }), async (write) => sqlite.transaction(write)())
  for (const connection of ['a', 'b']) await ledger.append({ connection, draft: draftOf() })
})
afterAll(() => {
  sqlite.close()
  rmSync(folder, { recursive: true })
})

/** How SQLite would carry out what `read` asks of it. */
function plansOf(read: () => unknown): string[] {
  asked.length = 0
  read()
  return asked.flatMap(({ text, params }) =>
    (sqlite.prepare(`EXPLAIN QUERY PLAN ${text}`).all(...params) as { detail: string }[]).map(
      ({ detail }) => detail,
    ),
  )
}

const many = Array.from({ length: 60 }, (_, index) => `c${index}`)
const times = { since: '2020-01-01T00:00:00Z', until: '2100-01-01T00:00:00Z' }

const common: [string, Omit<EventFilter & ChangeFilter, 'limit' | 'outcome'>][] = [
  ['nothing', {}],
  ['times', times],
  ['before', { before: '01979d3e-5b1a-7c3e-9f00-0123456789ab' }],
  ['actor', { actor: 'billing' }],
  ['resource', { resource: 'a:b' }],
  ['resource that was percent-encoded once', { resource: 'a:b c' }],
  ['change', { change: 'c' }],
  ['one connection', { connections: ['a'] }],
  ['two connections', { connections: ['a', 'b'] }],
  ['sixty connections', { connections: many }],
  ['actor of two connections in a time', { actor: 'billing', connections: ['a', 'b'], ...times }],
  ['actor of sixty connections', { actor: 'billing', connections: many }],
  ['resource, actor', { resource: 'a:b', actor: 'billing' }],
]
const eventFilters: [string, Omit<EventFilter, 'limit'>][] = [
  ...common,
  ['outcome', { outcome: 'unknown' }],
  ['type', { type: 'settled' }],
  ['type of a connection', { type: 'refused', connections: ['a'] }],
  ['type, actor', { type: 'refused', actor: 'billing' }],
  ['intents of a connection', { type: 'intent', connections: ['a'] }],
  ['outcome of a connection', { outcome: 'unknown', connections: ['a'] }],
  ['everything', { outcome: 'unknown', actor: 'billing', resource: 'a:b', change: 'c', ...times }],
]
const changeFilters: [string, Omit<ChangeFilter, 'limit'>][] = [
  ...common,
  ['state', { states: ['unknown'] }],
  ['states of a connection', { states: ['unknown', 'in_flight'], connections: ['a'] }],
  ['everything', { states: ['unknown'], actor: 'billing', resource: 'a:b', change: 'c', ...times }],
]

/** A search of an index, by what the list is of where it is not of everything, and nothing to sort. */
function expectBounded(filter: object, plans: string[]): void {
  expect(plans.length).toBeGreaterThan(0)
  const ofEverything = Object.keys(filter).every((name) => ['since', 'until', 'before'].includes(name))
  if (!ofEverything) expect(plans.join()).toContain('=?')
  for (const plan of plans) {
    expect(plan).not.toContain('TEMP B-TREE')
    expect(plan).not.toMatch(/SCAN (audit|changes)/)
  }
}

describe('a list of events', () => {
  test.each(eventFilters)('by %s goes down an index', (_, filter) => {
    const plans = plansOf(() => ledger.events({ ...filter, limit: 100 }))
    expectBounded(filter, plans)
    // Where it begins and ends is a range of positions, and not looked for.
    expect(plans.join()).toContain('rowid>? AND rowid<?')
  })
})

test.each([
  ['audit', () => ledger.events({ actor: 'billing', connections: ['a'], limit: 100 }), 'audit_by_actor'],
  ['changes', () => ledger.changes({ actor: 'billing', connections: ['a'], limit: 100 }), 'changes_by_actor'],
])('a window of %s is counted in the index alone', (_, read, index) => {
  expect(plansOf(read).join()).toContain(`USING COVERING INDEX ${index}`)
})

test('what overtakes a change is looked for among the events of its resource alone, in either spelling', async () => {
  const { changeId } = await ledger.append({ connection: 'a', draft: draftOf({ resource: 'a:b c' }) })
  const plans = plansOf(() => ledger.isOvertaken(changeId ?? ''))
  expect(plans.join()).toContain('SEARCH audit USING INDEX audit_by_resource (resource=? AND rowid>?)')
  expect(plans.join()).not.toMatch(/SCAN (audit|changes)/)
})

describe('a list of changes', () => {
  test.each(changeFilters)('by %s goes down an index', (_, filter) => {
    expectBounded(
      filter,
      plansOf(() => ledger.changes({ ...filter, limit: 100 })),
    )
  })
})

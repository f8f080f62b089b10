import { randomBytes } from 'node:crypto'
import { sql } from 'drizzle-orm'
import { v7 as uuidv7 } from 'uuid'
import { expect } from 'vitest'
import { type AuditEvent, GENESIS, hashOf } from '../../src/ledger/event.ts'
import { openLedger } from '../../src/ledger/ledger.ts'
import type { ChangeRecord, Commit, Db, Entry, EventDraft, Ledger } from '../../src/ledger/types.ts'
import { type Outcome } from '../../src/model/enums.ts'

/** A migrated database of one of the drivers. */
export interface LedgerDatabase {
  db: Db
  commit: Commit
}

/** Runs a test where the driver's database can be used: the storage of a Durable Object only inside of it. */
export type Within = (test: (database: LedgerDatabase) => Promise<void>) => Promise<void>

/** Makes a test of what it does with a ledger. */
export type OnLedger = (test: (subject: Subject) => Promise<void> | void) => () => Promise<void>

export type Row = Record<string, string | number | null>

/** An intent on a resource that no other event is about. */
export const draftOf = (more: Partial<EventDraft> = {}): EventDraft => ({
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

/** A ledger, and a chain of its own in a store that all tests share. */
export interface Subject extends LedgerDatabase {
  ledger: Ledger
  connection: string
  append(draft?: Partial<EventDraft>, entry?: Partial<Omit<Entry, 'draft'>>): Promise<AuditEvent>
  /** Appends the outcome of the change that `intent` began. */
  end(intent: AuditEvent, outcome: Outcome, entry?: Partial<Omit<Entry, 'draft'>>): Promise<AuditEvent>
  stateOf(change: AuditEvent): ChangeRecord | undefined
  /** The audit as it is stored. */
  rows(): Row[]
  /** Every table that the ledger writes, as it is stored. */
  everything(): Row[][]
  expectWhole(chain: string, length: number): void
}

export function subjectOf({ db, commit }: LedgerDatabase): Subject {
  const ledger = openLedger(db, commit)
  const connection = `c-${randomBytes(8).toString('hex')}`
  const stored = (table: string) => db.all<Row>(sql.raw(`SELECT * FROM ${table} ORDER BY 1, 2, 3, 4`))
  const append: Subject['append'] = (draft, entry) =>
    ledger.append({ connection, draft: draftOf(draft), ...entry })
  return {
    db,
    commit,
    ledger,
    connection,
    append,
    end: ({ changeId, actor, kind, resource, fields, unchanged }, outcome, entry) =>
      append(
        {
          type: 'outcome',
          changeId,
          actor,
          kind,
          resource,
          fields,
          outcome,
          ...(unchanged && { unchanged }),
        },
        entry,
      ),
    stateOf: ({ changeId }) => ledger.change(changeId ?? ''),
    rows: () => stored('audit'),
    everything: () => ['audit', 'changes', 'resources', 'idempotency'].map(stored),
    expectWhole(chain, length) {
      const events = ledger.events({ connections: [chain], limit: 2000 }).rows.toReversed()
      expect(events.map(({ seq }) => seq)).toEqual(Array.from({ length }, (_, index) => index + 1))
      expect(events.map(({ previous }) => previous)).toEqual([
        GENESIS,
        ...events.slice(0, -1).map(({ hash }) => hash),
      ])
      for (const event of events) expect(hashOf(event)).toBe(event.hash)
    },
  }
}

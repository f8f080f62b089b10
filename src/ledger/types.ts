import type { BaseSQLiteDatabase } from 'drizzle-orm/sqlite-core'
import type { JsonObject } from '../lib/json.ts'
import type { ChangeState, EventType, Kind, Outcome } from '../model/enums.ts'
import type { Originator, AuditEvent } from './event.ts'
import type * as schema from './schema.ts'

/** Both SQLite drivers, better-sqlite3 and a Durable Object's own storage, are synchronous and fit this type. */
export type Db = BaseSQLiteDatabase<'sync', unknown, typeof schema>

/** Runs `write` in one transaction and resolves once it is durable, or rejects with nothing written. */
export type Commit = <T>(write: () => T) => Promise<T>

/** An event before it has its place in a chain. */
export type EventDraft = Omit<AuditEvent, 'id' | 'connection' | 'seq' | 'at' | 'previous' | 'hash'>

/** What is written together with an event, in its transaction. Plain data, so that an emergency can keep it. */
export interface Entry {
  connection: string
  draft: EventDraft
  /**
   * Values that are now in force, and whether a secret was changed. Those of an outcome are the newest word; what is settled
   * or resolved later never takes the place of a value of a change whose intent came later.
   */
  applied?: {
    values: JsonObject
    /** It may be in force from now on. */
    secretChanged: boolean
    /** It is known not to be, though it was counted before. */
    secretKept?: true
  }
  /** Takes the key for the change; it must be free. */
  reserve?: Reservation
  /** What to do with the change's key: store the answer to replay, or release it. */
  answer?: object | 'release'
}

/** The scope of an idempotency key: one caller, one resource. */
export interface KeyScope {
  caller: string
  /** Of the caller's token, or empty. */
  subject: string
  kind: Kind
  resource: string
  key: string
}

export interface Reservation extends KeyScope {
  fingerprint: string
}

export interface ReservedKey {
  changeId: string
  fingerprint: string
  /** Until when it answers nothing, because it came with other requests too often; epoch milliseconds. */
  blockedUntil?: number
  /** As it was given; null until the change has one. */
  answer: unknown
}

export type ChangeRecord = typeof schema.changes.$inferSelect

/** What the gateway knows of a resource by itself. */
export interface ResourceRecord {
  applied: JsonObject
  secretChanges: number
}

/** A known caller asked for what it may not have. */
export interface RefusedAttempt {
  actor: Originator
  /** The slug of the problem that was returned. */
  problem: string
  alias: string | null
  kind: Kind | null
  resource: string | null
  requestId: string
}

export interface Filter {
  /** RFC 3339; from, inclusive. */
  since?: string
  /** Up to, exclusive. */
  until?: string
  actor?: string
  resource?: string
  connections?: readonly string[]
  /** Only what is older than this id. */
  before?: string
  limit: number
}

export interface EventFilter extends Filter {
  type?: EventType
  outcome?: Outcome
  change?: string
}

export interface ChangeFilter extends Filter {
  states?: readonly ChangeState[]
  change?: string
}

/** Part of a list. */
export interface Slice<T> {
  rows: T[]
  /** The id down to which all that matches is in the rows; null where that is all there is. */
  end: string | null
}

export interface Lists {
  /** Newest first. It may end before the limit, even without a row, so that no list is the work of one long moment. */
  events(filter: EventFilter): Slice<AuditEvent>
  /** Newest first, and as bounded. */
  changes(filter: ChangeFilter): Slice<ChangeRecord>
  /** All that have events. */
  connections(): string[]
}

export interface Ledger extends Lists {
  append(entry: Entry): Promise<AuditEvent>
  change(id: string): ChangeRecord | undefined
  /** The events of one change in the order of their chain. */
  story(changeId: string): AuditEvent[]
  /** Ids of the resource's changes that are not known to be in force, nor known not to be. */
  open(connection: string, kind: Kind, resource: string): string[]
  /**
   * Whether a newer change of the resource, by its intent, says something of a field that this one was to change, and was
   * applied or may have reached the provider: then sending this one again could bring an older value back.
   */
  isOvertaken(changeId: string): boolean
  resource(kind: Kind, resource: string): ResourceRecord
  reservedKey(scope: KeyScope): ReservedKey | undefined
  /** Counts that the key came with another request than it was reserved for. */
  countMismatch(scope: KeyScope): Promise<void>
  /** When the connection's newest writes that may have left had ended, in epoch milliseconds; `most` of them. */
  writesSince(connection: string, since: number, most: number): number[]
  /** Counts the attempt, or records it as an event. */
  refuse(connection: string, attempt: RefusedAttempt): Promise<void>
  /** Records what was counted; resolves to when it should be called again, in epoch milliseconds. */
  flushRefusals(): Promise<number | undefined>
  /** Throws when the store cannot be read. */
  probe(): void
}

/**
 * Where outcomes go that the ledger cannot take. While it holds any, or could not hold one, writes are off: nothing new
 * is begun that could not be recorded either.
 */
export interface Emergency {
  /** Keeps the entry durably; false when even that failed. */
  keep(entry: Entry): boolean
  /** Whether writes are off. */
  isDegraded(): boolean
}

import { hash } from 'node:crypto'
import { canonical, type Json } from '../lib/json.ts'
import type { EventType, Kind, Outcome } from '../model/enums.ts'
import type { FieldChanges } from '../model/fields.ts'
import type { audit } from './schema.ts'

/** Who did it. */
export interface Originator {
  caller: string
  key: string | null
  address: string | null
}

/** One entry of the audit as the outside sees it. Members that do not apply are null, so that its form is stable. */
export interface AuditEvent {
  id: string
  connection: string
  seq: number
  at: string
  type: EventType
  changeId: string | null
  actor: Originator | null
  alias: string | null
  kind: Kind | null
  resource: string | null
  fields: FieldChanges
  widens: boolean
  reason: string | null
  requestId: string | null
  outcome: Outcome | null
  upstream: Json
  /**
   * Names of fields that the change says something of and does not alter: `kept` were asked for and had the value already,
   * `carried` stood in the request as they were read. Absent where there are none, and from what
   * was written before there was this member.
   */
  unchanged?: { kept?: string[]; carried?: string[] }
  /**
   * Of refused attempts: the problem's slug, and how many there were since the last such event. Where they came with several keys
   * or tokens of the caller, the first of their ids and subjects, and how many were told apart. Absent from all others:
   * a member that came later must not be part of the hash of what was written before it.
   */
  refusal?: { problem: string; count: number; subjects?: string[]; subjectCount?: number }
  previous: string
  hash: string
}

/** `previous` of a chain's first event. */
export const GENESIS = '0'.repeat(64)

/** SHA-256 over the previous hash and the event's canonical form (RFC 8785), both as UTF-8 text; lower-case hex. */
export function hashOf(event: Omit<AuditEvent, 'hash'> & { hash?: string }): string {
  // Undefined members have no JSON form. Taking them out by a rest pattern is several times slower.
  const body = canonical({ ...event, previous: undefined, hash: undefined })
  return hash('sha256', event.previous + body, 'hex')
}

type Row = typeof audit.$inferSelect

/** Member by member: a rest pattern would be several times slower. */
export const toRow = (event: AuditEvent, position: number): Row => ({
  position,
  connection: event.connection,
  seq: event.seq,
  id: event.id,
  at: event.at,
  type: event.type,
  changeId: event.changeId,
  actor: event.actor?.caller ?? null,
  actorKey: event.actor?.key ?? null,
  actorAddress: event.actor?.address ?? null,
  alias: event.alias,
  kind: event.kind,
  resource: event.resource,
  fields: JSON.stringify(event.fields),
  widens: event.widens,
  reason: event.reason,
  requestId: event.requestId,
  outcome: event.outcome,
  upstream: event.upstream === null ? null : JSON.stringify(event.upstream),
  unchanged: event.unchanged ? JSON.stringify(event.unchanged) : null,
  refusal: event.refusal ? JSON.stringify(event.refusal) : null,
  previous: event.previous,
  hash: event.hash,
})

export const toEvent = (row: Row): AuditEvent => ({
  connection: row.connection,
  seq: row.seq,
  id: row.id,
  at: row.at,
  type: row.type,
  changeId: row.changeId,
  alias: row.alias,
  kind: row.kind,
  resource: row.resource,
  widens: row.widens,
  reason: row.reason,
  requestId: row.requestId,
  outcome: row.outcome,
  previous: row.previous,
  hash: row.hash,
  actor: row.actor === null ? null : { caller: row.actor, key: row.actorKey, address: row.actorAddress },
  fields: JSON.parse(row.fields) as AuditEvent['fields'],
  upstream: row.upstream === null ? null : (JSON.parse(row.upstream) as Json),
  ...(row.unchanged !== null && {
    unchanged: JSON.parse(row.unchanged) as NonNullable<AuditEvent['unchanged']>,
  }),
  ...(row.refusal !== null && { refusal: JSON.parse(row.refusal) as NonNullable<AuditEvent['refusal']> }),
})

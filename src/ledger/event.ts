import { hash } from 'node:crypto'
import { canonical, type Json } from '../json.ts'
import type { FieldChanges, Kind } from '../model.ts'
import type { audit } from './schema.ts'

export type EventType = 'intent' | 'attempt' | 'outcome' | 'settled' | 'resolved' | 'refused'
export type Outcome =
  | 'applied'
  | 'rejected'
  | 'partial'
  | 'unknown'
  | 'not_sent'
  | 'superseded'
  | 'needs_attention'

export interface Actor {
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
  actor: Actor | null
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
   * Of refused attempts: the problem's slug, and how many there were since the last such event. Absent from all others:
   * a member that came later must not be part of the hash of what was written before it.
   */
  refusal?: { problem: string; count: number }
  previous: string
  hash: string
}

/** `previous` of a chain's first event. */
export const GENESIS = '0'.repeat(64)

/** SHA-256 over the previous hash and the event's canonical form (RFC 8785), both as UTF-8 text; lower-case hex. */
export function hashOf({ previous, hash: _, ...rest }: Omit<AuditEvent, 'hash'> & { hash?: string }): string {
  return hash('sha256', previous + canonical(rest), 'hex')
}

type Row = typeof audit.$inferSelect

export function toRow(event: AuditEvent): Row {
  const { actor, fields, upstream, refusal, ...same } = event
  return {
    ...same,
    actor: actor?.caller ?? null,
    actorKey: actor?.key ?? null,
    actorAddress: actor?.address ?? null,
    fields: canonical(fields),
    upstream: upstream === null ? null : canonical(upstream),
    refusal: refusal ? canonical(refusal) : null,
  }
}

export function toEvent(row: Row): AuditEvent {
  const { actor, actorKey, actorAddress, fields, upstream, refusal, ...same } = row
  return {
    ...same,
    actor: actor === null ? null : { caller: actor, key: actorKey, address: actorAddress },
    fields: JSON.parse(fields) as AuditEvent['fields'],
    upstream: upstream === null ? null : (JSON.parse(upstream) as Json),
    ...(refusal !== null && { refusal: JSON.parse(refusal) as NonNullable<AuditEvent['refusal']> }),
  }
}

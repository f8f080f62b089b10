import type { ConnectionConfig } from '../config/document.ts'
import type { Originator } from '../ledger/event.ts'
import type { Emergency, Ledger } from '../ledger/types.ts'
import type { Deadline } from '../lib/deadline.ts'
import type { JsonObject } from '../lib/json.ts'
import type { AuditKeys } from '../lib/keyed-digests.ts'
import type { Log } from '../lib/log.ts'
import type { Adapter, KindSpec, Ref } from '../model/adapter.ts'
import type { Kind } from '../model/enums.ts'
import type { AnyValues } from '../model/fields.ts'
import type { Result } from '../model/problems.ts'
import type { ResourceAddress } from '../model/resource-id.ts'
import type { Exchange } from '../upstream/exchange.ts'
import type { Mode } from './merge.ts'
import type { ResourceQueue } from './queue.ts'
import type { ChangeReply, PlanReply } from './reply.ts'

/** What a change works with: all of it belongs to the actor of one connection. */
export interface ChangeTools {
  connection: ConnectionConfig
  adapter: Adapter
  exchange: Exchange
  ledger: Ledger
  /** Absent where the store cannot fail apart from the actor. */
  emergency: Emergency | undefined
  keys: AuditKeys
  queue: ResourceQueue
  /** Changes between their intent and their outcome: what recovery must leave alone. */
  live: Set<string>
  /** Idempotency keys of requests that are under way. */
  heldKeys: Set<string>
  /** Whether the store keeps what room it has for the outcomes of what is under way. */
  isFull(): boolean
  /** Changes that recovery reads back at once. */
  looksAtOnce: number
  log: Log
}

/** A request as plain data: it crosses from the stateless front to the actor as it is. */
export interface ResourceRequest {
  kind: Kind
  address: ResourceAddress
  /** Names of the fields that the caller may read; the others are `[hidden]` in what it gets. */
  readable: string[]
  requestId: string
  traceparent: string
}

export interface ChangeRequest extends ResourceRequest {
  body: JsonObject
  mode: Mode
  dryRun: boolean
  allowSelf: boolean
  /** Entity tags of `If-Match`, or `*`. */
  ifMatch?: readonly string[]
  idempotencyKey?: string
  reason?: string
  actor: Originator
}

/** A request whose resource and body have been understood. */
export interface ParsedChange extends ChangeRequest {
  spec: KindSpec<Kind>
  ref: Ref
  sent: AnyValues
  deadline: Deadline
}

/** What a change answers. `replayed` marks the stored answer to an idempotency key. */
export type ChangeAnswer = Result<ChangeReply | PlanReply> & { replayed?: true }

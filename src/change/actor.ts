import type { ConnectionConfig } from '../config/document.ts'
import type { Emergency, Ledger } from '../ledger/types.ts'
import { Deadline } from '../lib/deadline.ts'
import type { AuditKeys } from '../lib/keyed-digests.ts'
import type { Log } from '../lib/log.ts'
import type { Registry } from '../model/adapter.ts'
import type { AnyValues } from '../model/fields.ts'
import { ok, type Result } from '../model/problems.ts'
import type { BudgetOf } from '../upstream/budgets.ts'
import { createExchanges } from '../upstream/pipeline.ts'
import type { Send } from '../upstream/send.ts'
import { change } from './change.ts'
import { locate } from './prepare.ts'
import { ResourceQueue } from './queue.ts'
import { readBack } from './read-back.ts'
import { recover, resolve, type Resolution } from './recovery.ts'
import { type ResourceView, view, viewFor } from './reply.ts'
import { type ChangeAnswer, type ChangeRequest, type ChangeTools, type ResourceRequest } from './types.ts'

/** The single owner of one connection. Arguments and results are plain data, so that a call may cross processes. */
export interface Actor {
  change(request: ChangeRequest): Promise<ChangeAnswer>
  read(request: ResourceRequest): Promise<Result<ResourceView>>
  /**
   * Settles a change by hand, in the resource's queue. Only open changes can be resolved; repeating the same
   * resolution is a no-op.
   */
  resolve(resolution: Resolution): Promise<Result<void>>
}

/** The actor as its own process or object holds it. */
export interface OwnActor extends Actor {
  /** Settles what an earlier instance left open, records refused attempts, and comes back as long as there are any. */
  recover(): Promise<void>
  /** Resolves when no change is between its intent and its outcome. */
  idle(): Promise<void>
}

/** What every actor of a process or an object shares. */
export interface ActorParts {
  registry: Registry
  ledger: Ledger
  emergency: Emergency | undefined
  /** Whether nothing new may be begun, because there is little room left. */
  isFull(): boolean
  keys: AuditKeys
  send: Send
  budgets: (connection: ConnectionConfig) => BudgetOf
  /** Requests of one connection that may be under way at once. */
  requestsAtOnce: number
  log: Log
}

/** Builds the actor. Its queue, its token, its breaker and what it has under way are its own: they live and die with it. */
export function createActor(connection: ConnectionConfig, parts: ActorParts): OwnActor {
  const { registry, ledger, requestsAtOnce } = parts
  const adapter = registry[connection.provider]
  if (!adapter) throw new TypeError(`no adapter for ${connection.provider}`)
  const exchanges = createExchanges(connection, adapter, {
    ...parts,
    recentWrites: recentlySent(connection, ledger),
  })
  const running = new Set<Promise<unknown>>()
  const tools: ChangeTools = {
    connection,
    adapter,
    exchange: exchanges.changes,
    ledger,
    emergency: parts.emergency,
    isFull: parts.isFull,
    keys: parts.keys,
    looksAtOnce: requestsAtOnce,
    queue: new ResourceQueue(),
    live: new Set(),
    heldKeys: new Set(),
    log: parts.log,
  }

  async function read(request: ResourceRequest): Promise<Result<ResourceView>> {
    const found = locate(tools, request)
    if (!found.ok) return found
    const { spec, ref } = found.value
    const deadline = new Deadline(connection.deadlineMs)
    // For a provider that cannot be read, the gateway answers with what it last reported.
    const told =
      spec.read && (await readBack(spec.read, ref, exchanges.lookups, deadline, request.traceparent))
    if (told && !told.ok) return told
    const record = ledger.resource(request.kind, request.address.id)
    const whole = view(tools, request, spec, (told?.value.values ?? {}) as AnyValues, record)
    return ok(viewFor(whole, request.readable))
  }

  return {
    read,
    async change(request) {
      // A plan changes nothing, so it waits with those who only look.
      const work = change(request.dryRun ? { ...tools, exchange: exchanges.lookups } : tools, request)
      running.add(work)
      try {
        return await work
      } finally {
        running.delete(work)
      }
    },
    resolve: (resolution) => resolve(tools, resolution),
    recover: () => recover(tools),
    async idle() {
      while (running.size > 0) await Promise.allSettled(running)
    },
  }
}

/** How long ago each write had ended that the provider may still count. */
function recentlySent({ name, deadlineMs, limits: { writes } }: ConnectionConfig, ledger: Ledger): number[] {
  const longest = Math.max(0, ...writes.map(({ seconds }) => seconds))
  const most = Math.max(0, ...writes.map(({ requests }) => requests))
  if (most === 0) return []
  const now = Date.now()
  const from = now - longest * 1000
  // What was cut off in the middle has no outcome that dates it: it may have gone on until its deadline.
  const cutOff = ledger
    .changes({ connections: [name], states: ['in_flight'], limit: most })
    .rows.map(({ since }) => Math.min(now, Date.parse(since) + deadlineMs))
    .filter((at) => at >= from)
  return [...ledger.writesSince(name, from, most), ...cutOff].map((at) => now - at)
}

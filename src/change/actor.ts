import { Semaphore } from 'async-mutex'
import type { ConnectionConfig } from '../config/document.ts'
import type { Emergency, Ledger } from '../ledger/types.ts'
import { Deadline } from '../lib/deadline.ts'
import type { AuditKeys } from '../lib/keyed-digests.ts'
import type { Log } from '../lib/log.ts'
import type { Adapter, Registry } from '../model/adapter.ts'
import type { AnyValues } from '../model/fields.ts'
import { ok, type Result } from '../model/problems.ts'
import { createBreaker } from '../upstream/breaker-gate.ts'
import { LOOKUP_SHARE } from '../upstream/budget.ts'
import { type BudgetOf, limitRate } from '../upstream/budgets.ts'
import { limitConcurrency } from '../upstream/concurrency-gate.ts'
import { createExchange, type Exchange } from '../upstream/exchange.ts'
import type { Send } from '../upstream/send.ts'
import { createTokens } from '../upstream/sign-in.ts'
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
  /** Settles by hand what the gateway could not. */
  resolve(resolution: Resolution): Promise<Result<void>>
}

/** The actor as its own process or object holds it. */
export interface OwnActor extends Actor {
  /** Settles what an earlier process left open and what is still unknown; resolves when it has looked at all of it. */
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
  const exchanges = createExchanges(connection, adapter, parts)
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
    // For a provider that cannot be read the gateway answers with what that told last.
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

/**
 * The connection's ways to its provider: what is down, or out of its budget, is not asked. Lookups, which belong to no change,
 * have a breaker of their own and a share of budget and slots, so that whoever only reads never stops a change.
 */
function createExchanges(
  connection: ConnectionConfig,
  adapter: Adapter,
  { send, budgets, requestsAtOnce, ledger, log }: ActorParts,
): { changes: Exchange; lookups: Exchange } {
  const { throttle } = adapter
  const slots = new Semaphore(requestsAtOnce)
  const budgetOf = budgets(connection)
  budgetOf('writes').restore(recentlySent(connection, ledger))
  const toTokens = limitRate(() => budgetOf('tokens'), throttle, limitConcurrency(send, slots))
  const tokens = createTokens(connection, toTokens)

  const along = (of: 'changes' | 'lookups', ...slotsOf: Semaphore[]): Exchange => {
    const breaker = createBreaker(connection.name, of, log)
    const toApi = limitRate(
      (method) => budgetOf(method === 'GET' ? 'reads' : 'writes'),
      throttle,
      limitConcurrency(breaker.guard(send), ...slotsOf),
      of === 'lookups',
    )
    return createExchange(
      connection,
      adapter,
      tokens,
      async (request, deadline) => breaker.refusal() ?? toApi(request, deadline),
    )
  }
  const share = new Semaphore(Math.max(1, Math.floor(requestsAtOnce * LOOKUP_SHARE)))
  return { changes: along('changes', slots), lookups: along('lookups', share, slots) }
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

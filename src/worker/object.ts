import { DurableObject } from 'cloudflare:workers'
import { drizzle } from 'drizzle-orm/durable-sqlite'
import { migrate } from 'drizzle-orm/durable-sqlite/migrator'
import { registry } from '../../adapters/index.ts'
import migrations from '../../migrations/migrations.js'
import { type Limit, take, type Taken, type Window } from '../access/rate-limit.ts'
import { type Actor, createActor, type OwnActor } from '../change/actor.ts'
import type { Resolution } from '../change/recovery.ts'
import type { ChangeAnswer, ChangeRequest, ResourceRequest } from '../change/types.ts'
import type { AuditEvent } from '../ledger/event.ts'
import { inspect } from '../ledger/integrity.ts'
import { openLedger, registerAuditKey } from '../ledger/ledger.ts'
import { FOLD_MS } from '../ledger/refusals.ts'
import * as schema from '../ledger/schema.ts'
import type {
  ChangeFilter,
  ChangeRecord,
  EventFilter,
  Ledger,
  RefusedAttempt,
  Slice,
} from '../ledger/types.ts'
import { Deadline } from '../lib/deadline.ts'
import { clockFault } from '../lib/wall-clock.ts'
import type { Registry } from '../model/adapter.ts'
import { endOfId } from '../model/one-resource.ts'
import { ok, type Problem, refuse, type Result } from '../model/problems.ts'
import { GATEWAY } from '../model/resource-id.ts'
import { openBudgets } from '../upstream/budgets.ts'
import { type Env, isStorageLost, environmentOf } from './environment.ts'
import { workerSend } from './send.ts'

const STORAGE_LOST: Problem = {
  slug: 'audit-unavailable',
  detail: 'the storage is not what it was; the log says how',
  retryAfterSeconds: 60,
}

export const MISCONFIGURED: Problem = {
  slug: 'not-ready',
  detail: 'the configuration is at fault; the log says where',
  retryAfterSeconds: 60,
}

/** What a connection's object answers to: its actor, and its part of the history. */
export interface ConnectionObject extends Actor {
  events(filter: EventFilter): Promise<Slice<AuditEvent>>
  changes(filter: ChangeFilter): Promise<Slice<ChangeRecord>>
  story(changeId: string): Promise<AuditEvent[]>
  /** Why it cannot take changes; empty when it can. */
  faults(): Promise<string[]>
  refused(attempt: RefusedAttempt): Promise<void>
  /** Asked of `_gateway`. */
  takeRequest(caller: string, limit: Limit): Promise<Taken>
  /** Asked of `_gateway`: from now on the connection has a history, whether it stays configured or not. */
  enlist(connection: string): Promise<void>
  /** Asked of `_gateway`: every connection that has a history. */
  enlisted(): Promise<string[]>
}

/** A stub is dead once its object was reset, so every call takes a fresh one. */
export const objectOf = (env: Env, name: string): ConnectionObject =>
  env.CONNECTIONS.getByName(name) as ConnectionObject

interface Opened {
  ledger: Ledger
  actor: Result<OwnActor>
  faults: string[]
}

/**
 * Requests to the provider that may be under way at once. All requests to an object share its connections, and six may
 * wait for their response's head (Cloudflare's documentation, Workers limits, simultaneous open connections).
 */
const REQUESTS_AT_ONCE = 6

/**
 * Bytes of storage after which nothing new is begun: an object holds 10 GB (Cloudflare's documentation, Durable Objects
 * limits), and what is under way then still finds room for its outcome.
 */
const FULL = 10e9 - 64e6

/** Keys of the object's key-value storage: that it is enlisted and, in `_gateway`, the prefixes of what is and of limits. */
const ENLISTED = 'enlisted'
const CONNECTION = 'connection:'
const LIMIT = 'limit:'

/** How long a change waits to be enlisted. It is tried again with the next one. Milliseconds. */
const ENLIST_MS = 1000

/** How often open and unknown changes are looked at, as long as there are any. Milliseconds. */
const RECOVER_EVERY = 5000
/** The same while they cannot be settled. Milliseconds. */
const REPAIR_EVERY = 60_000

/**
 * One connection: its actor and its part of the audit, in storage of its own. The runtime sends no request to a provider
 * before everything written up to it is durable (output gates; they do not reach into an open transaction).
 */
export class Connection extends DurableObject<Env> implements ConnectionObject {
  readonly #opened: Promise<Opened>
  /** Changes under way in this instance. */
  #running = 0
  /** Epoch milliseconds. */
  #alarmAt: number | undefined
  #isEnlisted = false

  constructor(ctx: DurableObject<Env>['ctx'], env: Env) {
    super(ctx, env)
    // Nothing is answered by a store that is not migrated, or not whole.
    this.#opened = ctx.blockConcurrencyWhile(() => this.#open())
    ctx.waitUntil(this.#recover())
  }

  async #open(): Promise<Opened> {
    const { storage, id } = this.ctx
    const name = id.name ?? ''
    const db = drizzle(storage, { schema })
    await migrate(db, migrations)
    storage.sql.exec('PRAGMA recursive_triggers = ON')
    const { log, settings } = environmentOf(this.env)
    const provider = settings?.config.connections.get(name)?.provider
    /** Why nothing is written: what stands at the end would leave the part that is looked at. */
    let atFault: string | undefined
    const ledger = openLedger(
      db,
      async (write) => {
        if (atFault !== undefined) throw new Error(atFault)
        return db.transaction(write)
      },
      (_, kind, id) => endOfId((registry as Registry)[provider ?? ''], kind, id),
    )
    const refused = (problem: Problem, faults: string[]): Opened => ({
      ledger,
      actor: { ok: false, problem },
      faults,
    })

    if (!settings) return refused(MISCONFIGURED, [MISCONFIGURED.detail])
    const faults = await inspect(db, ledger, name, log)
    atFault = faults[0]
    if (faults[0] !== undefined) {
      const detail = 'the audit of the connection is at fault; the log says how'
      return refused({ slug: 'audit-unavailable', detail, retryAfterSeconds: 60 }, faults)
    }
    const { config, keys } = settings
    if (!registerAuditKey(db, keys)) {
      const detail = `AUDIT_KEY is not the key ${keys.id} that was used before`
      log.error('audit key exchanged', {
        object: name,
        hint: `give a new key a new id: "${keys.id + 1}:<base64>"`,
      })
      return refused({ ...MISCONFIGURED, detail }, [detail])
    }
    const connection = config.connections.get(name)
    if (!connection) return refused({ slug: 'not-ready', detail: 'the connection is not configured' }, [])
    const send = workerSend(fetch)
    const actor = createActor(connection, {
      registry,
      ledger,
      emergency: undefined,
      isFull: () => this.#isFull() || clockFault() !== undefined,
      keys,
      send,
      // Its own: the address is shared with strangers anyway.
      budgets: openBudgets(),
      requestsAtOnce: REQUESTS_AT_ONCE,
      log,
    })
    return { ledger, actor: ok(actor), faults: [] }
  }

  /** Settles what an earlier instance left open, records refused attempts, and comes back as long as there are any. */
  async #recover(): Promise<void> {
    const { ledger, actor } = await this.#opened
    const failed = (error: unknown) =>
      environmentOf(this.env).log.error('recovery failed', {
        object: this.ctx.id.name,
        error: String(error),
      })
    const isLost = await isStorageLost(this.env)
    const untilTold = isLost ? undefined : await ledger.flushRefusals().catch(failed)
    if (actor.ok && !isLost) await actor.value.recover().catch(failed)
    // Named, though the object has no other: the index by state begins with the connection.
    const connections = [this.ctx.id.name ?? '']
    const open = ledger.changes({ connections, states: ['in_flight', 'unknown'], limit: 1 }).rows
    // What cannot be settled now, because the configuration is at fault, is not forgotten.
    const pause = actor.ok ? RECOVER_EVERY : REPAIR_EVERY
    if (this.#running > 0 || open.length > 0) this.#setAlarm(Date.now() + pause)
    // Last, because it is later: an alarm that a former instance has set for its open changes stands until here.
    if (untilTold !== undefined) this.#setAlarm(untilTold)
  }

  /** There is one alarm: the earliest wins, and whatever it finds undone sets the next. */
  #setAlarm(at: number): void {
    if (this.#alarmAt !== undefined && this.#alarmAt <= at) return
    this.#alarmAt = at
    void this.ctx.storage.setAlarm(at)
  }

  async alarm(): Promise<void> {
    this.#alarmAt = undefined
    await this.#recover()
  }

  change(request: ChangeRequest): Promise<ChangeAnswer> {
    const work = this.#change(request)
    // A caller that hangs up ends the call, not the change.
    this.ctx.waitUntil(work)
    return work
  }

  async #change(request: ChangeRequest): Promise<ChangeAnswer> {
    const { actor } = await this.#opened
    if (!actor.ok) return actor
    if (request.dryRun) return actor.value.change(request)
    if (await isStorageLost(this.env)) return { ok: false, problem: STORAGE_LOST }
    await this.#enlist()
    // Durable before the intent: if this instance ends in the middle, the alarm makes another.
    this.#running += 1
    this.#setAlarm(Date.now() + RECOVER_EVERY)
    try {
      return await actor.value.change(request)
    } catch (error) {
      // Return a value: an exception across RPC looks like a lost connection.
      const { requestId } = request
      environmentOf(this.env).log.error('change failed', { requestId, error: String(error) })
      return refuse('internal-error', 'see the log entry of this request')
    } finally {
      this.#running -= 1
    }
  }

  #isFull(): boolean {
    return this.ctx.storage.sql.databaseSize > FULL
  }

  /** A connection that is taken out of the configuration stays in the lists: `_gateway` knows of it from its first change on. */
  async #enlist(): Promise<void> {
    const { kv } = this.ctx.storage
    const name = this.ctx.id.name ?? ''
    this.#isEnlisted ||= name === GATEWAY || kv.get(ENLISTED) === true
    if (this.#isEnlisted) return
    const done = objectOf(this.env, GATEWAY)
      .enlist(name)
      .then(
        () => kv.put(ENLISTED, true),
        (error) => environmentOf(this.env).log.error('not enlisted', { object: name, error: String(error) }),
      )
    await new Deadline(ENLIST_MS).within(done)
  }

  refused(attempt: RefusedAttempt): Promise<void> {
    const work = this.#refused(attempt)
    this.ctx.waitUntil(work)
    return work
  }

  async #refused(attempt: RefusedAttempt): Promise<void> {
    const { ledger } = await this.#opened
    // The room that is left is for the outcomes of what is under way.
    if (this.#isFull()) throw new Error('the storage is almost full')
    if (await isStorageLost(this.env)) throw new Error(STORAGE_LOST.detail)
    await ledger.refuse(this.ctx.id.name ?? '', attempt)
    this.#setAlarm(Date.now() + FOLD_MS)
    await this.#enlist()
  }

  async takeRequest(caller: string, limit: Limit): Promise<Taken> {
    const { kv } = this.ctx.storage
    const key = `${LIMIT}${caller}`
    const stored = kv.get(key)
    // Earlier versions stored one count.
    const { window, taken } = take(Array.isArray(stored) ? (stored as Window) : undefined, limit, Date.now())
    if (taken.allowed) kv.put(key, window)
    return taken
  }

  async enlist(connection: string): Promise<void> {
    this.ctx.storage.kv.put(`${CONNECTION}${connection}`, true)
  }

  async enlisted(): Promise<string[]> {
    return [...this.ctx.storage.kv.list({ prefix: CONNECTION })].map(([key]) => key.slice(CONNECTION.length))
  }

  async read(request: ResourceRequest): ReturnType<Actor['read']> {
    const { actor } = await this.#opened
    return actor.ok ? actor.value.read(request) : actor
  }

  async resolve(resolution: Resolution): Promise<Result<void>> {
    const { actor } = await this.#opened
    if (!actor.ok) return actor
    if (await isStorageLost(this.env)) return { ok: false, problem: STORAGE_LOST }
    return actor.value.resolve(resolution)
  }

  async events(filter: EventFilter): Promise<Slice<AuditEvent>> {
    return (await this.#opened).ledger.events(filter)
  }

  async changes(filter: ChangeFilter): Promise<Slice<ChangeRecord>> {
    return (await this.#opened).ledger.changes(filter)
  }

  async story(changeId: string): Promise<AuditEvent[]> {
    return (await this.#opened).ledger.story(changeId)
  }

  async faults(): Promise<string[]> {
    const { ledger, faults } = await this.#opened
    ledger.probe()
    const clock = clockFault()
    const lost = (await isStorageLost(this.env)) ? [STORAGE_LOST.detail] : []
    return [...faults, ...lost, ...(clock === undefined ? [] : [clock])]
  }
}

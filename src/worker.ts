import { DurableObject, type DurableObjectNamespace, waitUntil } from 'cloudflare:workers'
import { drizzle } from 'drizzle-orm/durable-sqlite'
import { migrate } from 'drizzle-orm/durable-sqlite/migrator'
import { registry } from '../adapters/index.ts'
import migrations from '../migrations/migrations.js'
import { type AppParts, createApp } from './app.ts'
import { type AuditKeys, deriveAuditKeys, parseAuditKey } from './audit-keys.ts'
import type { ChangeAnswer, ChangeRequest, ResourceRequest } from './change.ts'
import { type Config, readConfig } from './config.ts'
import { type Actor, createActor, type OwnActor } from './connection.ts'
import type { AuditEvent } from './ledger/event.ts'
import {
  type ChangeFilter,
  type ChangeRecord,
  type EventFilter,
  type Ledger,
  openLedger,
  registerAuditKey,
} from './ledger/ledger.ts'
import * as schema from './ledger/schema.ts'
import { type Log, logLevels, openLog } from './log.ts'
import { ok, type Problem, refuse, type Result } from './problems.ts'
import type { Resolution } from './recovery.ts'
import { NAME } from './resource-id.ts'
import { createSend } from './upstream.ts'

/** What wrangler.toml binds. All else in the environment is text: the configuration, its secrets and the audit key. */
export interface Env {
  CONNECTIONS: DurableObjectNamespace
  ASSETS: { fetch(url: string): Promise<Response> }
}

/** The object of what belongs to no connection; the name of a connection begins with a letter. */
const GATEWAY = '_gateway'

const MISCONFIGURED: Problem = {
  slug: 'not-ready',
  detail: 'the configuration is at fault; the log says where',
  retryAfterSeconds: 60,
}

interface Settings {
  log: Log
  /** Undefined where the environment is at fault. */
  ready: { config: Config; keys: AuditKeys } | undefined
}

const NOTHING: Config = { connections: new Map(), aliases: new Map(), callers: [] }

/** One variable holds 5 KB, so the document goes on in `GATEWAY_CONFIG_2` and so forth. */
function configText(variables: Record<string, string>): string {
  let text = ''
  for (let part = 1; ; part++) {
    const next = variables[part === 1 ? 'GATEWAY_CONFIG' : `GATEWAY_CONFIG_${part}`]
    if (next === undefined) return text
    text += next
  }
}

/** Made once per instance of the Worker. Only plain values: requests must not wait for one another. */
function perEnvironment<T extends object>(make: (env: Env) => T): (env: Env) => T {
  const made = new WeakMap<Env, T>()
  return (env) => {
    const value = made.get(env) ?? make(env)
    made.set(env, value)
    return value
  }
}

/** Reads the environment; every fault goes to the log, by name and never by value. */
const settingsOf = perEnvironment((env): Settings => {
  const variables = Object.fromEntries(
    Object.entries(env).filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
  )
  const faults: string[] = []
  const level = logLevels.find((one) => one === (variables['LOG_LEVEL'] ?? 'info'))
  if (!level) faults.push(`LOG_LEVEL is none of ${logLevels.join(', ')}`)
  const auditKey = parseAuditKey(variables['AUDIT_KEY'] ?? '')
  if (!auditKey) faults.push('AUDIT_KEY must be 32 bytes in base64; make one with: openssl rand -base64 32')
  const text = configText(variables)
  const config = text === '' ? undefined : readConfig(text, variables, registry)
  if (!config) faults.push('GATEWAY_CONFIG must hold the configuration')
  if (config?.ok === false)
    faults.push(...config.faults.map(({ path, detail }) => `configuration ${path}: ${detail}`))

  const log = openLog(level ?? 'info', (line) => console.log(line.trimEnd()))
  for (const fault of faults) log.error('not configured', { fault })
  const ready = faults.length === 0 && auditKey && config?.ok
  return { log, ready: ready ? { config: config.value, keys: deriveAuditKeys(auditKey) } : undefined }
})

/** What a connection's object answers to: its actor, and its part of the audit. */
interface ConnectionObject extends Actor {
  events(filter: EventFilter): Promise<AuditEvent[]>
  changes(filter: ChangeFilter): Promise<ChangeRecord[]>
  story(changeId: string): Promise<AuditEvent[]>
  /** Why it cannot take changes; empty when it can. */
  faults(): Promise<string[]>
}

interface Opened {
  ledger: Ledger
  actor: Result<OwnActor>
  faults: string[]
}

/** How often open and unknown changes are looked at, as long as there are any. Milliseconds. */
const RECOVER_EVERY = 5000

/**
 * One connection: its actor and its part of the audit, in storage of its own. The runtime sends no request to a provider
 * before everything written up to it is durable (output gates; they do not reach into an open transaction).
 */
export class Connection extends DurableObject<Env> implements ConnectionObject {
  readonly #opened: Promise<Opened>
  /** Changes under way in this instance. */
  #running = 0
  #alarmIsSet = false

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
    const ledger = openLedger(db, async (write) => db.transaction(write))
    const refused = (problem: Problem, faults: string[]): Opened => ({
      ledger,
      actor: { ok: false, problem },
      faults,
    })

    const { log, ready } = settingsOf(this.env)
    if (!ready) return refused(MISCONFIGURED, [MISCONFIGURED.detail])
    const { config, keys } = ready
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
    // An error of fetch in workerd never tells whether the request has left.
    const send = createSend(fetch, () => false)
    const actor = createActor(connection, { registry, ledger, emergency: undefined, keys, send, log })
    return { ledger, actor: ok(actor), faults: [] }
  }

  /** Settles what an earlier instance left open, and comes back as long as anything is. */
  async #recover(): Promise<void> {
    const { ledger, actor } = await this.#opened
    if (!actor.ok) return
    try {
      await actor.value.recover()
    } catch (error) {
      settingsOf(this.env).log.error('recovery failed', { object: this.ctx.id.name, error: String(error) })
    }
    const open = ledger.changes({ states: ['in_flight', 'unknown'], limit: 1 })
    if (this.#running > 0 || open.length > 0) this.#setAlarm()
  }

  #setAlarm(): void {
    if (this.#alarmIsSet) return
    this.#alarmIsSet = true
    void this.ctx.storage.setAlarm(Date.now() + RECOVER_EVERY)
  }

  async alarm(): Promise<void> {
    this.#alarmIsSet = false
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
    // Durable before the intent: if this instance ends in the middle, the alarm makes another.
    this.#running += 1
    this.#setAlarm()
    try {
      return await actor.value.change(request)
    } finally {
      this.#running -= 1
    }
  }

  async read(request: ResourceRequest): ReturnType<Actor['read']> {
    const { actor } = await this.#opened
    return actor.ok ? actor.value.read(request) : actor
  }

  async resolve(resolution: Resolution): Promise<Result<void>> {
    const { actor } = await this.#opened
    return actor.ok ? actor.value.resolve(resolution) : actor
  }

  async events(filter: EventFilter): Promise<AuditEvent[]> {
    return (await this.#opened).ledger.events(filter)
  }

  async changes(filter: ChangeFilter): Promise<ChangeRecord[]> {
    return (await this.#opened).ledger.changes(filter)
  }

  async story(changeId: string): Promise<AuditEvent[]> {
    return (await this.#opened).ledger.story(changeId)
  }

  async faults(): Promise<string[]> {
    const { ledger, faults } = await this.#opened
    ledger.probe()
    return faults
  }
}

/** A stub is dead once its object was reset, so every call takes a fresh one. */
const objectOf = (env: Env, name: string): ConnectionObject =>
  env.CONNECTIONS.getByName(name) as ConnectionObject

const SILENT = refuse('not-ready', 'the connection does not answer', { retryAfterSeconds: 1 })
const LOST = refuse('outcome-unknown', 'the connection was lost in the middle of the change', {
  outcome: 'unknown',
  retryAfterSeconds: 1,
})

/** The actor at the other end of a call that may break off: every deployment resets the objects. */
function remoteActor(env: Env, log: Log, name: string): Actor {
  const otherwise =
    <T>({ requestId }: { requestId: string }, refusal: T) =>
    (error: unknown): T => {
      log.error('connection lost', { requestId, connection: name, error: String(error) })
      return refusal
    }
  return {
    change(request) {
      const reply: Promise<ChangeAnswer> = objectOf(env, name)
        .change(request)
        .catch(otherwise(request, request.dryRun ? SILENT : LOST))
      waitUntil(reply)
      return reply
    },
    read: (request) => objectOf(env, name).read(request).catch(otherwise(request, SILENT)),
    resolve: (resolution) => objectOf(env, name).resolve(resolution).catch(otherwise(resolution, SILENT)),
  }
}

const newestFirst = <T extends { id: string }>(rows: T[], limit: number): T[] =>
  rows.toSorted((a, b) => (a.id < b.id ? 1 : -1)).slice(0, limit)

function partsOf(env: Env, log: Log, config: Config): AppParts {
  /** One object that does not answer fails the whole: an audit with a gap in it looks complete. */
  async function ask<T>(
    names: Iterable<string>,
    question: (object: ConnectionObject) => Promise<T[]>,
  ): Promise<T[]> {
    // A connection that is no longer configured keeps its history; what cannot be a name never had one.
    const objects = [...names].filter((name) => NAME.test(name)).map((name) => objectOf(env, name))
    return (await Promise.all(objects.map(question))).flat()
  }
  const all = () => config.connections.keys()

  return {
    config,
    registry,
    actor: (name) => (config.connections.has(name) ? remoteActor(env, log, name) : undefined),
    events: async ({ connections = all(), ...filter }) =>
      newestFirst(await ask(connections, (object) => object.events(filter)), filter.limit),
    changes: async ({ connections = all(), ...filter }) =>
      newestFirst(await ask(connections, (object) => object.changes(filter)), filter.limit),
    story: (changeId) => ask(all(), (object) => object.story(changeId)),
    // One object stands for the store: asking each would keep all of them awake.
    readiness: () =>
      objectOf(env, GATEWAY)
        .faults()
        .catch(() => ['the store does not answer']),
    async referenceScript() {
      const { body, status } = await env.ASSETS.fetch('https://assets.invalid/reference.js')
      if (status !== 200 || !body) throw new Error(`the script of the API reference is missing (${status})`)
      return body
    },
    targetOf: () => undefined,
    addressOf: (environment) => (environment as { address: string | null }).address,
    log,
  }
}

const appOf = perEnvironment((env) => {
  const { log, ready } = settingsOf(env)
  if (ready) return createApp(partsOf(env, log, ready.config))
  const readiness = async () => [MISCONFIGURED.detail]
  return createApp({ ...partsOf(env, log, NOTHING), readiness, closed: MISCONFIGURED })
})

/** The stateless Worker. */
export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    return appOf(env).fetch(request, { address: request.headers.get('cf-connecting-ip') })
  },
}

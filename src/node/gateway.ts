import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { setImmediate as othersTurn, setTimeout as pause } from 'node:timers/promises'
import { gunzipSync } from 'node:zlib'
import type { HttpBindings } from '@hono/node-server'
import { take, type Window } from '../access/rate-limit.ts'
import { createActor, type OwnActor } from '../change/actor.ts'
import type { Config } from '../config/document.ts'
import { createApp } from '../http/app.ts'
import type { Bytes, Coding } from '../http/static-file.ts'
import type { Scope } from '../ledger/history.ts'
import { inspect } from '../ledger/integrity.ts'
import { openLedger, registerAuditKey } from '../ledger/ledger.ts'
import type { Commit, Ledger } from '../ledger/types.ts'
import type { AuditKeys } from '../lib/keyed-digests.ts'
import type { Log } from '../lib/log.ts'
import { clockFault, watchClock } from '../lib/wall-clock.ts'
import type { Registry } from '../model/adapter.ts'
import { endOfId } from '../model/one-resource.ts'
import { type Problem, refuse } from '../model/problems.ts'
import { GATEWAY } from '../model/resource-id.ts'
import { openBudgets } from '../upstream/budgets.ts'
import { createSend } from '../upstream/send.ts'
import { openDatabase } from './database.ts'
import { openJournal } from './journal.ts'
import { openSender, provesUnsent, type Sender } from './sender.ts'
import { createGatewayServer, type Patience } from './server.ts'

export interface NodeGatewayOptions {
  config: Config
  registry: Registry
  keys: AuditKeys
  /** The folder that holds `migrations/` and `assets/`; it ends in a slash. */
  home: URL
  /** The database's path; its folder is made. */
  database: string
  /** 0 takes a free port. */
  port: number
  host: string
  log: Log
  /** How long clients may take. */
  patience?: Partial<Patience>
}

export interface NodeGateway {
  url: string
  close(): Promise<void>
}

/** Requests to one provider account that may be under way at once; more wait within their deadline. */
const REQUESTS_AT_ONCE = 64

/** How often the store is tried while it is sick, and how often open and unknown changes are looked at. Milliseconds. */
const HEAL_EVERY = 250
const RECOVER_EVERY = 5000

/** How long chores and connections may linger after the last change has ended. Milliseconds. */
const LINGER = 500

/** Calls `task` again and again, each time after the one before has ended. */
function repeat(task: () => Promise<void>, everyMs: number, log: Log): { stop(): Promise<void> } {
  const stopped = new AbortController()
  const loop = (async () => {
    while (!stopped.signal.aborted) {
      await pause(everyMs, undefined, { signal: stopped.signal, ref: false }).catch(() => {})
      // A chore that fails is tried again; it must not take the process, and the changes under way, with it.
      if (!stopped.signal.aborted)
        await task().catch((error) => log.error('chore failed', { error: String(error) }))
    }
  })()
  return {
    stop() {
      stopped.abort()
      return loop
    },
  }
}

/** The same functions; what they throw is looked at first. */
const noticing = (ledger: Ledger, notice: (error: unknown) => void): Ledger =>
  Object.fromEntries(
    Object.entries(ledger).map(([name, call]) => [
      name,
      (...args: unknown[]) => {
        try {
          return Reflect.apply(call, ledger, args) as unknown
        } catch (error) {
          notice(error)
          throw error
        }
      },
    ]),
  ) as unknown as Ledger

/** Starts the gateway in this process: every connection's actor and one database. */
export async function startNodeGateway(options: NodeGatewayOptions): Promise<NodeGateway> {
  const { config, registry, keys, log } = options
  const database = openDatabase(options.database, log, options.home)
  if (!registerAuditKey(database.db, keys)) {
    database.close()
    throw new Error(
      `AUDIT_KEY is not the key ${keys.id} that this database was written with; give a new key a new id: "${keys.id + 1}:<base64>"`,
    )
  }
  const auditFaults: string[] = []
  const commit: Commit = (write) =>
    auditFaults[0] === undefined ? database.commit(write) : Promise.reject(new Error(auditFaults[0]))
  const ledger = noticing(
    openLedger(database.db, commit, (connection, kind, id) =>
      endOfId(registry[config.connections.get(connection)?.provider ?? ''], kind, id),
    ),
    database.notice,
  )
  auditFaults.push(...(await inspect(database.db, ledger, GATEWAY, log)))
  /** Rejects where an event could not be recorded either. */
  const probe = async (): Promise<void> => {
    const fault = auditFaults[0] ?? clockFault()
    if (fault !== undefined) throw new Error(fault)
    await database.probe()
  }
  const journal = openJournal(`${options.database}.emergency`, ledger, probe, log)
  const senders: Sender[] = []
  const budgets = openBudgets()
  const actors = new Map<string, OwnActor>(
    [...config.connections.values()].map((connection) => {
      if (connection.allowHttp) log.warn('plain HTTP', { connection: connection.name })
      const sender = openSender(connection, REQUESTS_AT_ONCE, log)
      senders.push(sender)
      const actor = createActor(connection, {
        registry,
        ledger,
        emergency: journal,
        isFull: () => clockFault() !== undefined,
        keys,
        send: createSend(sender.fetch, provesUnsent),
        budgets,
        requestsAtOnce: REQUESTS_AT_ONCE,
        log,
      })
      return [connection.name, actor]
    }),
  )
  const everyActor = (task: (actor: OwnActor) => Promise<void>) => Promise.all([...actors.values()].map(task))
  async function recover(): Promise<void> {
    const onFlushError = (error: unknown) => log.error('refusals not told', { error: String(error) })
    if (database.fault() !== undefined) return
    if (!journal.isDegraded()) await ledger.flushRefusals().catch(onFlushError)
    await everyActor((actor) => actor.recover())
  }

  /** The connections that the caller may see. */
  function heard({ connections, touches }: Scope & { connections?: readonly string[] }) {
    const names = connections ?? ledger.connections()
    return names.every(touches) ? {} : { connections: names.filter(touches) }
  }

  /** Of the callers that have a limit, which are few and fixed. */
  const windows = new Map<string, Window>()
  let draining = false
  const stopping = (): Promise<{ ok: false; problem: Problem }> =>
    Promise.resolve(
      refuse('not-ready', 'the gateway is stopping; nothing was sent', { retryAfterSeconds: 1 }),
    )

  let compressed: Bytes | undefined
  let script: Bytes | undefined
  function referenceScript(coding: Coding): Bytes {
    compressed ??= readFileSync(new URL('assets/reference.js.gz', options.home))
    return coding === 'gzip' ? compressed : (script ??= gunzipSync(compressed))
  }
  const app = createApp({
    config,
    registry,
    actor(name) {
      const actor = actors.get(name)
      return actor && draining ? { ...actor, change: stopping, resolve: stopping } : actor
    },
    history: {
      async events(filter) {
        await othersTurn()
        return { ...ledger.events({ ...filter, ...heard(filter) }), unanswered: [] }
      },
      async changes(filter) {
        await othersTurn()
        return { ...ledger.changes({ ...filter, ...heard(filter) }), unanswered: [] }
      },
      story: async (_, changeId) => ledger.story(changeId),
    },
    refused: (connection, attempt) =>
      ledger.refuse(connection !== null && actors.has(connection) ? connection : GATEWAY, attempt),
    async takeRequest(caller, limit) {
      const { window, taken } = take(windows.get(caller), limit, Date.now())
      windows.set(caller, window)
      return taken
    },
    sendToIssuer({ issuer, allowPrivateAddresses }) {
      const sender = openSender({ name: issuer, allowPrivateAddresses }, REQUESTS_AT_ONCE, log)
      senders.push(sender)
      return createSend(sender.fetch, provesUnsent)
    },
    async readiness() {
      const reasons: string[] = []
      if (draining) reasons.push('the gateway is stopping')
      if (database.fault() !== undefined) reasons.push('the database is at fault; the log says how')
      const clock = clockFault()
      reasons.push(...auditFaults, ...(clock === undefined ? [] : [clock]))
      if (journal.isDegraded() || !database.takesWrites()) reasons.push('the database does not take writes')
      try {
        ledger.probe()
      } catch (error) {
        reasons.push(
          `the database cannot be read: ${error instanceof Error ? error.message : 'unknown fault'}`,
        )
      }
      return reasons
    },
    referenceScript,
    // Node writes them to a socket without copying them.
    bodyOf: (bytes) => bytes,
    targetOf: (environment) => (environment as HttpBindings | undefined)?.incoming.url,
    addressOf: (environment) =>
      (environment as HttpBindings | undefined)?.incoming.socket.remoteAddress ?? null,
    log,
  })

  // Without traffic nothing else would notice that the store takes writes again.
  const lookAtClock = watchClock(log)
  const heal = async () => {
    database.look()
    lookAtClock()
    if (journal.isDegraded()) await journal.heal()
    else if (!database.takesWrites()) await database.probe().catch(() => {})
  }
  await heal()
  // Not awaited: it asks providers, and a silent one must not keep the gateway from starting.
  const firstRecovery = recover().catch((error) => log.error('chore failed', { error: String(error) }))
  const { patience } = options
  const server = createGatewayServer({ fetch: app.fetch, log, ...(patience && { patience }) })
  server.listen(options.port, options.host)
  await once(server, 'listening')
  // Where one was expected, its path is wrong or it was lost.
  if (database.isNew) log.warn('database made, for there was none', { file: options.database })
  // From here on it is a connection that could not be accepted, usually because file descriptors ran out.
  server.on('error', (error) => log.error('connection not accepted', { error: String(error) }))
  const { port } = server.address() as AddressInfo
  const chores = [repeat(heal, HEAL_EVERY, log), repeat(recover, RECOVER_EVERY, log)]
  const host = options.host.includes(':') ? `[${options.host}]` : options.host
  return {
    url: `http://${host}:${port}`,
    async close() {
      draining = true
      await everyActor((actor) => actor.idle())
      // A recovery that asks silent providers is not waited for: the next start takes it up again.
      const chored = Promise.all([firstRecovery, ...chores.map((chore) => chore.stop())])
      await Promise.race([chored, pause(LINGER)])
      await new Promise<void>((done) => {
        server.close(() => done())
        server.closeIdleConnections()
        // Replies are on their way by now; what is kept alive beyond them is not waited for.
        setTimeout(() => {
          server.closeAllConnections()
          // Tunnels that are being refused are not among all.
          done()
        }, LINGER).unref()
      })
      journal.close()
      database.close()
      // Last: a recovery whose reading is cut off here must find nothing left to write its verdict to.
      await Promise.all(senders.map((sender) => sender.close()))
    },
  }
}

import { readFile } from 'node:fs/promises'
import { serve } from '@hono/node-server'
import { fileURLToPath } from 'node:url'
import type { Registry } from './adapter.ts'
import { createApp } from './app.ts'
import type { AuditKeys } from './audit-keys.ts'
import type { Config } from './config.ts'
import { type Actor, createActor } from './connection.ts'
import { openLedger, registerAuditKey } from './ledger/ledger.ts'
import type { Log } from './log.ts'
import { openDatabase } from './node-database.ts'
import { createSend } from './upstream.ts'

export interface NodeGatewayOptions {
  config: Config
  registry: Registry
  keys: AuditKeys
  /** The database's path; its folder is made. */
  database: string
  /** 0 takes a free port. */
  port: number
  host: string
  log: Log
}

export interface NodeGateway {
  url: string
  close(): Promise<void>
}

/** Errors of a connection that was never made, by the codes of Node and undici. Whatever is not listed may have been sent. */
const NEVER_CONNECTED = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'UND_ERR_CONNECT_TIMEOUT',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'CERT_HAS_EXPIRED',
  'CERT_NOT_YET_VALID',
  'ERR_TLS_CERT_ALTNAME_INVALID',
  'ERR_SSL_WRONG_VERSION_NUMBER',
])

/** The code stands at the error itself or, wrapped by fetch and ofetch, at one of its causes. */
function provesUnsent(error: unknown): boolean {
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
    if ('code' in cause && NEVER_CONNECTED.has(String(cause.code))) return true
    if (cause.message === 'bad port') return true // fetch refuses some ports by itself (Fetch standard, port blocking)
    // Several addresses were tried: all of them must have failed to connect.
    if (cause instanceof AggregateError) return cause.errors.length > 0 && cause.errors.every(provesUnsent)
  }
  return false
}

const REFERENCE_SCRIPT = new URL('browser/standalone.js', import.meta.resolve('@scalar/api-reference'))

/** Starts the gateway in this process: every connection's actor and one database. */
export async function startNodeGateway(options: NodeGatewayOptions): Promise<NodeGateway> {
  const { config, registry, keys, log } = options
  const database = openDatabase(options.database)
  if (!registerAuditKey(database.db, keys)) {
    database.close()
    throw new Error(
      `AUDIT_KEY is not the key ${keys.id} that this database was written with; give a new key a new id: "${keys.id + 1}:<base64>"`,
    )
  }
  const ledger = openLedger(database.db, database.commit)
  const send = createSend(fetch, provesUnsent)
  const actors = new Map<string, Actor>(
    [...config.connections.values()].map((connection) => [
      connection.name,
      createActor(connection, { registry, ledger, keys, send, log }),
    ]),
  )
  const app = createApp({
    config,
    registry,
    actor: (name) => actors.get(name),
    events: async (filter) => ledger.events(filter),
    async readiness() {
      try {
        ledger.probe()
        return []
      } catch (error) {
        return [`the database cannot be read: ${error instanceof Error ? error.message : 'unknown fault'}`]
      }
    },
    referenceScript: () => readFile(fileURLToPath(REFERENCE_SCRIPT)),
    addressOf: (environment) =>
      (environment as { incoming?: { socket?: { remoteAddress?: string } } } | undefined)?.incoming?.socket
        ?.remoteAddress ?? null,
    log,
  })

  const { promise: listening, resolve, reject } = Promise.withResolvers<number>()
  const server = serve({ fetch: app.fetch, port: options.port, hostname: options.host }, ({ port }) =>
    resolve(port),
  )
  server.once('error', reject)
  const port = await listening
  const host = options.host.includes(':') ? `[${options.host}]` : options.host
  return {
    url: `http://${host}:${port}`,
    async close() {
      await new Promise<void>((done) => {
        server.close(() => done())
        if ('closeIdleConnections' in server) server.closeIdleConnections()
      })
      database.close()
    },
  }
}

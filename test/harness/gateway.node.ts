import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, inject } from 'vitest'
import { registry as providers } from '../../adapters/index.ts'
import { readConfig } from '../../src/config/read.ts'
import { type AuditKeyText, deriveAuditKeys } from '../../src/lib/keyed-digests.ts'
import { openLog } from '../../src/lib/log.ts'
import type { Registry } from '../../src/model/adapter.ts'
import { type NodeGateway, startNodeGateway } from '../../src/node/gateway.ts'
import type { Patience } from '../../src/node/server.ts'
import { configuration, environment } from './configuration.ts'
import type { Runtime } from './differences.ts'
import { home } from './home.ts'

export const runtime: Runtime = 'node'

/** The key of every test gateway, so that fingerprints can be computed by a test. */
export const auditKey = { id: 1, bytes: Buffer.alloc(32, 7) }

export interface TestGateway extends NodeGateway {
  database: string
  /** Every line that the gateway has logged. */
  logged: string[]
}

export async function startTestGateway(
  document: object = configuration(inject('sandbox'), `${inject('issuers')}/node`, inject('limited').node),
  more: {
    registry?: Registry
    database?: string
    env?: Record<string, string>
    key?: AuditKeyText
    patience?: Partial<Patience>
  } = {},
): Promise<TestGateway> {
  const registry = more.registry ?? providers
  const config = readConfig(JSON.stringify(document), { ...environment, ...more.env }, registry)
  if (!config.ok) throw new Error(JSON.stringify(config.faults))
  const logged: string[] = []
  const folder = mkdtempSync(join(tmpdir(), 'gateway-'))
  const database = more.database ?? join(folder, 'gateway.db')
  const gateway = await startNodeGateway({
    config: config.value,
    registry,
    keys: deriveAuditKeys(more.key ?? auditKey),
    home,
    database,
    port: 0,
    host: '127.0.0.1',
    log: openLog('debug', (line) => void logged.push(line)),
    ...(more.patience && { patience: more.patience }),
  })
  return {
    ...gateway,
    database,
    logged,
    async close() {
      await gateway.close()
      rmSync(folder, { recursive: true })
    },
  }
}

let gateway: TestGateway

/** Starts the gateway that the suite of this file talks to. */
export function useGateway(): void {
  const folder = mkdtempSync(join(tmpdir(), 'gateway-'))
  beforeAll(async () => {
    gateway = await startTestGateway(undefined, { database: join(folder, 'gateway.db') })
  })
  afterAll(async () => {
    await gateway.close()
    rmSync(folder, { recursive: true })
  })
}

/** The gateway of this file goes on with another configuration. */
export async function reconfigure(document: object): Promise<void> {
  const { database } = gateway
  await gateway.close()
  gateway = await startTestGateway(document, { database })
}

/** One request over HTTP to the gateway of this file. */
export const gatewayFetch = (path: string, init?: RequestInit): Promise<Response> =>
  fetch(gateway.url + path, init)

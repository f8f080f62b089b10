import { readFileSync } from 'node:fs'
import { registry } from '../adapters/index.ts'
import { deriveAuditKeys, parseAuditKey } from './audit-keys.ts'
import { readConfig } from './config.ts'
import { type Level, logLevels, openLog } from './log.ts'
import { startNodeGateway } from './node-gateway.ts'

/** Prints every fault of the surroundings at once, by name and never by value, and ends the process. */
function refuseToStart(faults: string[]): never {
  process.stderr.write(faults.map((fault) => `${fault}\n`).join(''))
  process.exit(1)
}

const { env } = process
const faults: string[] = []

const level = env['LOG_LEVEL'] ?? 'info'
if (!(logLevels as readonly string[]).includes(level))
  faults.push(`LOG_LEVEL is none of ${logLevels.join(', ')}`)

const port = Number(env['PORT'] ?? 8787)
if (!Number.isInteger(port) || port < 0 || port > 65535) faults.push('PORT is no port number')

const auditKey = parseAuditKey(env['AUDIT_KEY'] ?? '')
if (!auditKey) faults.push('AUDIT_KEY must be 32 bytes in base64; make one with: openssl rand -base64 32')

function readFileOrFault(name: string): string {
  const path = env[name]
  if (!path) {
    faults.push(`${name} must name the configuration file`)
    return ''
  }
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    faults.push(`${name} names a file that cannot be read (${(error as NodeJS.ErrnoException).code})`)
    return ''
  }
}
const text = readFileOrFault('GATEWAY_CONFIG')
const config = text === '' ? undefined : readConfig(text, env, registry)
if (config && !config.ok)
  faults.push(...config.faults.map(({ path, detail }) => `configuration ${path}: ${detail}`))

if (faults.length > 0 || !auditKey || !config?.ok) refuseToStart(faults)

const log = openLog(level as Level, (line) => void process.stdout.write(line))
try {
  const gateway = await startNodeGateway({
    config: config.value,
    registry,
    keys: deriveAuditKeys(auditKey),
    database: env['DATABASE'] ?? 'data/gateway.db',
    port,
    host: env['HOST'] ?? '127.0.0.1',
    log,
  })
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      log.info('stopping', { signal })
      void gateway.close().then(() => process.exit(0))
    })
  }
  log.info('listening', { url: gateway.url, connections: [...config.value.connections.keys()].join(' ') })
} catch (error) {
  refuseToStart([error instanceof Error ? error.message : 'unknown fault'])
}

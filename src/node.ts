import { readFileSync } from 'node:fs'
import { registry } from '../adapters/index.ts'
import { readSettings } from './config/settings.ts'
import { openLog } from './lib/log.ts'
import { onAskedToEnd } from './node/ending.ts'
import { startNodeGateway } from './node/gateway.ts'
import { harden } from './node/hardening.ts'

/** Prints every fault of the surroundings at once, by name and never by value, and ends the process. */
function refuseToStart(faults: string[]): never {
  process.stderr.write(faults.map((fault) => `${fault}\n`).join(''))
  process.exit(1)
}

const { env } = process
const ownFaults = harden(process)

const port = Number(env['PORT'] ?? 8787)
if (!Number.isInteger(port) || port < 0 || port > 65535) ownFaults.push('PORT is no port number')

function readDocument(): string | undefined {
  const path = env['GATEWAY_CONFIG']
  if (!path) {
    ownFaults.push('GATEWAY_CONFIG must name the configuration file')
    return undefined
  }
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    ownFaults.push(`GATEWAY_CONFIG names a file that cannot be read (${code})`)
    return undefined
  }
}

const { level, faults, settings } = readSettings(env, readDocument(), registry, true)
if (ownFaults.length > 0 || !settings) refuseToStart([...ownFaults, ...faults])

/** Lines of one turn of the event loop, which are written together. */
let lines = ''
function writeLines(): void {
  process.stdout.write(lines)
  lines = ''
}
// What is left when the process ends in the middle of a turn.
process.once('exit', writeLines)

const log = openLog(level, (line) => {
  if (lines === '') setImmediate(writeLines)
  lines += line
})
try {
  const gateway = await startNodeGateway({
    ...settings,
    registry,
    // Of the sources and of what was built of them alike.
    home: new URL('..', import.meta.url),
    database: env['DATABASE'] ?? 'data/gateway.db',
    port,
    host: env['HOST'] ?? '127.0.0.1',
    log,
  })
  let isStopping = false
  onAskedToEnd(process, (by) => {
    log.info('stopping', { by, again: isStopping })
    if (isStopping) return
    isStopping = true
    void gateway.close().then(() => process.exit(0))
  })
  log.info('listening', { url: gateway.url, connections: [...settings.config.connections.keys()].join(' ') })
} catch (error) {
  refuseToStart([error instanceof Error ? error.message : 'unknown fault'])
}

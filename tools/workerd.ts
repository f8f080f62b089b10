import { openLog } from '../src/lib/log.ts'
import { onAskedToEnd } from '../src/node/ending.ts'
import { harden } from '../src/node/hardening.ts'
import { startWorker, variablesIn } from './worker-process.ts'

// Serves what `npm run worker:check` has built. GATEWAY_CONFIG holds the configuration itself, as on Cloudflare; STORAGE is
// a folder. Upstreams must be in public networks, unless ALLOW_NETWORKS names others: `private`, `local` or CIDR blocks.
const { env } = process
// Certificates are workerd's own matter: it knows no switch for them.
harden(process)
const log = openLog('info', (line) => void process.stdout.write(line))
const stop = new AbortController()
onAskedToEnd(process, () => stop.abort())
try {
  const { url, child } = await startWorker({
    bundle: 'dist/worker',
    assets: 'dist/assets',
    storage: env['STORAGE'] ?? 'data/workerd',
    variables: variablesIn(env),
    host: env['HOST'] ?? '127.0.0.1',
    port: Number(env['PORT'] ?? 8787),
    stop: stop.signal,
    lost: (fault) => log.error('storage is at fault, nothing is written; restart', { fault }),
    networks: ['public', ...(env['ALLOW_NETWORKS'] ?? '').split(/[\s,]+/).filter(Boolean)],
  })
  // Not piped: that would stop when nobody reads it any more, and workerd would wait with what it has to say.
  child.stdout?.on('data', (lines) => void process.stdout.write(lines))
  child.stderr?.on('data', (lines) => void process.stderr.write(lines))
  const { status } = await fetch(`${url}/health/ready`)
  if (status === 200) {
    child.once('close', (code) => process.exit(code ?? 1))
    log.info('listening', { url })
  } else {
    // The Worker has told every fault of its environment by now.
    child.once('close', () => process.exit(1))
    child.kill()
  }
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : 'unknown fault'}\n`)
  process.exit(1)
}

import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { configuration, environment } from '../demo/configuration.ts'
import { buildWorker, copyProject } from '../test/harness/worker-bundle.ts'
import { startWorker } from '../tools/worker-process.ts'
import { cpuOf } from './cpu.ts'
import { type Bench, quantile } from './figure.ts'

// What a new instance of the Worker costs before it answers, beside one that does nothing. Linux tells the CPU time.
const STARTS = 21
const PROFILES = 7

const EMPTY = `import { DurableObject } from 'cloudflare:workers'
export class Connection extends DurableObject {}
export default { fetch: () => new Response('{}') }
`

/** Starts workerd, asks once, and ends it: the CPU time from its start to its first answer. */
async function firstAnswer(
  folder: string,
  bundle: string,
  variables: Record<string, string>,
): Promise<number> {
  const storage = mkdtempSync(join(folder, 'storage-'))
  const { url, child } = await startWorker({
    bundle,
    assets: join(folder, 'dist/assets'),
    storage,
    variables,
    host: '127.0.0.1',
    port: 0,
    networks: ['public'],
  })
  const ended = once(child, 'close')
  child.stdout?.resume()
  try {
    const answer = await fetch(`${url}/health/live`)
    await answer.text()
    if (answer.status !== 200) throw new Error(`/health/live answered ${answer.status}`)
    return cpuOf(child.pid as number)
  } finally {
    child.kill('SIGKILL')
    await ended
  }
}

/** What V8 was busy with while it ran the Worker's global scope, as wrangler profiles it. */
function profiledMs(folder: string): number {
  const file = join(folder, 'startup.cpuprofile')
  execFileSync('wrangler', ['check', 'startup', '--outfile', file], { stdio: 'ignore', timeout: 60_000 })
  const { nodes, samples, timeDeltas } = JSON.parse(readFileSync(file, 'utf8')) as {
    nodes: { id: number; callFrame: { functionName: string } }[]
    samples: number[]
    timeDeltas: number[]
  }
  const idle = new Set(
    nodes.filter(({ callFrame }) => callFrame.functionName === '(idle)').map(({ id }) => id),
  )
  const busy = samples.map((id, index) => (idle.has(id) ? 0 : (timeDeltas[index] ?? 0)))
  return busy.reduce((sum, one) => sum + one, 0) / 1000
}

function spread(values: number[]): string {
  const [middle, least, most] = [0.5, 0, 1].map((share) => quantile(values, share).toFixed(0))
  return `${middle} ms (${least} to ${most})`
}

export const startup: Bench = async (tell) => {
  const folder = copyProject()
  try {
    await buildWorker(folder)
    const empty = join(folder, 'empty')
    mkdirSync(empty)
    writeFileSync(join(empty, 'worker.js'), EMPTY)
    const nowhere = 'https://provider.example'
    const urls = { commerceLayer: nowhere, commerceLayerAuth: nowhere, discue: nowhere, apinizer: nowhere }
    const variables = {
      ...environment,
      GATEWAY_CONFIG: JSON.stringify(configuration(urls, 'no caller has this key')),
      AUDIT_KEY: randomBytes(32).toString('base64'),
    }
    const spent = { gateway: [] as number[], empty: [] as number[] }
    for (let start = 0; start < STARTS; start++) {
      tell(`start ${start + 1} of ${STARTS}`)
      spent.empty.push(await firstAnswer(folder, empty, {}))
      spent.gateway.push(await firstAnswer(folder, join(folder, 'dist/worker'), variables))
    }
    tell('profiles')
    const profiled = Array.from({ length: PROFILES }, () => profiledMs(folder))
    const bench = 'start-up, workerd'
    const how = `CPU of workerd from its start to its first answer, ${STARTS} starts in turn`
    return [
      { bench, what: `${how}: the gateway`, measured: spread(spent.gateway) },
      { bench, what: `${how}: a Worker that does nothing`, measured: spread(spent.empty) },
      {
        bench,
        what: `busy samples of the global scope's profile (wrangler check startup), ${PROFILES} times; Cloudflare allows 1 s`,
        measured: spread(profiled),
        goal: { text: 'at most 1000 ms', met: quantile(profiled, 0.5) <= 1000 },
      },
    ]
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

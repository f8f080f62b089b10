import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { type Sandbox, startSandbox } from '../../sandbox/server.ts'
import { type Disguise, disguise } from '../harness/canary-disguise.ts'
import { canaryText, canaryToken, searchFor } from '../harness/canary-search.ts'
import { configuration, environment, keys, sha256 } from '../harness/configuration.ts'
import { controlOf, type Json } from '../harness/sandbox-calls.ts'

// A gateway ends, in every way that a process can, while secrets are on their way; what it leaves behind tells none.
// Dumps of its memory (a core, a heap snapshot) hold everything and are nobody's to read.

const secret = canaryText()
const told = canaryText()
const adminKey = `cgw_admin_${canaryToken()}`
const auditKey = randomBytes(32)

const children = new Set<ChildProcess>()
let folder: string
let sandbox: Sandbox
let front: Disguise
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'canary-crash-'))
  sandbox = await startSandbox({ limits: 'off' })
  front = await disguise(sandbox.urls)
})
afterAll(async () => {
  for (const child of children) child.kill('SIGKILL')
  front.close()
  await sandbox.close()
  rmSync(folder, { recursive: true })
})

/** Gives the process faults of its own, each on a signal. */
const FAULTS = `data:text/javascript,${encodeURIComponent(
  `process.on('SIGHUP', () => { throw new Error('planted') })
   process.on('SIGWINCH', () => { void Promise.reject(new Error('planted')) })`,
)}`

/** Everything that an operator can have Node tell about a process, short of its memory. */
const talkative = (reports: string): string[] => [
  '--report-on-signal',
  '--report-uncaught-exception',
  '--report-on-fatalerror',
  `--report-directory=${reports}`,
  '--trace-uncaught',
  '--trace-warnings',
  '--trace-exit',
  '--stack-trace-limit=200',
]

interface Way {
  flags: (folder: string) => string[]
  /** Sent while a change is under way, in this order. */
  signals: NodeJS.Signals[]
  /** How many diagnostic reports there are at the end. */
  reports: number
  /** What the process says when it ends. */
  says: string
}

const ways: Record<string, Way> = {
  'an uncaught exception': { flags: () => [], signals: ['SIGHUP'], reports: 0, says: 'Error: planted' },
  'an uncaught exception that aborts': {
    flags: () => ['--abort-on-uncaught-exception'],
    signals: ['SIGHUP'],
    reports: 0,
    says: 'Error: planted',
  },
  'an abort from outside': { flags: () => [], signals: ['SIGABRT'], reports: 0, says: '' },
  'an unhandled rejection, with all that Node can tell': {
    flags: talkative,
    signals: ['SIGUSR2', 'SIGWINCH'],
    reports: 2,
    says: 'Error: planted',
  },
}

const filesIn = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))

const apinizer = () => controlOf(sandbox.urls.apinizer)

test.concurrent.each(Object.entries(ways))('%s', { timeout: 60_000 }, async (name, way) => {
  const home = join(folder, name)
  const reports = join(home, 'reports')
  mkdirSync(reports, { recursive: true })
  const configured = join(home, 'gateway.json')
  const document = JSON.stringify(configuration(front.urls)).replace(sha256(keys.admin), sha256(adminKey))
  writeFileSync(configured, document)
  const env = {
    ...environment,
    ...front.env,
    AUDIT_KEY: auditKey.toString('base64'),
    GATEWAY_CONFIG: configured,
    DATABASE: join(home, 'gateway.db'),
    PORT: '0',
    LOG_LEVEL: 'debug',
    NODE_COMPILE_CACHE: join(folder, 'compiled'),
    // Not `net` and `stream`, which print what goes over the wire.
    NODE_DEBUG: way.flags === talkative ? 'http,undici,fetch,tls' : '',
  }
  const program = fileURLToPath(new URL('../../src/node.ts', import.meta.url))
  const args = [...way.flags(reports), '--import', FAULTS, program]
  // The shell forbids a core, for an abort would leave one.
  const child = spawn('sh', ['-c', 'ulimit -c 0; exec "$0" "$@"', process.execPath, ...args], {
    cwd: home,
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 50_000,
    killSignal: 'SIGKILL',
  })
  children.add(child)
  const said = { out: '', err: '' }
  const ended = once(child, 'close')
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said.err += text))
  const url = await new Promise<string>((resolve, reject) => {
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said.out += text
      const listening = /"message":"listening".*"url":"([^"]+)"/.exec(said.out)
      if (listening?.[1]) resolve(listening[1])
    })
    void ended.then(() => reject(new Error(`ended: ${said.err}`)))
  })

  const put = async (project: string, connection: string) => {
    await apinizer().mint('credential', `${project}/svc`, { password: told })
    return fetch(`${url}/credentials/${connection}:${project}:svc`, {
      method: 'PUT',
      headers: { 'x-api-key': adminKey, 'content-type': 'application/json' },
      body: JSON.stringify({ secret, description: 'After' }),
    }).then(
      ({ status }) => status,
      () => 'cut',
    )
  }
  const project = `Crash${Object.keys(ways).indexOf(name)}`
  expect(await put(`${project}before`, 'apinizer-login')).toBe(200)
  await apinizer().fault({ delayAfterMs: 20_000 }, { match: { method: 'PUT', path: `${project}/` } })
  const reply = put(project, 'apinizer')
  const isUnderWay = async () =>
    (await apinizer().requests()).some(
      ({ method, path }: Json) => method === 'PUT' && path.includes(`${project}/`),
    )
  await vi.waitUntil(isUnderWay, { timeout: 20_000 })

  for (const [index, signal] of way.signals.entries()) {
    child.kill(signal)
    // A report is written before the process is sent its end.
    if (index + 1 < way.signals.length)
      await vi.waitUntil(() => readdirSync(reports).length === index + 1, { timeout: 20_000 })
  }
  const [code, signal] = await ended
  children.delete(child)
  expect(code === 0).toBe(false)
  expect([code, signal]).not.toEqual([null, 'SIGKILL'])
  expect(await reply).toBe('cut')
  expect(said.err).toContain(way.says)
  expect(readdirSync(reports)).toHaveLength(way.reports)

  const search = searchFor({
    'a secret that a caller sends': secret,
    'a secret that the provider tells': told,
    'the key of a caller': adminKey.slice(-43),
    'the audit key': auditKey,
    'the audit key in base64': auditKey.toString('base64'),
    ...front.env,
    ...Object.fromEntries(front.tokens.map((token, at) => [`token ${at}`, token])),
  })
  expect(front.tokens.length).toBeGreaterThan(0)
  expect([said.out, said.err].flatMap(search)).toEqual([])
  const files = filesIn(home)
  expect(files).toContain(join(home, 'gateway.db-wal'))
  const leaks = files.flatMap((file) => search(readFileSync(file)).map((leak) => `${file}: ${leak}`))
  expect(leaks).toEqual([])
})

import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Sandbox } from '../../sandbox/server.ts'
import { PROGRAM } from '../../tools/build.ts'
import { campaignMs } from '../faults/scale.ts'
import { configuration, environment } from './configuration.ts'
import type { Json } from './sandbox-calls.ts'

export const AUDIT_KEY = randomBytes(32).toString('base64')

export const programOf = (path: string): string => fileURLToPath(new URL(path, import.meta.url))

export interface Ending {
  code: number | null
  signal: NodeJS.Signals | null
}

/** A gateway in a process of its own, on whatever runtime. */
export interface Running {
  url: string
  pid: number
  /** Ends it at once, as a crash does. */
  kill(): Promise<void>
  /** Asks it to stop, as a supervisor does. */
  stop(): Promise<Ending & { ms: number }>
}

export interface GatewayProcess extends Running {
  /** What it has logged as a warning or an error. */
  complaints: Json[]
  ended: Promise<Ending>
  /** Resolves when it has taken notice that it shall stop. */
  stopping: Promise<void>
}

/** Where one gateway lives through all of its starts: its configuration and what it stores. */
export interface AnyHome {
  start(): Promise<Running>
  /** The files that hold the audit. */
  databases(): string[]
  /** Kills what still runs and removes the folder. */
  leave(): Promise<void>
}

export interface Home extends AnyHome {
  folder: string
  database: string
  /** What its process finds in its environment. */
  environment: Record<string, string>
  start(): Promise<GatewayProcess>
  /** A start that is expected to fail: how it ended and what it said. */
  startInVain(): Promise<Ending & { said: string }>
}

export interface DocumentOptions {
  /** Of every connection. Milliseconds. */
  deadlineMs?: number
  /** Callers and connections besides those of the test configuration. */
  callers?: object[]
  connections?: Record<string, object>
}

export interface HomeOptions extends DocumentOptions {
  /** Where the database shall be, if not in the home's own folder. */
  databaseFolder?: string
  /** A shell's words before the program, such as a trap. */
  prelude?: string
  /** After which a process that nobody ended counts as left behind, and is killed. Milliseconds. */
  longestLife?: number
}

/** A line of the log. The last one before a crash may be cut. */
function entryIn(line: string): Json {
  try {
    return JSON.parse(line)
  } catch {
    return { level: 'INFO', message: line }
  }
}

/** The test configuration as text, with what a home asks for beyond it. */
export function documentOf(urls: Sandbox['urls'], options: DocumentOptions): string {
  const { deadlineMs = 5000, callers = [], connections = {} } = options
  const document: Json = configuration(urls)
  Object.assign(document.connections, connections)
  for (const connection of Object.values<Json>(document.connections)) connection.deadlineMs = deadlineMs
  document.callers.push(...callers)
  return JSON.stringify(document)
}

export function makeHome(urls: Sandbox['urls'], options: HomeOptions = {}): Home {
  const { prelude = '', longestLife = campaignMs } = options
  const folder = mkdtempSync(join(tmpdir(), 'faults-'))
  const database = join(options.databaseFolder ?? folder, 'gateway.db')
  const configured = join(folder, 'gateway.json')
  writeFileSync(configured, documentOf(urls, options))
  const children = new Set<ChildProcess>()

  const env = { ...environment, AUDIT_KEY, GATEWAY_CONFIG: configured, DATABASE: database, PORT: '0' }

  function run() {
    const stdio: ['ignore', 'pipe', 'pipe'] = ['ignore', 'pipe', 'pipe']
    const bounds = { timeout: longestLife, killSignal: 'SIGKILL' } as const
    // `exec`: the shell's place is taken by the gateway, so that signals and the process id are the gateway's own.
    const child = prelude
      ? spawn('sh', ['-c', `${prelude}; exec "$0" "$1"`, process.execPath, PROGRAM], {
          env,
          stdio,
          ...bounds,
        })
      : spawn(process.execPath, [PROGRAM], { env, stdio, ...bounds })
    children.add(child)
    let said = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text))
    const ended = once(child, 'close').then(([code, signal]): Ending => {
      children.delete(child)
      return { code, signal }
    })
    return { child, ended, said: () => said }
  }

  async function start(): Promise<GatewayProcess> {
    const { child, ended, said } = run()
    const complaints: Json[] = []
    const listening = Promise.withResolvers<string>()
    const stopping = Promise.withResolvers<void>()
    createInterface({ input: child.stdout }).on('line', (line) => {
      const entry = entryIn(line)
      if (entry.message === 'listening') listening.resolve(entry.url)
      if (entry.message === 'stopping') stopping.resolve()
      if (entry.level !== 'INFO') complaints.push(entry)
    })
    void ended.then(({ code, signal }) =>
      listening.reject(new Error(`the gateway ended with ${code ?? signal}: ${said()}`)),
    )
    const url = await listening.promise
    const stopWith = async (signal: NodeJS.Signals) => {
      const asked = performance.now()
      child.kill(signal)
      return { ...(await ended), ms: performance.now() - asked }
    }
    return {
      url,
      pid: child.pid ?? 0,
      complaints,
      ended,
      stopping: stopping.promise,
      kill: async () => void (await stopWith('SIGKILL')),
      stop: () => stopWith('SIGTERM'),
    }
  }

  return {
    folder,
    database,
    environment: env,
    databases: () => [database],
    start,
    async startInVain() {
      const { ended, said } = run()
      return { ...(await ended), said: said() }
    },
    async leave() {
      await Promise.all(
        [...children].map(async (child) => {
          const gone = once(child, 'close')
          child.kill('SIGKILL')
          await gone
        }),
      )
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

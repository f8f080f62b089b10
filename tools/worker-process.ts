import { type ChildProcess, spawn } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join, relative, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import Database from 'better-sqlite3'

// Runs the Worker's bundle in workerd itself: the same objects with the same guarantees, without Cloudflare's network.

const projectFile = (path: string): string => fileURLToPath(new URL(`../${path}`, import.meta.url))

/** The runtime that wrangler brings: where its binary is, and its version. */
export const workerd = createRequire(import.meta.url)('workerd') as { default: string; version: string }

/** Never to be changed: where an object's storage lies is derived from it. */
const NAMESPACE = 'credential-gateway-connections'

export interface WorkerSettings {
  /** Of `wrangler deploy --dry-run --outdir`. */
  bundle: string
  /** Of the script of the API reference. */
  assets: string
  /** Where the objects keep their databases; made where it does not exist. */
  storage: string
  /** What the Worker finds in its environment. */
  variables: Record<string, string>
  /** A name or an address to listen at. */
  host: string
  /** 0 takes a free one. */
  port: number
  /** Networks that upstreams may be in, in workerd's words: `public`, `private`, `local` or CIDR blocks. */
  networks: readonly string[]
  /** Ends it, also while it starts. */
  stop?: AbortSignal
  /** Told what has become of the storage, once. */
  lost?(fault: string): void
}

export interface WorkerProcess {
  url: string
  child: ChildProcess
}

/** The objects' databases: one per connection that was ever asked for, and one that belongs to none. */
export function databasesIn(storage: string): string[] {
  const folder = join(storage, NAMESPACE)
  return readdirSync(folder)
    .filter((file) => /^[0-9a-f]{64}\.sqlite$/.test(file))
    .map((file) => join(folder, file))
}

/** The names that `{ "env": "NAME" }` refers to anywhere in the configuration. */
function referencesIn(configuration: string): string[] {
  const names = new Set<string>()
  JSON.parse(configuration, (key, value) => {
    if (key === 'env' && typeof value === 'string') names.add(value)
    return value
  })
  return [...names]
}

/** What the gateway needs of an environment, and nothing else of it. */
export function variablesIn(
  environment: Readonly<Record<string, string | undefined>>,
): Record<string, string> {
  const parts = ['GATEWAY_CONFIG']
  while (environment[`GATEWAY_CONFIG_${parts.length + 1}`]) parts.push(`GATEWAY_CONFIG_${parts.length + 1}`)
  const names = [...parts, 'AUDIT_KEY', 'LOG_LEVEL']
  try {
    names.push(...referencesIn(parts.map((name) => environment[name]).join('')))
  } catch {
    // The Worker says what is wrong with it.
  }
  return Object.fromEntries(
    names.flatMap((name) => (environment[name] ? [[name, environment[name]] as const] : [])),
  )
}

/** An IPv6 address stands in brackets before a port. */
const authority = (host: string): string => (host.includes(':') ? `[${host}]` : host)

/** Text in Cap'n Proto's notation, which reads the escapes that JSON writes for names and paths. */
const quoted = (text: string): string => JSON.stringify(text)

/** The configuration as `workerd serve` reads it. It names variables and holds no value of any. */
export function workerdConfiguration(settings: WorkerSettings, folder: string, state: string): string {
  const date = /^compatibility_date = "(.+)"$/m.exec(readFileSync(projectFile('wrangler.toml'), 'utf8'))?.[1]
  if (!date) throw new Error('wrangler.toml has no compatibility date')
  const embedded = (file: string) => `embed ${quoted(relative(folder, resolve(settings.bundle, file)))}`
  const texts = readdirSync(settings.bundle).filter((file) => file.endsWith('.sql'))
  const list = (lines: string[]) => lines.map((line) => `    ${line},\n`).join('')
  return `using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "gateway", worker = .gateway),
    (name = "internet", network = (
      allow = [${settings.networks.map(quoted).join(', ')}],
      tlsOptions = (trustBrowserCas = true),
    )),
    (name = "assets", disk = ${quoted(resolve(settings.assets))}),
    (name = "state", disk = ${quoted(state)}),
    (name = "storage", disk = (path = ${quoted(resolve(settings.storage))}, writable = true)),
  ],
  sockets = [(
    name = "http",
    address = ${quoted(`${authority(settings.host)}:${settings.port}`)},
    # Only Cloudflare's edge may say where a request comes from; here it would be the client's own word.
    # The target comes as it was sent: otherwise workerd would put the Host before it, whatever that holds.
    http = (style = proxy, injectRequestHeaders = [(name = "CF-Connecting-IP")]),
    service = "gateway",
  )],
);

const gateway :Workerd.Worker = (
  compatibilityDate = ${quoted(date)},
  modules = [
${list([
  `(name = "worker.js", esModule = ${embedded('worker.js')})`,
  ...texts.map((file) => `(name = ${quoted(file)}, text = ${embedded(file)})`),
])}  ],
  bindings = [
    (name = "CONNECTIONS", durableObjectNamespace = "Connection"),
    (name = "ASSETS", service = "assets"),
    (name = "STATE", service = "state"),
${list(Object.keys(settings.variables).map((name) => `(name = ${quoted(name)}, fromEnvironment = ${quoted(name)})`))}  ],
  durableObjectNamespaces = [(className = "Connection", uniqueKey = ${quoted(NAMESPACE)}, enableSql = true)],
  durableObjectStorage = (localDisk = "storage"),
);
`
}

const pidFile = (storage: string): string => join(storage, 'workerd.pid')

/** Whether the workerd that was started last on the storage is still there: it outlives a parent that was killed. */
function isOrphaned(storage: string): boolean {
  try {
    const pid = readFileSync(pidFile(storage), 'utf8')
    process.kill(Number(pid), 0)
    // Where the system tells, another process that got its number is not taken for it.
    const commands = `/proc/${pid}/cmdline`
    return !existsSync(commands) || readFileSync(commands, 'utf8').includes('workerd')
  } catch {
    return false
  }
}

/** workerd would share a storage, and two of it would be two writers. SQLite frees the lock when this process ends. */
function own(storage: string): Database.Database {
  const lock = new Database(join(storage, 'lock'), { timeout: 0 })
  try {
    lock.exec('BEGIN EXCLUSIVE')
    if (isOrphaned(storage)) throw new Error(`its number stands in ${pidFile(storage)}`)
    return lock
  } catch (cause) {
    lock.close()
    throw new Error(`another workerd is running on ${storage}`, { cause })
  }
}

/** How often the storage is looked after. Milliseconds. */
const LOOK_EVERY = 500

/** What is missing of the databases that were there before, or is another file. Their WALs come and go with their objects. */
function watchStorage(storage: string, lost: (fault: string) => void): () => void {
  const known = new Map<string, { ino: number; size: number }>()
  const look = (): string | undefined => {
    for (const [file, before] of known) {
      const now = statSync(file, { throwIfNoEntry: false })
      if (!now) return `${file} is gone`
      if (now.ino !== before.ino) return `${file} was replaced`
      if (now.size < before.size) return `${file} is shorter than it was`
    }
    if (!existsSync(join(storage, NAMESPACE))) return known.size > 0 ? `${storage} is gone` : undefined
    for (const file of databasesIn(storage)) {
      const now = statSync(file, { throwIfNoEntry: false })
      if (now) known.set(file, { ino: now.ino, size: now.size })
    }
    return undefined
  }
  let failures = 0
  const timer = setInterval(() => {
    let fault: string | undefined
    try {
      fault = look()
      failures = 0
    } catch (error) {
      // Once it may be in the middle of being taken away; the next look says what is gone.
      failures += 1
      if (failures > 1) fault = `${storage} cannot be looked after: ${String(error)}`
    }
    if (fault === undefined) return
    clearInterval(timer)
    lost(fault)
  }, LOOK_EVERY)
  timer.unref()
  return () => clearInterval(timer)
}

/** Starts workerd and resolves when it listens. Its log is the Worker's, one JSON object per line on stdout. */
export async function startWorker(settings: WorkerSettings): Promise<WorkerProcess> {
  const { storage, variables, host } = settings
  mkdirSync(storage, { recursive: true })
  const lock = own(storage)
  const file = join(storage, 'workerd.capnp')
  // Apart from the storage, of whose loss it tells: what is at fault stands in a file that the Worker can read.
  const state = mkdtempSync(join(tmpdir(), 'workerd-'))
  writeFileSync(file, workerdConfiguration(settings, storage, state))
  // On its fourth descriptor it tells which port it took.
  const child = spawn(workerd.default, ['serve', '--control-fd=3', file], {
    env: variables,
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    // In a group of its own: Ctrl-C in a terminal reaches a whole group, and ends workerd in the middle of changes.
    ...(settings.stop && { signal: settings.stop, detached: true }),
  })
  writeFileSync(pidFile(storage), `${child.pid}`)
  const unwatch = watchStorage(storage, (fault) => {
    // Temporary folders are cleaned up after a while.
    mkdirSync(state, { recursive: true })
    writeFileSync(join(state, 'fault'), fault)
    settings.lost?.(fault)
  })
  let said = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (said = (said + text).slice(-2000)))
  const listening = Promise.withResolvers<number>()
  createInterface({ input: child.stdio[3] as Readable }).on('line', (line) => {
    const { event, port } = JSON.parse(line) as { event: string; port: number }
    if (event === 'listen') listening.resolve(port)
  })
  // Stopping it is no error of its start; `close` says how it ended.
  child.on('error', () => {})
  child.once('close', (code, signal) => {
    lock.close()
    unwatch()
    rmSync(state, { recursive: true, force: true })
    listening.reject(new Error(`workerd ended with ${code ?? signal}: ${said}`))
  })
  return { url: `http://${authority(host)}:${await listening.promise}`, child }
}

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, globSync, mkdtempSync, readFileSync, renameSync, rmSync, truncateSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, expect, inject, test } from 'vitest'
import { type Sandbox, startSandbox } from '../../sandbox/server.ts'
import { answered } from '../harness/clients.ts'
import { configuration, environment, keys } from '../harness/configuration.ts'
import { AUDIT_KEY, programOf } from '../harness/gateway-process.ts'
import { operationNamed, providersOf, writesTo } from '../harness/operations.ts'
import { until } from '../harness/waiting.ts'
import { makeWorkerHome } from '../harness/worker-home.ts'

let sandbox: Sandbox
beforeAll(async () => {
  sandbox = await startSandbox({ limits: 'off' })
})
afterAll(() => sandbox.close())

let storage: string
beforeEach(() => {
  storage = mkdtempSync(join(tmpdir(), 'faults-'))
})
const running = new Map<ChildProcess, Promise<unknown>>()
afterEach(async () => {
  // Its workerd ends with it only when it is asked to.
  for (const child of running.keys()) child.kill()
  await Promise.all(running.values())
  rmSync(storage, { recursive: true, force: true })
})

const PROGRAM = [process.execPath, programOf('../../tools/workerd.ts')]

/** The program, where the Worker has been built, or npm, which builds it first. */
function runProgram(more: Record<string, string> = {}, [command = '', ...words] = PROGRAM) {
  const child = spawn(command, words, {
    cwd: command === 'npm' ? programOf('../..') : inject('worker'),
    detached: true,
    env: {
      PATH: process.env['PATH'],
      ...environment,
      AUDIT_KEY,
      GATEWAY_CONFIG: JSON.stringify(configuration(sandbox.urls)),
      STORAGE: storage,
      PORT: '0',
      ...more,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const ended = once(child, 'close').then(([code]) => {
    running.delete(child)
    return code as number | null
  })
  running.set(child, ended)
  const listening = async () => {
    let said = ''
    child.stdout.setEncoding('utf8').on('data', (more: string) => (said += more))
    return until('it listens', () => /"url":"(.+?)"/.exec(said)?.[1])
  }
  return { child, ended, listening }
}

let last = 0
const change = async (url: string) => {
  const { mint, body } = operationNamed('discue client', providersOf(sandbox.urls))
  const headers = { 'cf-connecting-ip': '192.0.2.1' }
  return answered('PUT', url + (await mint()).path, body((last += 1)), { headers })
}

test('the program serves changes, the audit and the reference, and writes no secret', async () => {
  const { child, ended, listening } = runProgram({ ALLOW_NETWORKS: '127.0.0.0/8' })
  const url = await listening()
  expect((await change(url)).status).toBe(200)
  const { body } = await answered('GET', `${url}/audit`)
  // Nobody but Cloudflare's edge is believed where a request comes from.
  expect(body.data.map(({ actor }: { actor: object }) => actor)).toEqual(
    Array.from({ length: 2 }, () => expect.objectContaining({ caller: 'admin', address: null })),
  )
  const script = await answered('GET', `${url}/docs/reference.js`)
  expect([script.status, script.headers.get('content-type')]).toEqual([200, 'text/javascript; charset=utf-8'])
  expect(script.body.length).toBeGreaterThan(1_000_000)
  child.kill()
  expect(await ended).toBe(0)

  const files = globSync(join(storage, '**/*'), { withFileTypes: true }).filter((entry) => entry.isFile())
  const written = files.map(({ parentPath, name }) => readFileSync(join(parentPath, name), 'latin1')).join('')
  expect(written).toContain('APINIZER_TOKEN')
  for (const secret of [...Object.values(environment), ...Object.values(keys), AUDIT_KEY]) {
    expect(written).not.toContain(secret)
  }
})

test.each<[string, (database: string) => void]>([
  ['is deleted', (database) => rmSync(database)],
  [
    'is replaced',
    (database) => (copyFileSync(database, `${database}.copy`), renameSync(`${database}.copy`, database)),
  ],
  ['is truncated', (database) => truncateSync(database, 0)],
  ['loses its folder', (database) => rmSync(join(database, '..'), { recursive: true })],
])('a storage that %s takes no change any more, and the log says so', async (_, attack) => {
  const { child, ended, listening } = runProgram({ ALLOW_NETWORKS: '127.0.0.0/8' })
  let said = ''
  child.stdout.on('data', (text: string) => (said += text))
  const url = await listening()
  expect((await change(url)).status).toBe(200)
  const databases = () => globSync(join(storage, '**/*.sqlite'))
  const [database = ''] = databases()
  // It is known from the first look on.
  await pause(1500)
  attack(database)
  await until('it is not ready', async () => (await answered('GET', `${url}/health/ready`)).status === 503)
  expect(said).toContain('storage is at fault')
  expect(said).toContain(database)
  const providers = providersOf(sandbox.urls)
  const before = await writesTo(providers)
  const refused = await change(url)
  expect([refused.status, refused.body.type]).toEqual([503, '/problems/audit-unavailable'])
  expect(await writesTo(providers)).toEqual(before)
  child.kill()
  expect(await ended).toBe(0)
})

test('without ALLOW_NETWORKS no upstream on this machine is reached', async () => {
  const { child, ended, listening } = runProgram()
  const providers = providersOf(sandbox.urls)
  const before = await writesTo(providers)
  // Nobody can tell in workerd whether a request that failed has left.
  expect((await change(await listening())).status).toBe(504)
  expect(await writesTo(providers)).toEqual(before)
  child.kill()
  expect(await ended).toBe(0)
})

test.each<[NodeJS.Signals[], 'the program' | 'its whole group', 'reads' | 'has left']>([
  [['SIGTERM', 'SIGTERM'], 'the program', 'reads'],
  [['SIGINT', 'SIGTERM'], 'the program', 'reads'],
  [['SIGHUP'], 'the program', 'has left'],
  // Ctrl-C, twice, and a terminal that closes.
  [['SIGINT', 'SIGINT'], 'its whole group', 'reads'],
  [['SIGHUP'], 'its whole group', 'has left'],
])('%s to %s, whose reader %s: what runs comes to its end', async (signals, whom, reader) => {
  const { child, ended, listening } = runProgram({ ALLOW_NETWORKS: '127.0.0.0/8' })
  const url = await listening()
  const providers = providersOf(sandbox.urls)
  const { control, method, mint, body } = operationNamed('discue client', providers)
  const { path, upstream } = await mint()
  await control.fault({ delayBeforeMs: 1000 }, { match: { method, path: upstream } })
  const reply = answered('PUT', url + path, body((last += 1)))
  await until('the change is at its provider', async () =>
    (await writesTo(providers)).some((write) => write.path.includes(upstream)),
  )
  if (reader === 'has left') for (const stream of [child.stdout, child.stderr]) stream.destroy()
  const pid = child.pid as number
  for (const signal of signals) {
    process.kill(whom === 'the program' ? pid : -pid, signal)
    await pause(100)
  }
  expect((await reply).status).toBe(200)
  expect(await ended).toBe(0)
  await expect(fetch(`${url}/health/live`)).rejects.toThrow('fetch failed')
})

test.each<NodeJS.Signals>(['SIGTERM', 'SIGKILL'])('npm run start:workerd ends with %s', async (signal) => {
  const { child, listening } = runProgram({}, ['npm', 'run', 'start:workerd'])
  const url = await listening()
  child.kill(signal)
  await until('nobody answers', () =>
    fetch(`${url}/health/live`).then(
      () => false,
      () => true,
    ),
  )
})

test('an environment at fault ends the program, which says what is wrong', async () => {
  const { child, ended } = runProgram({ APINIZER_TOKEN: '', AUDIT_KEY: 'short' })
  const said = await text(child.stdout)
  expect(await ended).toBe(1)
  expect(said).toContain('names APINIZER_TOKEN, which is not set')
  expect(said).toContain('AUDIT_KEY must be 32 bytes')
})

test('a storage has one workerd, and the next one after it has ended', async () => {
  const home = makeWorkerHome(sandbox.urls, inject('worker'))
  try {
    const first = await home.start()
    await expect(home.start()).rejects.toThrow('another workerd is running')
    const second = runProgram({ STORAGE: home.folder })
    expect(await text(second.child.stderr)).toContain('another workerd is running')
    expect(await second.ended).toBe(1)
    await first.kill()
    expect((await answered('GET', `${(await home.start()).url}/health/ready`)).status).toBe(200)
  } finally {
    await home.leave()
  }
})

test('a workerd whose parent was killed is still the only one on its storage', async () => {
  const { child, ended, listening } = runProgram({ STORAGE: storage })
  await listening()
  const orphan = Number(readFileSync(join(storage, 'workerd.pid'), 'utf8'))
  try {
    child.kill('SIGKILL')
    await ended
    const second = runProgram({ STORAGE: storage })
    expect(await text(second.child.stderr)).toContain('another workerd is running')
    expect(await second.ended).toBe(1)
  } finally {
    process.kill(orphan, 'SIGKILL')
  }
})

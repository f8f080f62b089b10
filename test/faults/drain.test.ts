import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { type Sandbox, startSandbox } from '../../sandbox/server.ts'
import { answered, newTrace, type Put, type Reply, request, send } from '../harness/clients.ts'
import { keys } from '../harness/configuration.ts'
import { median, report } from '../harness/figures.ts'
import { type GatewayProcess, type Home, makeHome, programOf } from '../harness/gateway-process.ts'
import {
  appliedBy,
  clearFaults,
  type Operation,
  operationsOf,
  type Providers,
  providersOf,
  writesTo,
} from '../harness/operations.ts'
import { until } from '../harness/waiting.ts'
import { auditIn, brokenLinks, contradicted, storiesOf } from './comparison.ts'
import { campaignMs, full, scale } from './scale.ts'

const DEADLINE = 2000

let sandbox: Sandbox
let providers: Providers
let operations: Operation[]
let home: Home
let gateway: GatewayProcess
beforeAll(async () => {
  sandbox = await startSandbox({ limits: 'off' })
  providers = providersOf(sandbox.urls)
  operations = operationsOf(providers)
})
beforeEach(async () => {
  home = makeHome(sandbox.urls, { deadlineMs: DEADLINE })
  gateway = await home.start()
})
afterEach(async () => {
  await home.leave()
  await clearFaults(providers)
})
afterAll(() => sandbox.close())

let last = 0
/** Changes that are at their providers, one at each operation, under a fault that keeps them there. */
async function underWay(fault: object): Promise<{ puts: Put[]; replies: Promise<(Reply | undefined)[]> }> {
  const puts: Put[] = []
  const sent: Promise<Reply | undefined>[] = []
  for (const operation of operations) {
    const { path, upstream } = await operation.mint()
    await operation.control.fault(fault, { match: { method: operation.method, path: upstream }, times: null })
    const put = { trace: newTrace(), path, body: operation.body((last += 1)) }
    puts.push(put)
    sent.push(send(gateway.url, put))
  }
  const traces = new Set(puts.map(({ trace }) => trace))
  await until('every change is at its provider', async () => {
    const seen = (await writesTo(providers)).map(({ headers }) => headers.traceparent)
    return new Set(seen).intersection(traces).size === traces.size
  })
  return { puts, replies: Promise.all(sent) }
}

async function newPut(): Promise<Put> {
  const operation = operations[0] as Operation
  const { path } = await operation.mint()
  return { trace: newTrace(), path, body: operation.body((last += 1)) }
}

/** What was told is what happened, and nothing is between its intent and its outcome. */
async function expectConsistent(): Promise<void> {
  const events = auditIn(home.database)
  const stories = [...storiesOf(events).values()]
  expect(stories.filter(({ state }) => state === 'in_flight')).toEqual([])
  expect(contradicted(stories, await appliedBy(providers))).toEqual([])
  expect(brokenLinks(events)).toEqual([])
}

const ended = { code: 0, signal: null }

test(
  'SIGTERM: what runs gets its outcome and its reply, and nothing new is begun',
  { timeout: campaignMs },
  async () => {
    const took: number[] = []
    for (let round = 0; round < scale.drain.rounds; round++) {
      if (round > 0) gateway = await home.start()
      const { replies } = await underWay({ delayBeforeMs: 700 })
      const stopped = gateway.stop()
      const late = await newPut()
      await gateway.stopping
      const refused = await send(gateway.url, late)
      // Without an answer it is gone already, which a slow machine may see.
      if (refused) {
        expect([refused.status, refused.body.type]).toEqual([503, '/problems/not-ready'])
        expect(refused.headers.get('retry-after')).toBe('1')
        expect((await request('GET', `${gateway.url}/health/ready`))?.status ?? 503).toBe(503)
      }
      expect((await replies).map((reply) => reply?.status)).toEqual(operations.map(() => 200))
      const { ms, ...ending } = await stopped
      expect(ending).toEqual(ended)
      took.push(ms)
      expect((await appliedBy(providers)).filter(({ traceparent }) => traceparent === late.trace)).toEqual([])
      await expectConsistent()
    }
    report('drain', { rounds: took.length, 'exit after': took })
    if (full) expect(median(took)).toBeLessThan(DEADLINE + 1000)
  },
)

test.each<[string, NodeJS.Signals[]]>([
  ['a second SIGTERM', ['SIGTERM', 'SIGTERM']],
  ['SIGINT and then SIGTERM', ['SIGINT', 'SIGTERM']],
  ['SIGHUP', ['SIGHUP']],
  ['all of them, again and again', ['SIGHUP', 'SIGINT', 'SIGTERM', 'SIGINT', 'SIGHUP', 'SIGTERM']],
])('%s: what runs comes to its end all the same', { timeout: campaignMs }, async (_, signals) => {
  const { replies } = await underWay({ delayBeforeMs: 700 })
  for (const signal of signals) {
    process.kill(gateway.pid, signal)
    await gateway.stopping
  }
  expect((await replies).map((reply) => reply?.status)).toEqual(operations.map(() => 200))
  expect(await gateway.ended).toEqual(ended)
  await expectConsistent()
})

/** Whoever reads the log is gone before the process is, as when a terminal closes or a pipe breaks. */
const deaf = { reads: false }
test.each<[string, NodeJS.Signals[], { reads: boolean; group?: true; code?: number }]>([
  ['npm start', ['SIGTERM'], { reads: true, code: 0 }],
  ['npm start', ['SIGINT', 'SIGTERM'], { reads: true, code: 0 }],
  ['npm start', ['SIGHUP'], { reads: true }],
  ['npm start', ['SIGKILL'], { reads: true }],
  // Ctrl-C, twice, and a terminal that closes: everything that was started there is told.
  ['npm start', ['SIGINT', 'SIGINT'], { reads: true, group: true, code: 0 }],
  ['npm start', ['SIGHUP'], { ...deaf, group: true }],
  ['node dist/node.js', ['SIGINT'], { ...deaf, code: 0 }],
  ['node dist/node.js', ['SIGHUP', 'SIGTERM'], { ...deaf, code: 0 }],
])(
  '%s and %s, %o: what runs comes to its end, and nobody is left',
  { timeout: campaignMs },
  async (...given) => {
    const [command, signals, { reads, group, code }] = given
    await gateway.stop()
    const [program = '', ...args] = command.split(' ')
    const child = spawn(program === 'node' ? process.execPath : program, args, {
      cwd: programOf('../..'),
      env: { ...process.env, ...home.environment, npm_config_update_notifier: 'false' },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    })
    const ending = once(child, 'exit')
    let said = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => (said += text))
    child.stderr.resume()
    const url = await until('it listens', () => /"url":"(.+?)"/.exec(said)?.[1])
    const operation = operations[0] as Operation
    const { path, upstream } = await operation.mint()
    await operation.control.fault(
      { delayBeforeMs: 700 },
      { match: { method: operation.method, path: upstream } },
    )
    const put = { trace: newTrace(), path, body: operation.body((last += 1)) }
    const reply = send(url, put)
    await until('the change is at its provider', async () =>
      (await writesTo(providers)).some(({ headers }) => headers.traceparent === put.trace),
    )
    if (!reads) for (const stream of [child.stdout, child.stderr]) stream.destroy()
    for (const signal of signals) {
      process.kill(group ? -(child.pid as number) : (child.pid as number), signal)
      await pause(100)
    }
    expect((await reply)?.status).toBe(200)
    const [ended] = await ending
    if (code !== undefined) expect(ended).toBe(code)
    await until('nobody answers', async () => (await request('GET', `${url}/health/live`)) === undefined)
    await expectConsistent()
  },
)

test(
  'SIGTERM while providers are silent: every change is told as what is known',
  { timeout: campaignMs },
  async () => {
    const { replies } = await underWay({ delayBeforeMs: 2 * DEADLINE })
    const { ms, ...ending } = await gateway.stop()
    expect(ending).toEqual(ended)
    for (const reply of await replies) {
      expect([reply?.status, reply?.body.outcome]).toEqual([504, 'unknown'])
    }
    await expectConsistent()
    report('drain, silent providers', { 'exit after': [ms] })
    if (full) expect(ms).toBeLessThan(DEADLINE + 1000)
  },
)

test(
  'SIGTERM while clients hold connections without finishing a request',
  { timeout: campaignMs },
  async () => {
    const { path } = await newPut()
    const { hostname, port, host } = new URL(gateway.url)
    const head = `PUT ${path} HTTP/1.1\r\nHost: ${host}\r\nX-API-Key: ${keys.admin}\r\nContent-Type: application/json\r\n`
    // The last has its refusal, and what is left of its body is being read.
    const refused = `PUT ${path} HTTP/1.1\r\nHost: ${host}\r\nContent-Length: 5000000\r\n\r\n{`
    const begun = ['', 'PUT /ro', head, `${head}Content-Length: 20\r\n\r\n{"na`, refused]
    const sockets = begun.map((sent) => {
      const socket = connect(Number(port), hostname)
      socket.on('error', () => {})
      socket.write(sent)
      return socket
    })
    await Promise.all(sockets.map((socket) => once(socket, 'connect')))
    expect((await answered('GET', `${gateway.url}/health/ready`)).status).toBe(200)
    const { ms, ...ending } = await Promise.race([
      gateway.stop(),
      new Promise<never>((_, reject) => setTimeout(reject, 4 * DEADLINE, new Error('it does not end'))),
    ])
    for (const socket of sockets) socket.destroy()
    expect(ending).toEqual(ended)
    report('drain, unfinished requests', { 'exit after': [ms] })
    if (full) expect(ms).toBeLessThan(DEADLINE + 1000)
  },
)

test(
  'SIGTERM right after a crash, while recovery asks providers that are silent',
  { timeout: campaignMs },
  async () => {
    const { replies } = await underWay({ delayBeforeMs: 100 })
    await gateway.kill()
    await replies
    for (const { control } of operations) {
      await control.fault({ delayBeforeMs: scale.drain.silence }, { match: { method: 'GET' }, times: null })
    }
    gateway = await home.start()
    const { ms, ...ending } = await gateway.stop()
    expect(ending).toEqual(ended)
    await clearFaults(providers)
    report('drain, recovery under way', { 'exit after': [ms] })
    if (full) expect(ms).toBeLessThan(DEADLINE + 1000)

    gateway = await home.start()
    await until('every change is settled', async () => {
      const open = await answered('GET', `${gateway.url}/changes?outcome=in_flight`)
      return open.body.data.length === 0
    })
    await expectConsistent()
  },
)

import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import Database from 'better-sqlite3'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Sandbox, startSandbox } from '../../sandbox/server.ts'
import { answered, newTrace, type Put, type Reply, send } from '../harness/clients.ts'
import { median, report, tally } from '../harness/figures.ts'
import { type GatewayProcess, type Home, makeHome, programOf } from '../harness/gateway-process.ts'
import {
  appliedBy,
  clearFaults,
  mintRole,
  type Operation,
  operationsOf,
  type Providers,
  providersOf,
  writesTo,
} from '../harness/operations.ts'
import type { Json } from '../harness/sandbox-calls.ts'
import { until } from '../harness/waiting.ts'
import { auditIn, brokenLinks, contradicted, storiesOf } from './comparison.ts'
import { campaignMs, full, scale, waitMs } from './scale.ts'
import { type SmallDisk, smallDisks } from './small-disk.ts'

let sandbox: Sandbox
let providers: Providers
let operations: Operation[]
beforeAll(async () => {
  sandbox = await startSandbox({ limits: 'off' })
  providers = providersOf(sandbox.urls)
  operations = operationsOf(providers)
})
beforeEach(() => clearFaults(providers))
afterAll(() => sandbox.close())

const times = <T>(count: number, make: (n: number) => T): T[] =>
  Array.from({ length: count }, (_, n) => make(n))

let last = 0
/** A change of a new resource, at each operation in turn. */
async function newPut(keyed = false): Promise<Put & { operation: Operation; upstream: string }> {
  const n = (last += 1)
  const operation = operations[n % operations.length] as Operation
  const { path, upstream } = await operation.mint()
  const key = keyed ? { idempotencyKey: randomUUID() } : {}
  return { trace: newTrace(), path, upstream, operation, body: operation.body(n), ...key }
}

/** Changes that are applied at their providers, which do not answer before `delayAfterMs`. */
async function inFlight(gateway: GatewayProcess, count: number, delayAfterMs: number) {
  const puts = await Promise.all(times(count, () => newPut(true)))
  await Promise.all(
    puts.map(({ operation: { control, method }, upstream }) =>
      control.fault({ delayAfterMs }, { match: { method, path: upstream } }),
    ),
  )
  const sent = puts.map((put) => send(gateway.url, put))
  const traces = new Set(puts.map(({ trace }) => trace))
  await until('all are applied', async () => {
    const applied = (await appliedBy(providers)).filter(({ traceparent }) => traces.has(traceparent))
    return applied.length === count
  })
  return { puts, replies: Promise.all(sent) }
}

const problem = (reply: Reply | undefined) => [reply?.status, reply?.body.type, reply?.body.outcome]
const unavailable = [503, '/problems/audit-unavailable', undefined]
const notRecorded = [500, '/problems/outcome-not-recorded', 'applied']

/** Everything that must stay up while nothing can be written. */
async function expectReadable({ url }: GatewayProcess): Promise<void> {
  const role = await mintRole(providers)
  for (const path of ['/health/live', '/docs', '/openapi.json', '/audit', '/changes', role.path]) {
    expect([path, (await answered('GET', url + path)).status]).toEqual([path, 200])
  }
}

async function readiness({ url }: GatewayProcess): Promise<{ status: number; reasons: string[] }> {
  const { status, body } = await answered('GET', `${url}/health/ready`)
  return { status, reasons: body.reasons }
}

/** Milliseconds until a change is taken again. */
async function writesBack(gateway: GatewayProcess): Promise<number> {
  const started = performance.now()
  await until('changes are taken again', async () => {
    const reply = await send(gateway.url, await newPut())
    return reply?.status === 200
  })
  return performance.now() - started
}

/** The changes' outcomes are in the audit, once each, and the chains hold. */
async function expectRecorded(home: Home, puts: Put[]): Promise<void> {
  const events = auditIn(home.database)
  expect(brokenLinks(events)).toEqual([])
  const stories = [...storiesOf(events).values()]
  for (const { trace } of puts) {
    const story = stories.find(({ traces }) => traces.has(trace))
    expect(story?.events.map(({ type, outcome }) => [type, outcome])).toEqual([
      ['intent', null],
      ['outcome', 'applied'],
    ])
  }
  expect(contradicted(stories, await appliedBy(providers))).toEqual([])
  expect(stories.filter(({ state }) => state === 'in_flight')).toEqual([])
}

test('there is a way to fill a disk on this machine', () => {
  expect(smallDisks).not.toEqual([])
})

describe.each(smallDisks.slice(0, scale.store.disks))('a full disk: %s', (name, make) => {
  let disk: SmallDisk
  let home: Home
  let gateway: GatewayProcess
  beforeEach(async () => {
    disk = make()
    home = makeHome(sandbox.urls, { databaseFolder: disk.folder, prelude: disk.prelude })
    gateway = await home.start()
  })
  afterEach(async () => {
    await home.leave()
    disk.remove()
  })

  /** Sends changes until one is refused, then more; the writes that reached a provider after the refusal. */
  async function refuse(): Promise<Json[]> {
    await until('a change is refused', async () => {
      const reply = await send(gateway.url, await newPut())
      if (reply?.status !== 503) return false
      expect(problem(reply)).toEqual(unavailable)
      expect(reply.headers.get('retry-after')).toBe('1')
      return true
    })
    const { length } = await writesTo(providers)
    const more = await Promise.all(times(20, () => newPut()))
    const replies = await Promise.all(more.map((put) => send(gateway.url, put)))
    expect(replies.map(problem)).toEqual(times(20, () => unavailable))
    return (await writesTo(providers)).slice(length)
  }

  test(
    'refuses what is new, keeps the outcome of what was begun, and recovers by itself',
    { timeout: campaignMs },
    async () => {
      const { puts, replies } = await inFlight(gateway, scale.store.inFlight, 2000)
      disk.fill(gateway.pid)
      expect(await refuse()).toEqual([])
      expect((await replies).map(problem)).toEqual(times(puts.length, () => notRecorded))
      expect(await readiness(gateway)).toEqual({
        status: 503,
        reasons: [expect.stringContaining('database')],
      })
      await expectReadable(gateway)
      expect(await refuse()).toEqual([])

      disk.free(gateway.pid)
      const back = await writesBack(gateway)
      expect(await readiness(gateway)).toEqual({ status: 200, reasons: [] })
      await expectRecorded(home, puts)
      const { length } = await writesTo(providers)
      for (const put of puts) {
        const replay = await send(gateway.url, put)
        expect([replay?.status, replay?.headers.get('idempotency-replayed')]).toEqual([200, 'true'])
      }
      expect(await writesTo(providers)).toHaveLength(length)
      report(`store, ${name}`, {
        'in flight': puts.length,
        'outcomes kept': puts.length,
        'writes back after': [back],
      })
      if (full) expect(back).toBeLessThan(5000)
    },
  )

  test('says that it is not ready as soon as a change is refused', { timeout: campaignMs }, async () => {
    disk.fill(gateway.pid)
    expect(await refuse()).toEqual([])
    expect(await readiness(gateway)).toEqual({ status: 503, reasons: [expect.stringContaining('database')] })
    disk.free(gateway.pid)
    await writesBack(gateway)
    expect(await readiness(gateway)).toEqual({ status: 200, reasons: [] })
  })

  test('keeps outcomes through a crash', { timeout: campaignMs }, async () => {
    const { puts, replies } = await inFlight(gateway, scale.store.inFlight, 2000)
    disk.fill(gateway.pid)
    expect((await replies).map(problem)).toEqual(times(puts.length, () => notRecorded))
    await gateway.kill()
    disk.free(process.pid)
    const back: number[] = []
    for (let start = 0; start < scale.store.starts; start++) {
      gateway = await home.start()
      back.push(await writesBack(gateway))
      await expectRecorded(home, puts)
      await gateway.kill()
    }
    report(`store, ${name}, after a crash`, { starts: back.length, 'writes back after': back })
  })
})

describe('a lock that another process holds', () => {
  const deadlineMs = 1500
  /** What a sick store may add to it. */
  const graceMs = 1250
  let home: Home
  let gateway: GatewayProcess
  beforeEach(async () => {
    home = makeHome(sandbox.urls, { deadlineMs })
    gateway = await home.start()
  })
  afterEach(() => home.leave())

  /** Another process, started beforehand: what takes a lock in the middle of a change must not first be started. */
  async function lockHolder() {
    const holder = spawn(process.execPath, [programOf('../faults/lock-holder.ts'), home.database], {
      stdio: ['pipe', 'pipe', 'inherit'],
      timeout: waitMs,
      killSignal: 'SIGKILL',
    })
    const released = once(holder, 'close')
    await once(holder.stdout, 'data')
    return {
      /** Resolves when it has the database's write lock. */
      async hold(milliseconds: number): Promise<{ released: Promise<unknown> }> {
        holder.stdin.write(`${milliseconds}`)
        await once(holder.stdout, 'data')
        return { released }
      },
    }
  }
  const lock = async (milliseconds: number) => (await lockHolder()).hold(milliseconds)

  /** The slowest of the answers that come until `end`: the event loop was blocked no longer than that. */
  async function slowestAnswer(end: Promise<unknown>): Promise<number> {
    let over = false
    void end.then(() => (over = true))
    const latencies = [0]
    await until('the lock is released', async () => {
      latencies.push((await answered('GET', `${gateway.url}/health/live`)).ms)
      return over
    })
    return Math.max(...latencies)
  }

  test('refuses changes and blocks nothing', { timeout: campaignMs }, async () => {
    const slowest: number[] = []
    const refusedAfter: number[] = []
    for (let round = 0; round < scale.store.locks; round++) {
      const { released } = await lock(scale.store.lockMs)
      const { length } = await writesTo(providers)
      const watched = slowestAnswer(released)
      const replies = await Promise.all(times(4, async () => send(gateway.url, await newPut())))
      expect(replies.map(problem)).toEqual(times(4, () => unavailable))
      refusedAfter.push(...replies.map((reply) => reply?.ms ?? Infinity))
      expect(await writesTo(providers)).toHaveLength(length)
      await expectReadable(gateway)
      slowest.push(await watched)
      await writesBack(gateway)
    }
    report('store, locked', {
      rounds: slowest.length,
      'slowest answer meanwhile': slowest,
      'refused after': refusedAfter,
    })
    if (full) {
      expect(median(slowest)).toBeLessThan(100)
      expect(median(refusedAfter)).toBeLessThan(deadlineMs + graceMs)
    }
  })

  test('a short one is waited for', async () => {
    const holder = await lockHolder()
    const { puts, replies } = await inFlight(gateway, 5, 600)
    const { released } = await holder.hold(200)
    const waiting = send(gateway.url, await newPut())
    await released
    expect((await waiting)?.status).toBe(200)
    expect(tally((await replies).map((reply) => reply?.status ?? 0))).toEqual({ 200: puts.length })
    await expectRecorded(home, puts)
  })

  test('a long one does not lose outcomes', { timeout: campaignMs }, async () => {
    const holder = await lockHolder()
    const { puts, replies } = await inFlight(gateway, 5, 600)
    const { released } = await holder.hold(scale.store.lockMs)
    expect((await replies).map(problem)).toEqual(times(puts.length, () => notRecorded))
    expect(problem(await send(gateway.url, await newPut()))).toEqual(unavailable)
    expect((await readiness(gateway)).status).toBe(503)
    await released
    await writesBack(gateway)
    await expectRecorded(home, puts)
  })

  // It judges times, so it belongs to the full form only.
  if (full)
    test('does not hold up a change that is tried again', { timeout: campaignMs }, async () => {
      await home.leave()
      const deadlineMs = 1500
      home = makeHome(sandbox.urls, { deadlineMs })
      gateway = await home.start()
      const late: number[] = []
      for (let round = 0; round < scale.store.locks; round++) {
        const role = await mintRole(providers)
        const match = { method: 'PATCH', path: role.upstream }
        await providers.commerceLayer.fault({ delayAfterMs: 800, status: 500 }, { match, times: null })
        const holder = await lockHolder()
        const sent = answered('PUT', gateway.url + role.path, { name: 'Late' })
        await until('the write is under way', async () =>
          (await writesTo(providers)).some(({ path }) => path.includes(role.upstream)),
        )
        const { released } = await holder.hold(4000)
        const reply = await sent
        expect(problem(reply)).toEqual([500, '/problems/outcome-not-recorded', 'unknown'])
        late.push(reply.ms - deadlineMs)
        await released
        await writesBack(gateway)
      }
      report('store, locked while a change is tried again', { 'reply after its deadline': late })
      expect(median(late)).toBeLessThan(graceMs)
    })
})

describe('the database of a running gateway', () => {
  let home: Home
  let gateway: GatewayProcess
  beforeEach(async () => {
    home = makeHome(sandbox.urls)
    gateway = await home.start()
  })
  afterEach(() => home.leave())

  test('is refused to a second gateway until the first is gone, however it went', async () => {
    for (const end of ['SIGKILL', 'SIGTERM'] as const) {
      const { code, said } = await home.startInVain()
      expect(code).toBe(1)
      expect(said).toBe(
        `another gateway process is running on ${home.database}; stop it first, or give this one another DATABASE\n`,
      )
      expect((await send(gateway.url, await newPut()))?.status).toBe(200)
      if (end === 'SIGKILL') await gateway.kill()
      else await gateway.stop()
      gateway = await home.start()
      expect((await send(gateway.url, await newPut()))?.status).toBe(200)
    }
  })

  test('can be read, copied and backed up while changes are made', async () => {
    const puts: Put[] = []
    const done = new AbortController()
    async function client(): Promise<void> {
      while (!done.signal.aborted) {
        const put = await newPut()
        puts.push(put)
        await send(gateway.url, put)
      }
    }
    const busy = client()
    await until('changes are made', () => puts.some(({ reply }) => reply))
    const copies = [join(home.folder, 'vacuumed.db'), join(home.folder, 'backup.db')] as const
    const reader = new Database(home.database, { readonly: true })
    try {
      for (let round = 0; round < 5; round++) {
        await pause(20)
        const [row] = reader.prepare('SELECT count(*) AS events FROM audit').all() as [{ events: number }]
        expect(row.events).toBeGreaterThan(0)
      }
      reader.prepare('VACUUM INTO ?').run(copies[0])
      await reader.backup(copies[1])
    } finally {
      done.abort()
      reader.close()
    }
    await busy
    expect(tally(puts.map(({ reply }) => reply?.status ?? 0))).toEqual({ 200: puts.length })
    for (const copy of copies) {
      const events = auditIn(copy)
      expect(events.length).toBeGreaterThan(0)
      expect(brokenLinks(events)).toEqual([])
    }
    expect(gateway.complaints.map(({ message }) => message)).toEqual(['database made, for there was none'])
  })
})

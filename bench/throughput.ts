import { createHash, randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { median } from '../test/harness/figures.ts'
import type { Job } from './contenders/generator.ts'
import { cpuOf, memoryOf } from './cpu.ts'
import { type Bench, type Figure, quantile } from './figure.ts'
import { type Generator, type Program, startGateway, startGenerator, startProgram } from './program.ts'

// The gateway beside what would be used instead of it, each in a process of its own, against the same upstream. All of
// them share the machine with the upstream and with what makes the load; nothing is pinned to a core. The contenders take
// turns, so that what the machine does to one it does to all; what counts is the median of each round's ratio.
const ROUNDS = 7
const SECONDS = 4
const CONNECTIONS = 32
const IDS = 1000
const CONSTANT = { perSecond: 200 }
const CONSTANT_SECONDS = 8
const LATENCY_ROUNDS = 5
const UPSTREAM_DELAY = 5
/** Under full load, of each: until then V8 still compiles, in a service that has run for a while it does not. Seconds. */
const WARM_UP = 16

const GOALS = { proxy: 1, afternoon: 2, forwarder: 0.65 }
const ADDED = { p50: 1.5, p99: 8 }

type Name = 'forwarder' | 'proxy' | 'afternoon' | 'gateway'
const told: Record<Name, string> = {
  forwarder: 'bare node:http and undici',
  proxy: '@fastify/http-proxy',
  afternoon: 'Hono, ofetch, a row of SQLite',
  gateway: 'the gateway',
}
const names = Object.keys(told) as Name[]

const key = `cgw_bench_${randomBytes(32).toString('base64url')}`
export const HEADERS = { 'content-type': 'application/json', 'x-api-key': key }

/** What the gateway is started with: Discue connections, and one caller who may do everything. */
export function gatewayEnvironment(
  folder: string,
  upstream: string,
  connections = ['discue'],
): Record<string, string> {
  const file = join(folder, 'gateway.json')
  const connection = { provider: 'discue', baseUrl: upstream, apiKey: { env: 'DISCUE_API_KEY' } }
  const document = {
    connections: Object.fromEntries(connections.map((name) => [name, connection])),
    callers: [
      {
        name: 'bench',
        keys: [{ id: 'bench', sha256: createHash('sha256').update(key).digest('hex'), expiresAt: null }],
        allow: [{ actions: ['read', 'write', 'audit'], kinds: ['credential'], ids: ['*'], fields: ['*'] }],
      },
    ],
  }
  writeFileSync(file, JSON.stringify(document))
  return {
    GATEWAY_CONFIG: file,
    AUDIT_KEY: randomBytes(32).toString('base64'),
    DISCUE_API_KEY: 'discue-key',
    DATABASE: join(folder, 'gateway.db'),
    PORT: '0',
  }
}

async function startAll(folder: string, upstream: string): Promise<Record<Name, Program>> {
  const beside = (name: Name, args: string[] = []) =>
    startProgram({
      file: `contenders/${name}.ts`,
      args: [upstream, ...args],
      log: join(folder, `${name}.log`),
    })
  return {
    forwarder: await beside('forwarder'),
    proxy: await beside('proxy'),
    afternoon: await beside('afternoon', [join(folder, 'afternoon.db')]),
    gateway: await startGateway(gatewayEnvironment(folder, upstream), join(folder, 'gateway.log')),
  }
}

const prefixOf = (name: Name | 'direct'): string =>
  name === 'gateway' || name === 'afternoon' ? '/credentials/discue:' : '/api_clients/'

async function within<T>(
  delayMs: number,
  measure: (generator: Generator, all: Record<Name, Program>, upstream: string) => Promise<T>,
): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'bench-'))
  const generator = startGenerator()
  const running: Program[] = []
  try {
    const upstream = await startProgram({
      file: 'contenders/upstream.ts',
      args: [String(delayMs)],
      log: join(folder, 'upstream.log'),
    })
    running.push(upstream)
    const all = await startAll(folder, upstream.url)
    running.push(...Object.values(all))
    return await measure(generator, all, upstream.url)
  } finally {
    await generator.end()
    await Promise.all(running.map((program) => program.end()))
    rmSync(folder, { recursive: true, force: true })
  }
}

interface Round {
  perSecond: number
  cpuMicroseconds: number
}

/** As fast as each goes, in turn. */
async function race(tell: (progress: string) => void) {
  const rounds: Record<Name, Round>[] = []
  let memory = { now: 0, most: 0 }
  await within(0, async (generator, all) => {
    async function run(name: Name, seconds: number): Promise<Round> {
      const { url, pid } = all[name]
      const before = cpuOf(pid)
      const load = { connections: CONNECTIONS }
      const job = { origin: url, prefix: prefixOf(name), headers: HEADERS, ids: IDS, seconds, load }
      const measured = await generator.run(job)
      if (measured.failures > 0) throw new Error(`${measured.failures} replies of ${told[name]} were not 200`)
      return {
        perSecond: measured.requests / measured.seconds,
        cpuMicroseconds: ((cpuOf(pid) - before) * 1000) / measured.requests,
      }
    }
    for (const name of names) await run(name, WARM_UP)
    for (let n = 0; n < ROUNDS; n++) {
      const round = {} as Record<Name, Round>
      // Each begins a round in its turn.
      for (let at = 0; at < names.length; at++) {
        const name = names[(at + n) % names.length] as Name
        round[name] = await run(name, SECONDS)
      }
      rounds.push(round)
      const shown = names.map((name) => `${name} ${round[name].perSecond.toFixed(0)}/s`).join(', ')
      tell(`round ${n + 1} of ${ROUNDS}: ${shown}`)
    }
    memory = memoryOf(all.gateway.pid)
  })
  return { rounds, memory }
}

/** What each adds to a direct call, of requests that are far apart. */
async function latencies(tell: (progress: string) => void) {
  const rounds: Record<Name, { p50: number; p99: number }>[] = []
  await within(UPSTREAM_DELAY, async (generator, all, upstream) => {
    async function run(name: Name | 'direct', seconds: number, load: Job['load'] = CONSTANT) {
      const origin = name === 'direct' ? upstream : all[name].url
      const job = { origin, prefix: prefixOf(name), headers: HEADERS, ids: IDS, seconds, load }
      const { times, failures } = await generator.run(job)
      if (failures > 0) throw new Error(`${failures} replies of ${name} were not 200`)
      return { p50: quantile(times, 0.5), p99: quantile(times, 0.99) }
    }
    for (const name of ['direct', ...names] as const) await run(name, WARM_UP, { connections: CONNECTIONS })
    for (let n = 0; n < LATENCY_ROUNDS; n++) {
      const direct = await run('direct', CONSTANT_SECONDS)
      const round = {} as Record<Name, { p50: number; p99: number }>
      for (let at = 0; at < names.length; at++) {
        const name = names[(at + n) % names.length] as Name
        const { p50, p99 } = await run(name, CONSTANT_SECONDS)
        round[name] = { p50: p50 - direct.p50, p99: p99 - direct.p99 }
      }
      rounds.push(round)
      const shown = names.map(
        (name) => `${name} ${round[name].p50.toFixed(1)} and ${round[name].p99.toFixed(1)} ms`,
      )
      tell(`added, round ${n + 1} of ${LATENCY_ROUNDS}: p50 and p99 of ${shown.join(', ')}`)
    }
  })
  return rounds
}

export const throughput: Bench = async (tell) => {
  const bench = 'throughput'
  const { rounds, memory } = await race(tell)
  const added = await latencies(tell)
  const figures: Figure[] = []
  for (const name of names) {
    const speeds = rounds.map((round) => round[name].perSecond)
    const cpu = rounds.map((round) => round[name].cpuMicroseconds)
    figures.push({
      bench,
      what: `${told[name]}: Discue PUT, ${CONNECTIONS} connections, ${IDS} ids, ${ROUNDS} rounds of ${SECONDS} s`,
      measured: `${median(speeds).toFixed(0)}/s, ${median(cpu).toFixed(0)} µs CPU a request`,
    })
  }
  for (const [other, goal] of Object.entries(GOALS) as [keyof typeof GOALS, number][]) {
    const ratios = rounds.map((round) => round.gateway.perSecond / round[other].perSecond)
    const each = ratios.map((ratio) => ratio.toFixed(2)).join(', ')
    figures.push({
      bench,
      what: `throughput of the gateway over ${told[other]}, median (each round)`,
      measured: `${median(ratios).toFixed(2)} (${each})`,
      goal: { text: `at least ${goal.toFixed(2)}`, met: median(ratios) >= goal },
    })
  }
  for (const name of names) {
    for (const share of ['p50', 'p99'] as const) {
      const value = median(added.map((round) => round[name][share]))
      figures.push({
        bench,
        what: `${told[name]}: ${share} added to a direct call at ${CONSTANT.perSecond}/s, upstream of ${UPSTREAM_DELAY} ms`,
        measured: `${value.toFixed(2)} ms`,
        ...(name === 'gateway' && {
          goal: { text: `at most ${ADDED[share]} ms`, met: value <= ADDED[share] },
        }),
      })
    }
  }
  figures.push({
    bench,
    what: 'memory of the gateway (RSS), the most under this load',
    measured: `${memory.most.toFixed(0)} MB`,
    goal: { text: 'at most 200 MB', met: memory.most <= 200 },
  })
  return figures
}

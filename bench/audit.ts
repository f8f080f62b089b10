import { randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openLedger, registerAuditKey } from '../src/ledger/ledger.ts'
import type { Entry, Ledger } from '../src/ledger/types.ts'
import { newId } from '../src/lib/id.ts'
import { deriveAuditKeys, parseAuditKey } from '../src/lib/keyed-digests.ts'
import type { Outcome } from '../src/model/enums.ts'
import { type NodeDatabase, openDatabase } from '../src/node/database.ts'
import { median } from '../test/harness/figures.ts'
import { home } from '../test/harness/home.ts'
import { silent } from '../test/harness/silent-log.ts'
import { memoryOf } from './cpu.ts'
import { type Bench, type Figure, quantile } from './figure.ts'
import { type Program, startGateway } from './program.ts'
import { gatewayEnvironment, HEADERS } from './throughput.ts'

// What a long audit costs: appends, pages and exports of databases that differ in their length alone. They are filled
// through the ledger itself, so that they hold what the gateway would have written.
const FEW = 10_000
const SIZES = process.env['BENCH'] === 'full' ? [FEW, 1_000_000, 5_000_000] : [FEW, 1_000_000]
const GROWTH = 1.1
const PAGE_MS = 50
const EXPORT_PER_SECOND = 50_000
/** Growth of memory from the first tenth of an export to its end, and of all of the process. Megabytes. */
const EXPORT_MEMORY = 200

/** Changes that are written together. */
const TOGETHER = 500
/** Batches of appends that are timed, after as many that are not, and events in each: few beside the shortest audit. */
const BATCHES = 50
const BATCH = 32
const PAGES = 40

const CONNECTIONS = ['discue', 'discue-eu', 'discue-us', 'discue-old']
const CALLERS = ['bench', 'billing', 'rotation', 'operations', 'console']
const RESOURCES = 1000
const KEY = randomBytes(32).toString('base64')

const pick = <T>(list: readonly T[], n: number): T => list[n % list.length] as T

/** The two entries of the nth change. */
function entriesOf(n: number): [Entry, Entry] {
  const connection = pick(CONNECTIONS, n)
  const draft = {
    changeId: newId(),
    actor: { caller: pick(CALLERS, n), key: 'k1', address: '192.0.2.7' },
    alias: null,
    kind: 'credential' as const,
    resource: `${connection}:client-${String(n % RESOURCES).padStart(6, '0')}`,
    fields: { name: { action: 'set' as const, to: `example.com/${n}` } },
    widens: false,
    reason: null,
    requestId: newId(),
  }
  const upstream = { method: 'PUT', path: `/api_clients/${n}`, traceparent: newId() }
  const outcome: Outcome = n % 50 === 0 ? 'rejected' : 'applied'
  return [
    { connection, draft: { ...draft, type: 'intent', outcome: null, upstream } },
    {
      connection,
      draft: {
        ...draft,
        type: 'outcome',
        outcome,
        upstream: { ...upstream, status: 200, attempts: 1, durationMs: 5 },
      },
      applied: { values: { name: `example.com/${n}` }, secretChanged: false },
    },
  ]
}

interface Store {
  size: number
  /** When the first event was written, and the last. Epoch milliseconds. */
  began: number
  ended: number
  folder: string
  database: NodeDatabase
  ledger: Ledger
  /** Changes so far. */
  changes: number
}

async function openStore(folder: string, size: number, tell: (progress: string) => void): Promise<Store> {
  const own = join(folder, String(size))
  mkdirSync(own)
  const database = openDatabase(join(own, 'gateway.db'), silent, home)
  const key = parseAuditKey(KEY)
  if (!key) throw new Error('the audit key is none')
  registerAuditKey(database.db, deriveAuditKeys(key))
  const ledger = openLedger(database.db, database.commit)
  const now = Date.now()
  const store = { size, began: now, ended: now, folder: own, database, ledger, changes: 0 }
  while (store.changes * 2 < size) {
    await append(store, TOGETHER)
    if ((store.changes * 2) % 250_000 === 0) tell(`${store.changes * 2} of ${size} events`)
  }
  store.ended = Date.now()
  return store
}

/** Both events of so many changes, in two transactions. */
async function append(store: Store, changes: number): Promise<void> {
  const { ledger } = store
  const entries = Array.from({ length: changes }, (_, index) => entriesOf(store.changes + index))
  await Promise.all(entries.map(([intent]) => ledger.append(intent)))
  await Promise.all(entries.map(([, outcome]) => ledger.append(outcome)))
  store.changes += changes
}

/** Microseconds of an append, of each store in turn, so that what the machine does to one it does to all. */
async function timeAppends(stores: Store[]): Promise<number[][]> {
  const rounds: number[][] = []
  for (let n = 0; n < BATCHES; n++) {
    const round: number[] = []
    for (const store of stores) {
      const started = performance.now()
      await append(store, BATCH / 2)
      round.push(((performance.now() - started) * 1000) / BATCH)
    }
    rounds.push(round)
  }
  return rounds
}

const PAGE_QUERIES = [
  '',
  'connection=discue-eu',
  'provider=discue',
  'actor=billing',
  'outcome=rejected',
  'resource=discue:client-000004',
  'outcome=rejected&connection=discue',
  'actor=bench&provider=discue',
]

async function get(url: string, accept = 'application/json'): Promise<Response> {
  const response = await fetch(url, { headers: { ...HEADERS, accept } })
  if (response.status !== 200) throw new Error(`${url} answered ${response.status}: ${await response.text()}`)
  return response
}

/** Milliseconds of pages all over the audit, by list and filter. */
async function timePages({ url }: Program, span: { from: number; to: number }) {
  const times = new Map<string, number[]>()
  for (const path of ['/audit', '/changes']) {
    for (const query of PAGE_QUERIES) {
      const taken: number[] = []
      for (let n = 0; n < PAGES; n++) {
        const until = new Date(span.from + ((span.to - span.from) * (n + 1)) / PAGES).toISOString()
        const started = performance.now()
        await (await get(`${url}${path}?${query}${query && '&'}until=${until}`)).arrayBuffer()
        taken.push(performance.now() - started)
      }
      times.set(`${path}?${query}`, taken)
    }
  }
  return times
}

/** Reads the whole audit as NDJSON: events a second, and what it did to the gateway's memory. */
async function timeExport({ url, pid }: Program, events: number) {
  const started = performance.now()
  const { body } = await get(`${url}/audit`, 'application/x-ndjson')
  let lines = 0
  let early = 0
  let most = 0
  for await (const chunk of body?.values() ?? []) {
    for (let at = chunk.indexOf(10); at !== -1; at = chunk.indexOf(10, at + 1)) lines += 1
    const { now } = memoryOf(pid)
    if (lines < events / 10) early = Math.max(early, now)
    most = Math.max(most, now)
  }
  if (lines !== events) throw new Error(`the export has ${lines} lines for ${events} events`)
  return { perSecond: (lines * 1000) / (performance.now() - started), early, most }
}

async function figuresOf(store: Store, tell: (progress: string) => void): Promise<Figure[]> {
  const bench = `audit of ${store.size.toLocaleString('en')} events`
  store.database.close()
  const env = { ...gatewayEnvironment(store.folder, 'http://127.0.0.1:9', CONNECTIONS), AUDIT_KEY: KEY }
  const gateway = await startGateway(env, join(store.folder, 'gateway.log'))
  try {
    const span = { from: store.began, to: store.ended }
    await timePages(gateway, span)
    const pages = await timePages(gateway, span)
    const p99s = [...pages].map(([query, times]) => ({ query, p99: quantile(times, 0.99) }))
    const worst = p99s.toSorted((a, b) => b.p99 - a.p99)[0] ?? { query: '', p99: Number.NaN }
    const all = quantile([...pages.values()].flat(), 0.99)
    tell(`${bench}: p99 of a page ${all.toFixed(1)} ms`)
    const exported = await timeExport(gateway, store.changes * 2)
    tell(`${bench}: ${exported.perSecond.toFixed(0)} events a second exported`)
    return [
      {
        bench,
        what: `p99 of a page of 50, ${pages.size} lists and filters, ${PAGES} places each; the slowest of them`,
        measured: `${all.toFixed(1)} ms; ${worst.p99.toFixed(1)} ms (${worst.query.replaceAll('&', ' & ')})`,
        goal: { text: `at most ${PAGE_MS} ms`, met: worst.p99 <= PAGE_MS },
      },
      {
        bench,
        what: 'export as NDJSON over HTTP',
        measured: `${exported.perSecond.toFixed(0)} events/s`,
        goal: {
          text: `at least ${EXPORT_PER_SECOND} events/s`,
          met: exported.perSecond >= EXPORT_PER_SECOND,
        },
      },
      {
        bench,
        what: 'memory of the gateway (RSS) during it: in its first tenth, and at the most',
        measured: `${exported.early.toFixed(0)} MB, ${exported.most.toFixed(0)} MB`,
        goal: { text: `at most ${EXPORT_MEMORY} MB`, met: exported.most <= EXPORT_MEMORY },
      },
    ]
  } finally {
    await gateway.end()
  }
}

export const audit: Bench = async (tell) => {
  const folder = mkdtempSync(join(tmpdir(), 'bench-'))
  try {
    const stores: Store[] = []
    for (const size of SIZES) stores.push(await openStore(folder, size, tell))
    await timeAppends(stores)
    const rounds = await timeAppends(stores)
    const figures: Figure[] = stores.map(({ size }, index) => {
      const own = rounds.map((round) => round[index] ?? Number.NaN)
      const growth = median(rounds.map((round) => (round[index] ?? Number.NaN) / (round[0] ?? Number.NaN)))
      return {
        bench: `audit of ${size.toLocaleString('en')} events`,
        what: `an append, ${BATCH / 2} in a transaction, ${BATCHES} rounds in turn; over that at ${FEW} to ${FEW + 2 * BATCHES * BATCH}, median of ratios`,
        measured: `${median(own).toFixed(0)} µs; ${growth.toFixed(2)}`,
        ...(size > FEW && { goal: { text: `at most ${GROWTH.toFixed(2)}`, met: growth <= GROWTH } }),
      }
    })
    for (const store of stores) figures.push(...(await figuresOf(store, tell)))
    return figures
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

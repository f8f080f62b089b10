import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterAll, afterEach, beforeAll, beforeEach, expect, inject, test } from 'vitest'
import journal from '../../migrations/meta/_journal.json' with { type: 'json' }
import { type Sandbox, startSandbox } from '../../sandbox/server.ts'
import { answered, newTrace, type Reply, request, send } from '../harness/clients.ts'
import { report, tally } from '../harness/figures.ts'
import {
  appliedBy,
  clearFaults,
  operationNamed,
  operationsOf,
  type OperationName,
  type Providers,
  providersOf,
} from '../harness/operations.ts'
import type { Json } from '../harness/sandbox-calls.ts'
import { until } from '../harness/waiting.ts'
import { buildWorker, copyProject } from '../harness/worker-bundle.ts'
import { makeWorkerHome, type WorkerHome } from '../harness/worker-home.ts'
import { auditIn, brokenLinks, contradicted, storiesOf } from './comparison.ts'
import { campaignMs, full } from './scale.ts'

// What only workerd can show. That it loses nothing in crashes and hang-ups stands beside Node's in their own suites.

const migrations = journal.entries

let sandbox: Sandbox
let providers: Providers
let home: WorkerHome
beforeAll(async () => {
  sandbox = await startSandbox({ limits: 'off' })
  providers = providersOf(sandbox.urls)
})
beforeEach(() => {
  home = makeWorkerHome(sandbox.urls, inject('worker'))
})
afterEach(async () => {
  await home.leave()
  await clearFaults(providers)
})
afterAll(() => sandbox.close())

let last = 0
/** Every change differs from all others: Discue takes a name once. */
const next = (): number => (last += 1)

/** What every object that has any answers to a query, whether or not workerd runs. */
function stored(query: string): Json[] {
  return home.databases().flatMap((file) => {
    const sqlite = new Database(file, { readonly: true })
    try {
      return sqlite.prepare(query).all()
    } finally {
      sqlite.close()
    }
  })
}

const RECOVERABLE: [OperationName, string][] = [
  ['commerce layer role', 'applied'],
  ['discue client', 'needs_attention'],
]

test(
  'after a crash the alarm settles what is open, without any request',
  { timeout: campaignMs },
  async () => {
    let gateway = await home.start()
    const sent: Promise<Reply | undefined>[] = []
    for (const [name] of RECOVERABLE) {
      const { control, method, mint, body } = operationNamed(name, providers)
      const { path, upstream } = await mint()
      await control.fault({ delayAfterMs: 60_000 }, { match: { method, path: upstream } })
      const trace = newTrace()
      sent.push(send(gateway.url, { trace, path, body: body(next()) }))
      await until('the change is applied', async () =>
        (await appliedBy(providers)).some(({ traceparent }) => traceparent === trace),
      )
    }
    await gateway.kill()
    expect(await Promise.all(sent)).toEqual([undefined, undefined])
    const states = () => stored('SELECT state FROM changes').map(({ state }) => state)
    expect(states()).toEqual(['in_flight', 'in_flight'])

    const started = performance.now()
    gateway = await home.start()
    await until('the changes are settled', () => !states().includes('in_flight'))
    const took = performance.now() - started
    expect(await gateway.stop()).toMatchObject({ code: 0 })

    const events = auditIn(...home.databases())
    expect(states().toSorted()).toEqual(RECOVERABLE.map(([, state]) => state))
    expect(contradicted(storiesOf(events).values(), await appliedBy(providers))).toEqual([])
    expect(brokenLinks(events)).toEqual([])
    report('alarm after a crash on workerd', { 'until settled': [took] })
    if (full) expect(took).toBeLessThan(10_000)
  },
)

/** As many requests as one object sees at its first moment. */
const CROWD = 100

/** Changes that the crowd makes at once, one resource each. */
async function crowdAt(url: string): Promise<(number | undefined)[]> {
  const { mint, body } = operationNamed('discue client', providers)
  const targets = await Promise.all(Array.from({ length: CROWD }, mint))
  const replies = targets.map(({ path }) => request('PUT', url + path, body(next())))
  return (await Promise.all(replies)).map((reply) => reply?.status)
}
const allServed = Array.from({ length: CROWD }, () => 200)

const migrationsRun = () =>
  stored('SELECT count(*) AS runs FROM __drizzle_migrations').map(({ runs }) => runs)

test(`${CROWD} first requests at once are all served by an object that is migrated once`, async () => {
  const gateway = await home.start()
  expect(await crowdAt(gateway.url)).toEqual(allServed)
  await gateway.stop()
  expect(new Set(migrationsRun())).toEqual(new Set([migrations.length]))
  const events = auditIn(...home.databases())
  expect(tally([...storiesOf(events).values()].map(({ state }) => state))).toEqual({ applied: CROWD })
  expect(brokenLinks(events)).toEqual([])
})

/** A copy of the project with one migration more, which leaves a row with how many events it found. */
async function buildSuccessor(): Promise<string> {
  const project = copyProject()
  const at = (file: string) => join(project, 'migrations', file)
  const idx = migrations.length
  const when = (migrations.at(-1)?.when ?? 0) + 1
  const added = { idx, when, version: '6', tag: 'next', breakpoints: true }
  writeFileSync(at('meta/_journal.json'), JSON.stringify({ entries: [...migrations, added] }))
  writeFileSync(
    at('next.sql'),
    'CREATE TABLE found (events integer);\n--> statement-breakpoint\nINSERT INTO found SELECT count(*) FROM audit;\n',
  )
  const index = readFileSync(at('migrations.js'), 'utf8')
  const name = `m${String(idx).padStart(4, '0')}`
  writeFileSync(
    at('migrations.js'),
    `import ${name} from './next.sql'\n${index.replace('migrations: {', `migrations: { ${name},`)}`,
  )
  await buildWorker(project)
  return project
}

test(
  'a new version migrates what the old one has stored, once, and keeps it',
  { timeout: campaignMs },
  async () => {
    const building = buildSuccessor()
    let gateway = await home.start()
    for (const { mint, body } of operationsOf(providers)) {
      expect((await answered('PUT', gateway.url + (await mint()).path, body(next()))).status).toBe(200)
    }
    await gateway.stop()
    const before = auditIn(...home.databases())
    const connections = [...new Set(before.map(({ connection }) => connection))]
    expect(connections).toHaveLength(3)

    const successor = await building
    try {
      for (let start = 0; start < 2; start++) {
        gateway = await home.start(successor)
        expect(await crowdAt(gateway.url)).toEqual(allServed)
        const told = await answered('GET', `${gateway.url}/audit?limit=1000`)
        expect(told.body.data).toHaveLength(before.length + (start + 1) * 2 * CROWD)
        await gateway.stop()
        const found = stored('SELECT events FROM found').map(({ events }) => events as number)
        expect(found.filter((events) => events > 0).toSorted()).toEqual(
          connections.map((name) => before.filter(({ connection }) => connection === name).length).toSorted(),
        )
        expect(new Set(migrationsRun())).toEqual(new Set([migrations.length + 1]))
      }
      const after = auditIn(...home.databases())
      expect(after.filter(({ id }) => before.some((event) => event.id === id))).toEqual(before)
      expect(brokenLinks(after)).toEqual([])
    } finally {
      rmSync(successor, { recursive: true, force: true })
    }
  },
)

import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Sandbox, startSandbox } from '../../sandbox/server.ts'
import { newTrace, type Put, send } from '../harness/clients.ts'
import { DEADLINE, FOR_LONG, kindsOf, SILENCE } from '../harness/fault-kinds.ts'
import { median, report, tally } from '../harness/figures.ts'
import { type GatewayProcess, type Home, makeHome } from '../harness/gateway-process.ts'
import {
  appliedBy,
  type Operation,
  operationNames,
  operationsOf,
  type Providers,
  providersOf,
  writesTo,
} from '../harness/operations.ts'
import type { Json } from '../harness/sandbox-calls.ts'
import { pool } from '../harness/waiting.ts'
import { auditIn, brokenLinks, contradicted, storiesOf, type Story } from './comparison.ts'
import { campaignMs, full, scale } from './scale.ts'

interface Task {
  label: string
  run(): Promise<void>
}

interface Case extends Put {
  operation: Operation
  faults: string
}

let sandbox: Sandbox
let providers: Providers
let home: Home
let gateway: GatewayProcess
let operations: Operation[] = []
const cases: Case[] = []
let applied: Map<string, Json[]>
let writes: Map<string, Json[]>
let stories: Map<string, Story>
let last = 0

beforeAll(async () => {
  sandbox = await startSandbox({ limits: 'off' })
  providers = providersOf(sandbox.urls)
  operations = operationsOf(providers)
  home = makeHome(sandbox.urls, { deadlineMs: DEADLINE })
  gateway = await home.start()

  const tasks = operations.flatMap((operation) => [
    ...systematic(operation),
    ...Array.from({ length: scale.matrix.rows }, () => drawn(operation)),
  ])
  // In any order, so that a provider is not taken to be down; what holds back its whole connection comes last.
  const mixed = tasks.map((task) => ({
    ...task,
    place: Math.random() + (task.label.includes(FOR_LONG) ? 1 : 0),
  }))
  const inOrder = mixed.toSorted((a, b) => a.place - b.place)
  await pool(
    scale.matrix.concurrency,
    inOrder.map(({ run }) => run),
  )
  await pause(SILENCE)

  applied = Map.groupBy(await appliedBy(providers), ({ traceparent }) => traceparent)
  writes = Map.groupBy(await writesTo(providers), ({ headers }) => headers.traceparent)
  stories = storiesOf(auditIn(home.database))
}, campaignMs)
afterAll(async () => {
  await home.leave()
  await sandbox.close()
})

/** Every kind of fault, once and then at every attempt, at the write and at the reading before it. */
function systematic(operation: Operation): Task[] {
  return Object.entries(kindsOf(operation)).flatMap(([name, fault]) =>
    Array.from({ length: scale.matrix.repeats }, (_, n) => {
      const always = n % 2 === 1
      const reading = n % 10 === 8
      const match = reading ? { method: 'GET' } : { method: operation.method }
      const label = `${name}${always ? ', always' : ''}${reading ? ', when it is read' : ''}`
      const run = () => change(operation, label, [{ fault, match, times: always ? null : 1 }])
      return { label, run }
    }),
  )
}

/** Two to four kinds of fault in a row, drawn at random. */
function drawn(operation: Operation): Task {
  const kinds = Object.entries(kindsOf(operation))
  const row = Array.from({ length: 2 + Math.floor(Math.random() * 3) }, () => {
    const [name, fault] = kinds[Math.floor(Math.random() * kinds.length)] ?? ['none', {}]
    return { name, order: { fault, match: { method: operation.method }, times: 1 } }
  })
  const label = row.map(({ name }) => name).join(', then ')
  const orders = row.map(({ order }) => order)
  return { label, run: () => change(operation, label, orders) }
}

async function change(
  operation: Operation,
  label: string,
  orders: { fault: object; match: object; times: number | null }[],
): Promise<void> {
  const target = await operation.mint()
  const made: { id: number }[] = []
  for (const { fault, match, times } of orders) {
    made.push(await operation.control.fault(fault, { match: { ...match, path: target.upstream }, times }))
  }
  last += 1
  const one: Case = {
    operation,
    faults: label,
    trace: newTrace(),
    path: target.path,
    body: operation.body(last),
  }
  cases.push(one)
  await send(gateway.url, one)
  // What was not used up must not burden the search for the faults of others.
  for (const { id } of made) await operation.control.send('DELETE', `/faults/${id}`).catch(() => {})
}

/** What is wrong with a reply, given what really happened. */
function dishonesty({ trace, reply, faults }: Case): string[] {
  if (!reply) return [`under “${faults}” there was no reply`]
  const { status, body } = reply
  const happened = applied.has(trace)
  // A token that has run out is renewed before the attempt is made: a 401 is the end of the old token, not of an attempt.
  const attempts = (writes.get(trace) ?? []).filter((write) => write.status !== 401).length
  const claims: string = status === 200 ? 'applied' : (body.outcome ?? 'nothing')
  const wrong: string[] = []
  if (['applied', 'partial'].includes(claims) && !happened) wrong.push('and it was not applied')
  if (['rejected', 'not_sent', 'nothing'].includes(claims) && happened) wrong.push('and it was applied')
  if (/deploy.*, always$/.test(faults) && attempts > 0 && claims !== 'partial')
    wrong.push('and it was deployed nowhere')
  if (attempts > 3) wrong.push(`and it was written ${attempts} times`)

  const events = stories.get(body.changeId)?.events ?? []
  const told = events.map(({ type }) => type)
  const outcome = events.find(({ type }) => type === 'outcome')?.outcome
  const announced = told.filter((type) => type === 'intent' || type === 'attempt').length
  if (outcome !== (claims === 'nothing' ? undefined : claims)) wrong.push(`and the audit says ${outcome}`)
  if (announced < attempts) wrong.push(`and ${attempts} writes are told as ${told.join(', ')}`)
  return wrong.map((fault) => `under “${faults}” the reply ${status} says ${claims}, ${fault}`)
}

describe('a change under any fault', () => {
  test.each(operationNames)('%s: is told as what it is', (name) => {
    const own = cases.filter(({ operation }) => operation.name === name)
    const sent = own.filter(({ trace }) => writes.has(trace))
    expect(sent.length).toBeGreaterThan(50)
    expect(own.flatMap(dishonesty)).toEqual([])
    const times = own.flatMap(({ reply }) => (reply ? [reply.ms] : []))
    report(`matrix, ${name}`, {
      changes: own.length,
      replies: tally(own.map(({ reply }) => `${reply?.status} ${reply?.body.outcome ?? 'not begun'}`)),
      attempts: tally(own.map(({ trace }) => writes.get(trace)?.length ?? 0)),
      'reply after': times,
      late: times.filter((ms) => ms > DEADLINE + 250).length,
    })
    if (full) {
      for (const [kind, group] of Map.groupBy(own, ({ faults }) =>
        faults.includes(', then ') ? 'faults in a row' : faults,
      )) {
        const inTime = median(group.map(({ reply }) => reply?.ms ?? Infinity))
        expect(inTime, kind).toBeLessThan(DEADLINE + 250)
      }
    }
  })

  test('leaves chains that hold, and nothing between intent and outcome', () => {
    expect(brokenLinks(auditIn(home.database))).toEqual([])
    expect([...stories.values()].filter(({ state }) => state === 'in_flight')).toEqual([])
    expect(contradicted(stories.values(), [...applied.values()].flat())).toEqual([])
    expect(gateway.complaints.filter(({ message }) => message === 'request failed')).toEqual([])
  })
})

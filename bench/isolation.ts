import { rmSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { type Sandbox, startSandbox } from '../sandbox/server.ts'
import { request } from '../test/harness/clients.ts'
import { at } from '../test/harness/configuration.ts'
import { median, tally } from '../test/harness/figures.ts'
import { type AnyHome, type DocumentOptions, makeHome } from '../test/harness/gateway-process.ts'
import { controlOf } from '../test/harness/sandbox-calls.ts'
import { buildWorker, copyProject } from '../test/harness/worker-bundle.ts'
import { makeWorkerHome } from '../test/harness/worker-home.ts'
import { type Bench, type Figure, quantile } from './figure.ts'
import { constantLoad } from './load.ts'

// Whether a provider that says nothing is felt on other connections: all are under the same load, and the provider of one
// hangs in one round of three. What counts is how much later the other connections answer in that round.
const CONNECTIONS = 20
const RESOURCES = 8
const RATE = { perSecond: 100, seconds: 11 }
const ROUNDS = 5
const GOAL = 1.2
/** Of a change; after it nothing of a round is left. */
const DEADLINE = 4000

const names = Array.from({ length: CONNECTIONS }, (_, n) => `c${n + 1}`)
const HANGING = names[0] as string
const keyOf = (connection: string, resource: number) => `${connection}-resource-${resource}`

function connectionsAt({ discue }: Sandbox['urls']): Record<string, object> {
  const connection = { provider: 'discue', baseUrl: discue, apiKey: { env: 'DISCUE_API_KEY' } }
  return Object.fromEntries(names.map((name) => [name, at(name, connection)]))
}

/** Every connection in each run of as many requests, in a random order. */
function* inTurn(): Generator<string, never> {
  for (;;) {
    const left = [...names]
    while (left.length > 0) yield left.splice(Math.floor(Math.random() * left.length), 1)[0] as string
  }
}

interface Round {
  p50: number
  p99: number
  statuses: (number | string)[]
}

interface Trio {
  calm: Round
  hanging: Round
  again: Round
}

async function measure(
  runtime: string,
  url: string,
  urls: Sandbox['urls'],
  tell: (progress: string) => void,
) {
  const control = controlOf(urls.discue)
  for (const name of names) {
    for (let n = 0; n < RESOURCES; n++) await control.mint('api_clients', keyOf(name, n))
  }
  const order = inTurn()
  let last = 0
  async function round(hangs: boolean, seconds: number): Promise<Round> {
    if (hangs) {
      await control.fault(
        { delayBeforeMs: 60_000 },
        { match: { method: 'PUT', path: `/${HANGING}-` }, times: null },
      )
    }
    const samples = await constantLoad({ ...RATE, seconds }, () => {
      const about = order.next().value
      last += 1
      const key = keyOf(about, last % RESOURCES)
      const body = { name: `example.com/${last}` }
      return {
        about,
        send: async () => (await request('PUT', `${url}/credentials/${about}:${key}`, body))?.status,
      }
    })
    await control.send('DELETE', '/faults')
    if (hangs) await pause(DEADLINE)
    const others = samples.filter(({ about }) => about !== HANGING)
    const times = others.map(({ ms }) => ms)
    return {
      p50: quantile(times, 0.5),
      p99: quantile(times, 0.99),
      statuses: others.map(({ status }) => status ?? 'none'),
    }
  }

  await round(false, 5)
  const trios: Trio[] = []
  for (let n = 0; n < ROUNDS; n++) {
    const calm = await round(false, RATE.seconds)
    const hanging = await round(true, RATE.seconds)
    const again = await round(false, RATE.seconds)
    trios.push({ calm, hanging, again })
    const told = [calm, hanging, again].map(({ p99 }) => p99.toFixed(1)).join(', ')
    tell(`${runtime}, round ${n + 1} of ${ROUNDS}: p99 calm, one hanging, calm again: ${told} ms`)
  }
  return trios
}

function figuresOf(runtime: string, trios: Trio[]): Figure[] {
  const bench = `isolation, ${runtime}`
  const times = (pick: (trio: Trio) => Round) =>
    (['p50', 'p99'] as const)
      .map((share) => `${share} ${median(trios.map((trio) => pick(trio)[share])).toFixed(1)} ms`)
      .join(', ')
  const ratios = (pick: (trio: Trio) => Round) => trios.map((trio) => pick(trio).p99 / trio.calm.p99)
  const told = (values: number[]) =>
    `${median(values).toFixed(2)} (${values.map((one) => one.toFixed(2)).join(', ')})`
  const hanging = ratios((trio) => trio.hanging)
  const statuses = tally(
    trios.flatMap(({ calm, hanging, again }) => [...calm.statuses, ...hanging.statuses, ...again.statuses]),
  )
  const per = `${RATE.perSecond} changes a second, ${ROUNDS} rounds of ${RATE.seconds} s`
  return [
    { bench, what: `the others while nothing hangs; ${per}`, measured: times(({ calm }) => calm) },
    { bench, what: 'the others while one provider hangs', measured: times((trio) => trio.hanging) },
    {
      bench,
      what: 'replies to the others, by status',
      measured: Object.entries(statuses)
        .map(([status, count]) => `${status}: ${count}`)
        .join(', '),
      goal: { text: 'only 200', met: Object.keys(statuses).join() === '200' },
    },
    {
      bench,
      what: 'p99 with one hanging over p99 without, median (each round)',
      measured: told(hanging),
      goal: { text: `at most ${GOAL.toFixed(2)}`, met: median(hanging) <= GOAL },
    },
    {
      bench,
      what: 'the same of two rounds in which nothing hangs: what the machine itself does to it',
      measured: told(ratios(({ again }) => again)),
    },
  ]
}

export const isolation: Bench = async (tell) => {
  const project = copyProject()
  try {
    await buildWorker(project)
    const figures: Figure[] = []
    const runtimes: [string, (urls: Sandbox['urls'], options: DocumentOptions) => AnyHome][] = [
      ['workerd', (urls, options) => makeWorkerHome(urls, project, options)],
      ['Node', (urls, options) => makeHome(urls, { ...options, longestLife: 900_000 })],
    ]
    for (const [runtime, make] of runtimes) {
      const sandbox = await startSandbox({ limits: 'off' })
      const home = make(sandbox.urls, { deadlineMs: DEADLINE, connections: connectionsAt(sandbox.urls) })
      try {
        const { url } = await home.start()
        figures.push(...figuresOf(runtime, await measure(runtime, url, sandbox.urls, tell)))
      } finally {
        await home.leave()
        await sandbox.close()
      }
    }
    return figures
  } finally {
    rmSync(project, { recursive: true, force: true })
  }
}

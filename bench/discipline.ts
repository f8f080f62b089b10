import { setTimeout as pause } from 'node:timers/promises'
import { startSandbox } from '../sandbox/server.ts'
import { type Reply, request } from '../test/harness/clients.ts'
import { at } from '../test/harness/configuration.ts'
import { median, tally } from '../test/harness/figures.ts'
import { makeHome } from '../test/harness/gateway-process.ts'
import { controlOf, type Json } from '../test/harness/sandbox-calls.ts'
import { type Bench, type Figure, quantile } from './figure.ts'
import { constantLoad } from './load.ts'

// How much of what a provider lets through is used while twice as much is asked for, and what becomes of callers and of
// the other connections while a provider is down. The sandbox counts by itself, and would answer 429.
const ALLOWED = {
  writes: [
    { requests: 40, seconds: 2 },
    { requests: 30, seconds: 1 },
  ],
  reads: [
    { requests: 400, seconds: 2 },
    { requests: 300, seconds: 1 },
  ],
  tokens: [{ requests: 30, seconds: 60 }],
}
const PER_SECOND = 20
const OVERLOAD = { perSecond: 2 * PER_SECOND, seconds: 30 }
/** After the start, when the windows are full, until the end of the load. Milliseconds. */
const SETTLED = 6000

const OUTAGE = { failing: 200, other: 50, calm: 20, dead: 60, after: 20 }
/** Requests that are sent before the circuit opens, those under way by then, and one trial in each pause. */
const MOST_ATTEMPTS = 10 + 64 + 20
const DEADLINE = 4000

const told = (statuses: readonly (string | number | undefined)[]) =>
  Object.entries(tally(statuses.map((status) => status ?? 'none')))
    .map(([status, count]) => `${status}: ${count}`)
    .join(', ')

async function overload(): Promise<Figure[]> {
  const sandbox = await startSandbox()
  const control = controlOf(sandbox.urls.commerceLayer)
  const allowance = ({ requests: limit, seconds }: { requests: number; seconds: number }) => ({
    limit,
    seconds,
  })
  const pair = ([average, burst]: Json) => ({ average: allowance(average), burst: allowance(burst) })
  await control.settings({
    limits: {
      writes: pair(ALLOWED.writes),
      reads: pair(ALLOWED.reads),
      token: allowance(ALLOWED.tokens[0] as Json),
    },
  })
  const connection = {
    provider: 'commerce-layer',
    baseUrl: sandbox.urls.commerceLayer.replace('127.0.0.1', 'localhost'),
    authUrl: sandbox.urls.commerceLayerAuth.replace('127.0.0.1', 'localhost'),
    clientId: { env: 'CL_CLIENT_ID' },
    clientSecret: { env: 'CL_CLIENT_SECRET' },
    limits: ALLOWED,
  }
  // Two connections to one address, as the provider counts.
  const home = makeHome(sandbox.urls, {
    deadlineMs: DEADLINE,
    connections: { 'cl-spent': connection, 'cl-other': at('other', connection) },
    longestLife: 300_000,
  })
  try {
    const count = OVERLOAD.perSecond * OVERLOAD.seconds
    for (let n = 0; n < count; n++) await control.mint('roles', `overload${n}`, {})
    const { url } = await home.start()
    const replies: (Reply | undefined)[] = []
    const started = Date.now()
    await constantLoad(OVERLOAD, (n) => ({
      about: n,
      async send() {
        const name = n % 2 === 0 ? 'cl-spent' : 'cl-other'
        const reply = await request('PUT', `${url}/roles/${name}:overload${n}`, { name: `n${n}` })
        replies.push(reply)
        return reply?.status
      },
    }))
    const seen = (await control.requests()).filter(({ path }) => path.startsWith('/api/roles'))
    const ended = started + OVERLOAD.seconds * 1000
    const settled = seen.filter(({ method, status, at }) => {
      const time = Date.parse(at)
      return method === 'PATCH' && status === 200 && time >= started + SETTLED && time < ended
    })
    const used = settled.length / ((PER_SECOND * (ended - started - SETTLED)) / 1000)
    const refusals = seen.filter(({ status }) => status === 429).length
    const untold = replies.filter(
      (reply) => reply?.status === 503 && !reply.headers.has('retry-after'),
    ).length
    const bench = 'discipline, rate'
    const what = `${OVERLOAD.perSecond} changes a second over two connections where ${PER_SECOND} are allowed, ${OVERLOAD.seconds} s`
    return [
      {
        bench,
        what: `allowed rate used; ${what}`,
        measured: `${(used * 100).toFixed(1)} %`,
        goal: { text: 'at least 95 %', met: used >= 0.95 },
      },
      {
        bench,
        what: 'answers 429 of the provider',
        measured: String(refusals),
        goal: { text: '0', met: refusals === 0 },
      },
      {
        bench,
        what: 'replies, by status',
        measured: told(replies.map((reply) => reply?.status)),
        goal: { text: 'each 503 with Retry-After', met: untold === 0 },
      },
    ]
  } finally {
    await home.leave()
    await sandbox.close()
  }
}

async function outage(kind: string, fault: object, tell: (progress: string) => void): Promise<Figure[]> {
  const sandbox = await startSandbox({ limits: 'off' })
  const control = controlOf(sandbox.urls.discue)
  const discue = { provider: 'discue', baseUrl: sandbox.urls.discue, apiKey: { env: 'DISCUE_API_KEY' } }
  const home = makeHome(sandbox.urls, {
    deadlineMs: DEADLINE,
    connections: { failing: at('failing', discue), other: at('other', discue) },
    longestLife: 600_000,
  })
  try {
    const resources = 400
    for (const name of ['failing', 'other'])
      for (let n = 0; n < resources; n++) await control.mint('api_clients', `${name}-resource-${n}`)
    const { url } = await home.start()
    const perSecond = OUTAGE.failing + OUTAGE.other
    let last = 0
    const load = (seconds: number) =>
      constantLoad({ perSecond, seconds }, (n) => {
        const name = n % (perSecond / OUTAGE.other) === 0 ? 'other' : 'failing'
        last += 1
        const path = `${url}/credentials/${name}:${name}-resource-${last % resources}`
        const body = { name: `example.com/${last}` }
        const due = performance.now()
        return { about: { name, due }, send: async () => (await request('PUT', path, body))?.status }
      })
    await load(5)
    tell(`${kind}: calm`)
    const calm = await load(OUTAGE.calm)
    const attempts = async () =>
      (await control.requests()).filter(({ path }) => path.includes('failing-resource')).length
    const match = { method: 'PUT', path: '/failing-' }
    const before = await attempts()
    await control.fault(fault, { match, times: null })
    tell(`${kind}: dead`)
    const dead = await load(OUTAGE.dead)
    const tried = (await attempts()) - before
    await control.send('DELETE', '/faults')
    const returned = performance.now()
    tell(`${kind}: returned`)
    const after = await load(OUTAGE.after)
    await pause(100)

    const of = (name: string, samples: typeof calm) => samples.filter(({ about }) => about.name === name)
    const lastFailure = of('failing', after).findLast(({ status }) => status !== 200)
    const healthy = lastFailure ? (lastFailure.about.due - returned) / 1000 : 0
    const p99 = (samples: typeof calm) =>
      quantile(
        of('other', samples).map(({ ms }) => ms),
        0.99,
      )
    const bench = `discipline, ${kind}`
    const others = [...of('other', dead), ...of('other', after)].map(({ status }) => status)
    return [
      {
        bench,
        what: `requests that reached it in ${OUTAGE.dead} s, ${OUTAGE.failing} changes a second`,
        measured: String(tried),
        goal: { text: `at most ${MOST_ATTEMPTS}`, met: tried <= MOST_ATTEMPTS },
      },
      {
        bench,
        what: 'replies meanwhile, by status',
        measured: `${told(of('failing', dead).map(({ status }) => status))}; median after ${median(of('failing', dead).map(({ ms }) => ms)).toFixed(1)} ms`,
      },
      {
        bench,
        what: 'after its return the last change that was not made came after',
        measured: `${healthy.toFixed(1)} s`,
        goal: { text: 'at most 15 s', met: healthy <= 15 },
      },
      {
        bench,
        what: 'another connection: replies by status',
        measured: told(others),
        goal: { text: 'only 200', met: others.every((status) => status === 200) },
      },
      {
        bench,
        what: 'another connection: p99 while it was down, and before',
        measured: `${p99(dead).toFixed(1)} ms, ${p99(calm).toFixed(1)} ms`,
        goal: { text: 'at most 1.20 times', met: p99(dead) <= 1.2 * p99(calm) },
      },
    ]
  } finally {
    await home.leave()
    await sandbox.close()
  }
}

export const discipline: Bench = async (tell) => {
  tell('rate')
  return [
    ...(await overload()),
    ...(await outage('every request is reset', { reset: 'before' }, tell)),
    ...(await outage('every request hangs', { delayBeforeMs: 60_000 }, tell)),
  ]
}

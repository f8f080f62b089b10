import { execFileSync } from 'node:child_process'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Sandbox, startSandbox } from '../../sandbox/server.ts'
import { type GatewayProcess, type Home, makeHome } from '../harness/gateway-process.ts'
import { campaign, type Figures, USUAL } from './campaign.ts'
import { full, scale, WHOLE } from './scale.ts'

// Of its own, because its faults hit whoever comes next.
let sandbox: Sandbox
let home: Home
let gateway: GatewayProcess
beforeAll(async () => {
  sandbox = await startSandbox({ limits: 'off' })
  home = makeHome(sandbox.urls, { longestLife: 2 * scale.campaignMs })
  gateway = await home.start()
})
afterAll(async () => {
  await home.leave()
  await sandbox.close()
})

/** Resident memory of a process that has come to rest. Bytes. */
async function residentOf(pid: number): Promise<number> {
  await pause(3000)
  return Number(execFileSync('ps', ['-o', 'rss=', '-p', String(pid)], { encoding: 'utf8' })) * 1024
}

/** The full form is sent in parts, between which memory is looked at. */
const PARTS = full ? 10 : 1
/** After so many of them the engine's heap and the caches have come to their size. */
const WARM_UP = 3
const GROWTH = 50 * 1024 * 1024

/** The figures of several campaigns as those of one. */
function joined(all: readonly Figures[]): Figures {
  const replies: Figures['replies'] = {}
  for (const part of all) {
    for (const [told, times] of Object.entries(part.replies)) replies[told] = (replies[told] ?? 0) + times
  }
  const sum = (of: (part: Figures) => number) => all.reduce((total, part) => total + of(part), 0)
  return {
    requests: sum(({ requests }) => requests),
    replies,
    unanswered: sum(({ unanswered }) => unanswered),
    repeated: sum(({ repeated }) => repeated),
    slowest: all
      .flatMap(({ slowest }) => slowest)
      .toSorted((a, b) => b.ms - a.ms)
      .slice(0, 5),
    ms: sum(({ ms }) => ms),
  }
}

test('every reply to any request is a documented one', { timeout: 2 * scale.campaignMs }, async () => {
  const parts: Figures[] = []
  const resident: number[] = []
  const until = performance.now() + scale.campaignMs
  for (let part = 0; part < PARTS; part++) {
    parts.push(
      await campaign({
        url: gateway.url,
        sandbox: sandbox.urls,
        bare: true,
        requests: scale.requests / PARTS,
        underFaults: scale.underFaults / PARTS,
        limitMs: until - performance.now(),
        seed: scale.seed * 100_000 + part * 1000,
      }),
    )
    if (full) resident.push(await residentOf(gateway.pid))
  }
  const figures = joined(parts)
  expect(figures.requests).toBeGreaterThanOrEqual(scale.requests)
  expect(Object.keys(figures.replies)).toEqual(expect.arrayContaining([...USUAL, '431 headers-too-large']))
  expect(figures.replies['200']).toBeGreaterThan(figures.requests / 5)
  // Few clients leave, and the gateway ends no connection that it has not said it would end.
  expect(figures.unanswered).toBeLessThan(figures.requests / 100)
  expect(figures.repeated).toBe(0)
  expect((await fetch(`${gateway.url}/health/live`)).status).toBe(200)
  if (!full) return
  const megabytes = resident.map((bytes) => Math.round(bytes / 2 ** 20))
  console.log(
    JSON.stringify(
      { ...figures, perSecond: Math.round((figures.requests / figures.ms) * 1000), megabytes },
      null,
      1,
    ),
  )
  // A shorter campaign ends while the heap still grows to its size.
  if (scale.requests < WHOLE) return
  const [warm = Number.NaN] = resident.slice(WARM_UP - 1)
  expect((resident.at(-1) ?? Number.NaN) - warm).toBeLessThan(GROWTH)
})

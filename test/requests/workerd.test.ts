import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { type Sandbox, startSandbox } from '../../sandbox/server.ts'
import type { Running } from '../harness/gateway-process.ts'
import { makeWorkerHome, type WorkerHome } from '../harness/worker-home.ts'
import { campaign, USUAL } from './campaign.ts'
import { full, scale } from './scale.ts'

// Of its own, because its faults hit whoever comes next.
let sandbox: Sandbox
let home: WorkerHome
let worker: Running
beforeAll(async () => {
  sandbox = await startSandbox({ limits: 'off' })
  home = makeWorkerHome(sandbox.urls, inject('worker'))
  worker = await home.start()
})
afterAll(async () => {
  await home.leave()
  await sandbox.close()
})

// What only a bare socket can send is the business of the edge in front of a Worker. The proxy of wrangler takes most
// of the time, so that the full form stands on Node alone.
const REQUESTS = 1500

test('every reply to any request is a documented one', { timeout: 2 * scale.campaignMs }, async () => {
  const figures = await campaign({
    url: worker.url,
    sandbox: sandbox.urls,
    bare: false,
    requests: REQUESTS,
    underFaults: REQUESTS / 25,
    limitMs: scale.campaignMs,
    seed: scale.seed * 100_000,
  })
  expect(figures.requests).toBeGreaterThanOrEqual(REQUESTS)
  expect(Object.keys(figures.replies)).toEqual(expect.arrayContaining(USUAL))
  expect(figures.replies['200']).toBeGreaterThan(figures.requests / 5)
  expect(figures.unanswered).toBe(0)
  // The proxy before it may end a connection between two requests.
  expect(figures.repeated).toBeLessThan(figures.requests / 100)
  expect((await fetch(`${worker.url}/health/live`)).status).toBe(200)
  if (full) console.log(JSON.stringify(figures, null, 1))
})

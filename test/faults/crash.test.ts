import { randomUUID } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Sandbox, startSandbox } from '../../sandbox/server.ts'
import { answered, newTrace, type Put, send } from '../harness/clients.ts'
import { median, report, tally } from '../harness/figures.ts'
import type { AnyHome, Running } from '../harness/gateway-process.ts'
import { runtimes } from '../harness/homes.ts'
import {
  appliedBy,
  clearFaults,
  type Operation,
  operationNamed,
  operationsOf,
  type Providers,
  providersOf,
  type Target,
} from '../harness/operations.ts'
import { until } from '../harness/waiting.ts'
import { auditIn, brokenLinks, contradicted, forgotten, storiesOf, unannounced } from './comparison.ts'
import { campaignMs, full, scale } from './scale.ts'

const { clients, resources, longestLife } = scale.crash

const oneOf = <T>(list: readonly T[]): T => list[Math.floor(Math.random() * list.length)] as T

/** Milliseconds until no change is between its intent and its outcome any more. */
async function settled({ url }: Running): Promise<number> {
  const started = performance.now()
  await until('every open intent is settled', async () => {
    const open = await answered('GET', `${url}/changes?outcome=in_flight`)
    return open.body.data.length === 0
  })
  return performance.now() - started
}

/** Providers take their time on both sides of a change, and one write of each round lands long after the crash. */
async function slowDown(providers: Providers, operations: readonly Operation[]): Promise<void> {
  await clearFaults(providers)
  const late = oneOf(operations)
  await late.control.fault({ delayBeforeMs: 1500 }, { match: { method: late.method } })
  for (const { control, method } of operations) {
    await control.fault({ delayBeforeMs: 4, delayAfterMs: 4 }, { match: { method }, times: null })
  }
}

describe.each(runtimes)('$runtime', ({ runtime, makeHome, kills }) => {
  let sandbox: Sandbox
  let providers: Providers
  let home: AnyHome
  beforeAll(async () => {
    sandbox = await startSandbox({ limits: 'off' })
    providers = providersOf(sandbox.urls)
    home = makeHome(sandbox.urls)
  })
  beforeEach(() => clearFaults(providers))
  afterAll(async () => {
    await home.leave()
    await sandbox.close()
  })

  test(
    `${kills} crashes under ${clients} clients lose no change and invent none`,
    { timeout: campaignMs },
    async () => {
      const operations = operationsOf(providers)
      const targets: { operation: Operation; target: Target }[] = []
      for (const operation of operations) {
        for (let n = 0; n < resources; n++) targets.push({ operation, target: await operation.mint() })
      }

      const puts: Put[] = []
      const unanswered: Put[] = []
      let last = 0
      function nextPut(): Put {
        const { operation, target } = oneOf(targets)
        last += 1
        return {
          trace: newTrace(),
          path: target.path,
          body: operation.body(last),
          ...(Math.random() < 0.4 && { idempotencyKey: randomUUID() }),
        }
      }
      /** Makes changes, one after the other, until the gateway is gone. */
      async function client(gateway: Running): Promise<void> {
        for (let alive = true; alive;) {
          // Who got no answer sends the same request again, under a trace of its own.
          const again = Math.random() < 0.2 ? unanswered.shift() : undefined
          const put = again ? { ...again, trace: newTrace(), reply: undefined } : nextPut()
          puts.push(put)
          alive = (await send(gateway.url, put)) !== undefined
          if (!alive && put.idempotencyKey !== undefined) unanswered.push(put)
        }
      }

      const recoveries: number[] = []
      const starts: number[] = []
      async function restart(): Promise<Running> {
        const began = performance.now()
        const gateway = await home.start()
        starts.push(performance.now() - began)
        recoveries.push(await settled(gateway))
        return gateway
      }

      for (let kill = 0; kill < kills; kill++) {
        const gateway = await restart()
        await slowDown(providers, operations)
        const crowd = Array.from({ length: clients }, () => client(gateway))
        await pause(Math.random() * longestLife)
        await gateway.kill()
        await Promise.all(crowd)
      }
      await pause(1500)
      const gateway = await restart()
      expect(await gateway.stop()).toMatchObject({ code: 0 })

      const events = auditIn(...home.databases())
      const stories = storiesOf(events)
      const applied = await appliedBy(providers)
      expect(applied.length).toBeGreaterThan(kills)
      expect(unannounced(events, applied)).toEqual([])
      expect(forgotten(stories, puts)).toEqual([])
      expect(contradicted(stories.values(), applied)).toEqual([])
      expect([...stories.values()].filter(({ state }) => state === 'in_flight')).toEqual([])
      expect(brokenLinks(events)).toEqual([])
      const statuses = tally(puts.map(({ reply }) => reply?.status ?? 'none'))
      // 409: the line of a resource was full, or its key was being used. 504: what a process before had sent has landed
      // between the write and the read after it, so that the read contradicts what was asked for.
      const honest = ['200', '409', '504', 'none']
      expect(Object.keys(statuses).filter((status) => !honest.includes(status))).toEqual([])
      expect(statuses['504'] ?? 0).toBeLessThanOrEqual(kills / 5)

      report(`crash on ${runtime}`, {
        kills,
        replies: statuses,
        'applied upstream': applied.length,
        events: events.length,
        'settled by recovery': tally(
          events.filter(({ type }) => type === 'settled').map(({ outcome }) => outcome ?? ''),
        ),
        start: starts,
        'until settled': recoveries.slice(1),
      })
      if (full) {
        expect(median(recoveries)).toBeLessThan(10_000)
        expect(Math.max(...recoveries)).toBeLessThan(10_000)
      }
    },
  )

  test(
    'an open change is settled soon, however many newer ones are unknown',
    { timeout: campaignMs },
    async () => {
      const crowded = makeHome(sandbox.urls, { deadlineMs: 20_000 })
      try {
        let gateway = await crowded.start()
        const discue = operationNamed('discue client', providers)
        const change = async (fault: object) => {
          const { path, upstream } = await discue.mint()
          await discue.control.fault(fault, { match: { method: 'PUT', path: upstream }, times: null })
          return {
            sent: send(gateway.url, { trace: newTrace(), path, body: { name: `example.com${path}` } }),
          }
        }
        const { sent } = await change({ delayAfterMs: 60_000 })
        const open = await until('the change is under way', async () => {
          const { body } = await answered('GET', `${gateway.url}/changes?outcome=in_flight`)
          return body.data[0]?.id as string | undefined
        })
        for (let round = 0; round < 5; round++) {
          const unknown = await Promise.all(Array.from({ length: 30 }, () => change({ wrongType: true })))
          for (const { sent } of unknown) expect((await sent)?.body.outcome).toBe('unknown')
        }
        await gateway.kill()
        await sent
        gateway = await crowded.start()
        await settled(gateway)
        const { body } = await answered('GET', `${gateway.url}/changes/${open}`)
        expect(body.state).toBe('needs_attention')
      } finally {
        await crowded.leave()
      }
    },
  )
})

import { randomUUID } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Sandbox, startSandbox } from '../../sandbox/server.ts'
import type { AuditEvent } from '../../src/ledger/event.ts'
import { answered, newTrace, type Put, send } from '../harness/clients.ts'
import { report, tally } from '../harness/figures.ts'
import { runtimes } from '../harness/homes.ts'
import {
  appliedBy,
  clearFaults,
  type Operation,
  operationsOf,
  type Providers,
  providersOf,
  type Target,
} from '../harness/operations.ts'
import type { Json } from '../harness/sandbox-calls.ts'
import { auditIn, brokenLinks, contradicted, storiesOf, type Story } from './comparison.ts'
import { campaignMs, scale } from './scale.ts'

const { seconds, perSecond, resources, afterwards } = scale.outage

const OPEN = ['in_flight', 'unknown', 'partial', 'needs_attention']

const oneOf = <T>(list: readonly T[]): T => list[Math.floor(Math.random() * list.length)] as T

/** What became of a change whose reply said `unknown`: what is wrong with it, or nothing. */
function hidden(
  changeId: string,
  open: ReadonlySet<string>,
  stories: ReadonlyMap<string, Story>,
): string | undefined {
  const story = stories.get(changeId)
  if (!story) return `${changeId} is in no audit`
  if (open.has(changeId)) return undefined
  if (story.state !== 'superseded')
    return ['applied', 'rejected'].includes(story.state) ? undefined : `${changeId} is ${story.state}`
  const by = (story.events.at(-1)?.upstream as Json)?.supersededBy
  const newer = stories.get(by)
  if (newer?.state !== 'applied') return `${changeId} was superseded by one that is ${newer?.state}`
  const [own, theirs] = [intentOf(story), intentOf(newer)]
  const written = [...Object.keys(theirs?.fields ?? {}), ...(theirs?.unchanged?.carried ?? [])]
  const missing = Object.keys(own?.fields ?? {}).filter((name) => !written.includes(name))
  if (missing.length > 0) return `${changeId} was superseded by one that did not write ${missing.join()}`
  return (theirs?.seq ?? 0) > (own?.seq ?? 0) ? undefined : `${changeId} was superseded by an older one`
}
const intentOf = ({ events }: Story): AuditEvent | undefined => events.find(({ type }) => type === 'intent')

/** Hardly anything gets through, and some of what was sent was done all the same. */
async function breakDown(operations: readonly Operation[]): Promise<void> {
  const ways = [
    { reset: 'after' },
    { reset: 'before' },
    { delayAfterMs: 300, reset: 'after' },
    { status: 502, applied: true },
    { status: 504 },
    { reset: 'mid-body' },
  ]
  for (const { control, method } of operations) {
    for (let n = 0; n < 100; n++) {
      await control.fault(oneOf(ways), { match: { method }, times: 1 })
      // Some reads get through, or nothing that can be read would be written at all.
      await control.fault(oneOf([{}, { reset: 'before' }]), { match: { method: 'GET' }, times: 1 })
    }
  }
}

describe.each(runtimes)('$runtime', ({ runtime, makeHome }) => {
  let sandbox: Sandbox
  let providers: Providers
  beforeAll(async () => {
    sandbox = await startSandbox({ limits: 'off' })
    providers = providersOf(sandbox.urls)
  })
  afterAll(() => sandbox.close())

  test(
    `an outage of ${seconds} s at ${perSecond} changes a second hides no change`,
    { timeout: campaignMs },
    async () => {
      const home = makeHome(sandbox.urls, { deadlineMs: 3000 })
      try {
        const gateway = await home.start()
        const operations = operationsOf(providers)
        const targets: { operation: Operation; target: Target }[] = []
        for (let n = 0; n < resources; n++) {
          const operation = operations[n % operations.length] as Operation
          targets.push({ operation, target: await operation.mint() })
        }
        const puts: Put[] = []
        let last = 0
        const next = (): Put => {
          const { operation, target } = oneOf(targets)
          last += 1
          const put = {
            trace: newTrace(),
            path: target.path,
            body: operation.body(last),
            idempotencyKey: randomUUID(),
          }
          puts.push(put)
          return put
        }
        async function load(forSeconds: number): Promise<void> {
          const sent: Promise<unknown>[] = []
          for (let n = 0; n < forSeconds * perSecond; n++) {
            sent.push(send(gateway.url, next()))
            await pause(1000 / perSecond)
          }
          await Promise.all(sent)
        }
        await load(1)
        await breakDown(operations)
        await load(seconds)
        // Providers are back and refuse much, then nothing: changes that did nothing, and such that did.
        await clearFaults(providers)
        for (const { control, method } of operations)
          await control.fault({ status: 422 }, { match: { method }, times: 2 })
        await load(afterwards)
        const unknown = puts.filter(({ reply }) => reply?.body.outcome === 'unknown')
        // Half of those who were told so ask again, as they are told to.
        for (const put of unknown.filter((_, n) => n % 2 === 0)) {
          const again: Put = { ...put, trace: newTrace(), reply: undefined }
          puts.push(again)
          await send(gateway.url, again)
        }

        const open = new Set<string>()
        for (const state of OPEN) {
          const { body } = await answered('GET', `${gateway.url}/changes?limit=1000&outcome=${state}`)
          for (const { id } of body.data) open.add(id)
        }
        await gateway.stop()
        const events = auditIn(...home.databases())
        const stories = storiesOf(events)
        const applied = await appliedBy(providers)
        const lost = unknown.flatMap(({ reply }) => hidden(reply?.body.changeId, open, stories) ?? [])
        expect(unknown.length).toBeGreaterThan(5)
        expect(lost).toEqual([])
        expect(contradicted(stories.values(), applied)).toEqual([])
        expect(brokenLinks(events)).toEqual([])
        report(`outage on ${runtime}`, {
          replies: tally(puts.map(({ reply }) => `${reply?.status} ${reply?.body.outcome ?? 'not begun'}`)),
          'unknown now': tally(
            unknown.map(({ reply }) => stories.get(reply?.body.changeId)?.state ?? 'none'),
          ),
          hidden: lost.length,
        })
      } finally {
        await home.leave()
      }
    },
  )
})

import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Sandbox, startSandbox } from '../../sandbox/server.ts'
import { answered, newTrace } from '../harness/clients.ts'
import { keys } from '../harness/configuration.ts'
import { report, tally } from '../harness/figures.ts'
import type { AnyHome, Running } from '../harness/gateway-process.ts'
import { runtimes } from '../harness/homes.ts'
import {
  appliedBy,
  type Operation,
  operationsOf,
  type Providers,
  providersOf,
  type Target,
} from '../harness/operations.ts'
import { pool, until } from '../harness/waiting.ts'
import { auditIn, brokenLinks, contradicted, storiesOf, unannounced } from './comparison.ts'
import { campaignMs, scale, waitMs } from './scale.ts'

let providers: Providers
let operations: Operation[]
let gateway: Running

/** One PUT on a connection of its own, as bytes. */
interface Call {
  trace: string
  operation: Operation
  target: Target
  socket: Socket
  head: string
  body: string
}

async function newCall(n: number): Promise<Call> {
  const operation = operations[n % operations.length] as Operation
  const target = await operation.mint()
  const { hostname, port, host } = new URL(gateway.url)
  const trace = newTrace()
  const body = JSON.stringify(operation.body(n))
  const head = [
    `PUT ${target.path} HTTP/1.1`,
    `Host: ${host}`,
    `X-API-Key: ${keys.admin}`,
    `Traceparent: ${trace}`,
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    '\r\n',
  ].join('\r\n')
  const socket = connect(Number(port), hostname)
  socket.on('error', () => {})
  await once(socket, 'connect')
  return { trace, operation, target, socket, head, body }
}

const flushed = (socket: Socket, text: string): Promise<void> =>
  new Promise((resolve) => socket.write(text, () => resolve()))
const half = (text: string): string => text.slice(0, text.length >> 1)

const seenBy = async ({ operation, target }: Call, wanted: (method: string) => boolean): Promise<void> => {
  await until('the provider is asked', async () => {
    const { entries } = await operation.control.send('GET', '/requests')
    return entries.some(
      ({ method, path }: { method: string; path: string }) =>
        wanted(method) && path.includes(target.upstream),
    )
  })
}
const slow = ({ operation, target }: Call, fault: object, method: string): Promise<unknown> =>
  operation.control.fault(fault, { match: { method, path: target.upstream } })

/**
 * Where a client may give up. `reaches` says whether its request was complete by then, so that the change must be made
 * as if the client had stayed; a connection that is reset may take bytes with it that nobody has read.
 */
const points: Record<string, { reaches: boolean; hangUp(call: Call): Promise<void> }> = {
  'in the middle of the headers': {
    reaches: false,
    async hangUp({ socket, head }) {
      await flushed(socket, half(head))
      socket.destroy()
    },
  },
  'before the body': {
    reaches: false,
    async hangUp({ socket, head }) {
      await flushed(socket, head)
      socket.destroy()
    },
  },
  'in the middle of the body': {
    reaches: false,
    async hangUp({ socket, head, body }) {
      await flushed(socket, head + half(body))
      await pause(5)
      socket.destroy()
    },
  },
  'right after the body': {
    reaches: true,
    async hangUp({ socket, head, body }) {
      await flushed(socket, head + body)
      socket.destroy()
    },
  },
  'right after the body, with a reset': {
    reaches: false,
    async hangUp({ socket, head, body }) {
      await flushed(socket, head + body)
      socket.resetAndDestroy()
    },
  },
  'in its line': {
    reaches: true,
    async hangUp(call) {
      const { operation, target, socket, head, body } = call
      await slow(call, { delayBeforeMs: 300 }, operation.method)
      const before = answered(
        'PUT',
        gateway.url + target.path,
        operation.body(-Math.ceil(Math.random() * 1e9)),
      )
      await seenBy(call, (method) => method === operation.method)
      await flushed(socket, head + body)
      // What was sent later and has been answered came after it; a reset would take what nobody has read.
      for (let n = 0; n < 2; n++) await answered('GET', gateway.url + target.path)
      socket.resetAndDestroy()
      expect((await before).status).toBe(200)
    },
  },
  'while the resource is read': {
    reaches: true,
    async hangUp(call) {
      const { operation, socket, head, body } = call
      const method = operation.name === 'discue client' ? 'PUT' : 'GET'
      await slow(call, { delayBeforeMs: 50 }, method)
      await flushed(socket, head + body)
      await seenBy(call, (seen) => seen === method)
      socket.resetAndDestroy()
    },
  },
  'while the change is under way': {
    reaches: true,
    async hangUp(call) {
      const { operation, socket, head, body } = call
      await slow(call, { delayBeforeMs: 50 }, operation.method)
      await flushed(socket, head + body)
      await seenBy(call, (method) => method === operation.method)
      socket.resetAndDestroy()
    },
  },
  'after the change was applied': {
    reaches: true,
    async hangUp(call) {
      const { operation, trace, socket, head, body } = call
      await slow(call, { delayAfterMs: 50 }, operation.method)
      await flushed(socket, head + body)
      await until('it is applied', async () =>
        (await operation.control.ledger()).some(({ traceparent }) => traceparent === trace),
      )
      socket.resetAndDestroy()
    },
  },
  'in the middle of the reply': {
    reaches: true,
    async hangUp({ socket, head, body }) {
      await flushed(socket, head + body)
      socket.once('data', () => socket.resetAndDestroy())
      await once(socket, 'close')
    },
  },
}

describe.each(runtimes)('$runtime', ({ runtime, makeHome }) => {
  let sandbox: Sandbox
  let home: AnyHome
  beforeAll(async () => {
    sandbox = await startSandbox({ limits: 'off' })
    providers = providersOf(sandbox.urls)
    operations = operationsOf(providers)
    home = makeHome(sandbox.urls)
    gateway = await home.start()
  })
  afterAll(async () => {
    await home.leave()
    await sandbox.close()
  })

  test(
    `clients that hang up at ${Object.keys(points).length} points leave no change without an outcome`,
    { timeout: campaignMs },
    async () => {
      const calls: (Call & { point: string; reaches: boolean })[] = []
      let last = 0
      const tasks = Object.entries(points).flatMap(([point, { reaches, hangUp }]) =>
        Array.from({ length: scale.hangup.repeats }, () => async () => {
          const call = await newCall((last += 1))
          calls.push({ ...call, point, reaches })
          await hangUp(call)
        }),
      )
      await pool(8, tasks)
      const unfinished = async () => {
        const open = await answered('GET', `${gateway.url}/changes?outcome=in_flight`)
        const applied = new Set((await appliedBy(providers)).map(({ traceparent }) => traceparent))
        const lost = calls.filter(({ reaches, trace }) => reaches && !applied.has(trace))
        return { open: open.body.data.length, lost: tally(lost.map(({ point }) => point)) }
      }
      await expect.poll(unfinished, { timeout: waitMs, interval: 100 }).toEqual({ open: 0, lost: {} })
      expect(await gateway.stop()).toMatchObject({ code: 0 })

      const events = auditIn(...home.databases())
      const stories = storiesOf(events)
      const applied = await appliedBy(providers)
      expect([...stories.values()].filter(({ state }) => state !== 'applied')).toEqual([])
      expect(contradicted(stories.values(), applied)).toEqual([])
      expect(unannounced(events, applied)).toEqual([])
      expect(brokenLinks(events)).toEqual([])

      const made = new Set([...stories.values()].flatMap(({ traces }) => [...traces]))
      expect(
        calls.filter(({ reaches, trace }) => reaches && !made.has(trace)).map(({ point }) => point),
      ).toEqual([])
      report(`hang-ups on ${runtime}`, {
        calls: calls.length,
        'changes made': tally(calls.filter(({ trace }) => made.has(trace)).map(({ point }) => point)),
        'without an outcome': 0,
      })
    },
  )
})

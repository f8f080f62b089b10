import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { setTimeout as pause } from 'node:timers/promises'
import { getRequestListener } from '@hono/node-server'
import type { Clock } from './clock.ts'
import { controlApi } from './control.ts'
import type { Emulator, Received } from './exchange.ts'
import { answerInstead, createFaults, cut, disfigure, type Fault, send } from './fault.ts'
import { createLedger } from './ledger.ts'
import { createRequests } from './requests.ts'
import type { World } from './world.ts'

/** One provider on one server: the control API under `/_sandbox/`, everything else is the provider. */
export function createProviderServer(emulator: Emulator, clock: Clock): Server {
  const world: World = {
    emulator,
    clock,
    faults: createFaults(),
    ledger: createLedger(clock),
    requests: createRequests(clock),
    epoch: 0,
  }
  const control = getRequestListener(controlApi(world).fetch, { overrideGlobalObjects: false })
  // Idle connections outlive any pause in a test, or a reused one could be cut without a fault asking for it.
  return createServer({ keepAliveTimeout: 120_000 }, (incoming, outgoing) => {
    // `/at/{name}` before a path is another address of the same server, so that several connections can lead to it.
    incoming.url = (incoming.url ?? '/').replace(/^\/at\/[a-z0-9-]+(?=\/)/, '')
    if (isControl(incoming)) void control(incoming, outgoing)
    else void converse(world, incoming, outgoing)
  })
}

/** Whoever presents provider credentials talks to the provider, even if a hostile path climbed to `/_sandbox/`. */
const isControl = ({ url, headers }: IncomingMessage): boolean =>
  (url ?? '').startsWith('/_sandbox/') && !headers.authorization && !headers['x-api-key']

/** As a member of a JSON text, however it is escaped. */
const PASSWORD = /("password":)"(?:[^"\\]|\\.)*"/g

async function converse(world: World, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
  const { emulator, ledger } = world
  const { method = 'GET', url: target = '/' } = incoming
  const { epoch } = world
  const fault = world.faults.take(method, target)
  const seen = world.requests.arrived(method, target, incoming.headers)
  if (fault?.reset === 'on-headers') return cut(outgoing)

  const request = await receive(incoming, method, target, fault)
  if (!request) return
  if (fault?.record) seen.text = request.body.replace(PASSWORD, '$1"[masked]"')
  const flight = ledger.takeOff(emulator.target(request))
  try {
    // A client that hangs up meanwhile changes nothing: a provider finishes what it began.
    if (fault?.delayBeforeMs) await pause(fault.delayBeforeMs)
    if (fault?.reset === 'before' || world.epoch !== epoch) return cut(outgoing)

    const answer = (fault && answerInstead(fault, emulator, request.path)) ?? (await emulator.answer(request))
    if (answer.change) {
      ledger.record(answer.change, request, flight)
      seen.applied = true
    }
    await working(outgoing, (answer.workMs ?? 0) + (fault?.delayAfterMs ?? 0))
    if (fault?.reset === 'after') return cut(outgoing)
    if (outgoing.destroyed) return

    const final = fault ? disfigure(answer, fault, emulator, request.path) : answer
    seen.status = final.status
    await send(outgoing, final, fault)
  } finally {
    flight.land()
  }
}

/** Waits as long as the provider works, but not for a client that has gone. */
async function working(outgoing: ServerResponse, ms: number): Promise<void> {
  if (ms === 0 || outgoing.destroyed) return
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, ms)
    outgoing.once('close', () => {
      clearTimeout(timer)
      resolve()
    })
  })
}

/** The complete request, or undefined when the client left before its body was complete. */
async function receive(
  incoming: IncomingMessage,
  method: string,
  target: string,
  fault: Fault = {},
): Promise<Received | undefined> {
  const chunks: Buffer[] = []
  try {
    for await (const chunk of incoming) chunks.push(chunk as Buffer)
  } catch {
    return undefined
  }
  const mark = target.indexOf('?')
  return {
    method,
    target,
    path: mark < 0 ? target : target.slice(0, mark),
    query: new URLSearchParams(mark < 0 ? '' : target.slice(mark + 1)),
    headers: incoming.headers,
    body: Buffer.concat(chunks).toString('utf8'),
    source: incoming.socket.remoteAddress ?? 'unknown',
    deviation: { keep: fault.keep, store: fault.store },
  }
}

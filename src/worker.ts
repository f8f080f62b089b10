import { waitUntil } from 'cloudflare:workers'
import { registry } from '../adapters/index.ts'
import type { Actor } from './change/actor.ts'
import type { ChangeAnswer } from './change/types.ts'
import type { Config } from './config/document.ts'
import { type AppParts, createApp } from './http/app.ts'
import { NO_HOST, NO_TARGET, refuseEarly } from './http/early-refusal.ts'
import { isHost, readTarget } from './http/request-target.ts'
import type { Bytes } from './http/static-file.ts'
import { Deadline } from './lib/deadline.ts'
import type { Log } from './lib/log.ts'
import { refuse } from './model/problems.ts'
import { GATEWAY } from './model/resource-id.ts'
import { type Env, perEnvironment, environmentOf } from './worker/environment.ts'
import { workerHistory } from './worker/history.ts'
import { MISCONFIGURED, objectOf } from './worker/object.ts'
import { workerSend } from './worker/send.ts'

export { Connection } from './worker/object.ts'

const NOTHING: Config = {
  connections: new Map(),
  aliases: new Map(),
  issuers: [],
  callers: [],
  trustedProxies: [],
}

/** How long `_gateway` may take to count a request or to say how it is. Milliseconds. */
const PATIENCE = 1000

/** How long a readiness result is reused. Milliseconds. */
const READINESS_MS = 1000

/** How much of a body is still read after the response, so that the client gets to read the response. */
const LINGER_BYTES = 10 << 20
const LINGER_MS = 2000
const MAX_LINGERING = 64
/** Until when each of them is read at the most: of a request whose client has gone nothing runs on that could count it off. */
const lingering = new Set<Deadline>()

/** Bytes of a body that are handed on at once. */
const SLICE = 16 * 1024

const SILENT = refuse('not-ready', 'the connection does not answer', { retryAfterSeconds: 1 })
const LOST = refuse('outcome-unknown', 'the connection was lost in the middle of the change', {
  outcome: 'unknown',
  retryAfterSeconds: 1,
})

/** The actor at the other end of a call that may break off: every deployment resets the objects. */
function remoteActor(env: Env, log: Log, name: string): Actor {
  const otherwise =
    <T>({ requestId }: { requestId: string }, refusal: T) =>
    (error: unknown): T | typeof SILENT => {
      log.error('connection lost', { requestId, connection: name, error: String(error) })
      // The runtime says of some calls that they never arrived.
      return (error as { overloaded?: boolean }).overloaded ? SILENT : refusal
    }
  return {
    change(request) {
      const reply: Promise<ChangeAnswer> = objectOf(env, name)
        .change(request)
        .catch(otherwise(request, request.dryRun ? SILENT : LOST))
      waitUntil(reply)
      return reply
    },
    read: (request) => objectOf(env, name).read(request).catch(otherwise(request, SILENT)),
    resolve: (resolution) => objectOf(env, name).resolve(resolution).catch(otherwise(resolution, SILENT)),
  }
}

/** workerd copies the bytes of a body, whole and at once: here it gets the next ones when those before them have left. */
function slices(bytes: Bytes): ReadableStream<Uint8Array> {
  let at = 0
  return new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        controller.enqueue(bytes.subarray(at, (at += SLICE)))
        if (at >= bytes.length) controller.close()
      },
    },
    { highWaterMark: 0 },
  )
}

function partsOf(env: Env, log: Log, config: Config): AppParts {
  let readiness: { at: number; faults: string[] } = { at: -Infinity, faults: [] }
  return {
    config,
    registry,
    actor: (name) => (config.connections.has(name) ? remoteActor(env, log, name) : undefined),
    history: workerHistory(env, config, log),
    refused(connection, attempt) {
      const name = connection !== null && config.connections.has(connection) ? connection : GATEWAY
      const kept = objectOf(env, name).refused(attempt)
      waitUntil(kept)
      return kept
    },
    takeRequest: (caller, limit) =>
      new Deadline(PATIENCE).within(
        objectOf(env, GATEWAY)
          .takeRequest(caller, limit)
          .catch(() => undefined),
      ),
    sendToIssuer: () => workerSend(fetch),
    // One object is asked on behalf of the store: asking each would keep all of them awake.
    async readiness() {
      const age = Date.now() - readiness.at
      // Anybody may ask, so they must not be able to keep the object busy.
      if (age >= 0 && age < READINESS_MS) return readiness.faults
      const asked = objectOf(env, GATEWAY)
        .faults()
        .catch(() => undefined)
      const faults = (await new Deadline(PATIENCE).within(asked)) ?? ['the store does not answer']
      readiness = { at: Date.now(), faults }
      return faults
    },
    // Not kept: an isolate has little memory, and what stores it is near.
    async referenceScript(coding) {
      const file = coding === 'gzip' ? 'reference.js.gz' : 'reference.js'
      const { body, status } = await env.ASSETS.fetch(`https://assets.invalid/${file}`)
      if (status !== 200 || !body) throw new Error(`the script of the API reference is missing (${status})`)
      return body
    },
    bodyOf: slices,
    targetOf: () => undefined,
    addressOf: (environment) => (environment as { address: string | null }).address,
    log,
  }
}

/**
 * Without an edge before it, workerd drops the reply of a client that has more than 64 KiB of its body left to send, and
 * a reply's `Connection: close` as well: so that is read before the reply is given.
 */
async function linger(body: ReadableStream<Uint8Array>): Promise<void> {
  for (const end of lingering) if (end.remainingMs() === 0) lingering.delete(end)
  if (lingering.size >= MAX_LINGERING) return
  const end = new Deadline(LINGER_MS)
  lingering.add(end)
  await end.within(drain(body))
  lingering.delete(end)
}

async function drain(body: ReadableStream<Uint8Array>): Promise<void> {
  const reader = body.getReader()
  try {
    for (let left = LINGER_BYTES; left > 0;) {
      const { done, value } = await reader.read()
      if (done) return
      left -= value.length
    }
  } catch {
    // The client has gone.
  }
}

const appOf = perEnvironment((env) => {
  const { log, settings } = environmentOf(env)
  if (settings) return createApp(partsOf(env, log, settings.config))
  const readiness = async () => [MISCONFIGURED.detail]
  return createApp({ ...partsOf(env, log, NOTHING), readiness, closed: MISCONFIGURED })
})

/**
 * The request with a URL that no Host has made: what stands in the place of one has to be one. workerd tells the target as it
 * came, Cloudflare a whole URL.
 */
function toRoute(request: Request, log: Log): Request | Response {
  const asSent = request.url.startsWith('/')
  // One Worker that calls another sends a URL alone.
  const host = request.headers.get('host') ?? (asSent ? '' : 'localhost')
  if (!isHost(host)) return refuseEarly('malformed-request', NO_HOST, log)
  const target = readTarget(request.url)
  if (!target) return refuseEarly('malformed-request', NO_TARGET, log)
  return asSent ? new Request(`http://localhost${target.path}`, request) : request
}

/** The stateless Worker. */
export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    const routed = toRoute(request, environmentOf(env).log)
    const isRefused = routed instanceof Response
    const { body } = isRefused ? request : routed
    const address = request.headers.get('cf-connecting-ip')
    const reply = isRefused ? routed : await appOf(env).fetch(routed, { address })
    if (body && !body.locked) await linger(body)
    return reply
  },
}

import { lookup as systemLookup } from 'node:dns'
import type { LookupFunction } from 'node:net'
import { type Dispatcher, Pool } from 'undici'
import { literalAddress, mayReach } from './address-guard.ts'
import type { ConnectionConfig } from './config.ts'
import type { Log } from './log.ts'
import type { Fetch } from './upstream.ts'

/** Sends the requests of one connection, over connections that are kept alive. */
export interface Sender {
  fetch: Fetch
  /** Ends every request that is still under way. */
  close(): Promise<void>
}

/** The request was never given to a connection, so that no byte of it has left. */
class NeverSent extends Error {
  constructor(cause: unknown) {
    super('nothing was sent', { cause })
  }
}

class AddressRefused extends Error {}

/** Whether an error of a sender, however wrapped, proves that nothing was sent. */
export function provesUnsent(error: unknown): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (cause instanceof NeverSent) return true
  }
  return false
}

/** Answers that have no body even if one is announced (Fetch standard, null body status). */
const BODILESS = new Set([204, 205, 304])

export function openSender(
  { name, allowPrivateAddresses }: Pick<ConnectionConfig, 'name' | 'allowPrivateAddresses'>,
  connections: number,
  log: Log,
  lookup: typeof systemLookup = systemLookup,
): Sender {
  /** By origin. */
  const pools = new Map<string, Pool>()

  function refuse(): AddressRefused {
    log.warn('address refused', { connection: name })
    return new AddressRefused('the host leads to an address that the connection does not allow')
  }

  /**
   * Looks a name up for the connection that is about to be made, so that what is checked is what is connected to.
   * Refused addresses are passed over: one that stands beside a public one does no harm when it is never tried.
   */
  const lookupOf =
    (host: string): LookupFunction =>
    (hostname, options, callback) =>
      lookup(hostname, { ...options, all: true }, (error, found) => {
        if (error) return callback(error, '')
        const open = found.filter(({ address }) => mayReach(host, address, allowPrivateAddresses))
        const [first] = open
        if (!first) callback(refuse(), '')
        else if (options.all) callback(null, open)
        else callback(null, first.address, first.family)
      })

  function poolOf({ origin, hostname }: URL): Pool {
    const pool =
      pools.get(origin) ??
      new Pool(origin, {
        connections,
        // One request at a time on a connection: what cuts it concerns that request alone.
        pipelining: 1,
        allowH2: false,
        // The signal of the request bounds both.
        headersTimeout: 0,
        bodyTimeout: 0,
        connect: { lookup: lookupOf(hostname) },
      })
    pools.set(origin, pool)
    return pool
  }

  return {
    async fetch(text, { method = 'GET', headers, body, signal }) {
      const url = new URL(text)
      // No name, no lookup: a literal is connected to as it is.
      const literal = literalAddress(url.hostname)
      if (literal !== undefined && !mayReach(url.hostname, literal, allowPrivateAddresses))
        throw new NeverSent(refuse())
      const options: Dispatcher.DispatchOptions = {
        path: url.pathname + url.search,
        method,
        // Without the header any coding would be welcome (RFC 9110 §12.5.3), and none is undone here.
        headers: { ...Object.fromEntries(new Headers(headers)), 'accept-encoding': 'identity' },
        body: body as string | null,
      }
      return dispatch(poolOf(url), options, signal ?? undefined)
    },
    async close() {
      await Promise.all([...pools.values()].map((pool) => pool.destroy()))
    },
  }
}

/**
 * One request. The pool calls `onRequestStart` right before it writes the first byte to an open connection: an error
 * that comes earlier (no address, no route, no TLS, no free connection in time) is the proof that nothing was sent.
 */
function dispatch(
  pool: Pool,
  options: Dispatcher.DispatchOptions,
  signal: AbortSignal | undefined,
): Promise<Response> {
  return new Promise((resolve, reject) => {
    let started: Dispatcher.DispatchController | undefined
    let body: ReadableStreamDefaultController<Uint8Array> | undefined
    const timedOut = () => signal?.reason as Error
    function fail(error: Error): void {
      signal?.removeEventListener('abort', giveUp)
      reject(started ? error : new NeverSent(error))
      body?.error(error)
    }
    const giveUp = () => (started ? started.abort(timedOut()) : fail(timedOut()))
    signal?.addEventListener('abort', giveUp)

    pool.dispatch(options, {
      onRequestStart(controller) {
        // It was given up while it waited for a connection.
        if (signal?.aborted) controller.abort(timedOut())
        else started = controller
      },
      onResponseStart(controller, status, headers) {
        if (status < 200) return
        const stream = () =>
          new ReadableStream<Uint8Array>({
            start: (own) => void (body = own),
            pull: () => controller.resume(),
            // Ends the connection: nobody knows how much more there is.
            cancel: () => controller.abort(new Error('the rest of the answer is not wanted')),
          })
        const flat = Object.entries(headers).flatMap(([header, value]) =>
          [value ?? []].flat().map((one): [string, string] => [header, one]),
        )
        resolve(new Response(BODILESS.has(status) ? null : stream(), { status, headers: flat }))
      },
      onResponseData(controller, chunk) {
        // After a pause the parser goes on with an empty piece, which would fill the stream and pause it again, for ever.
        if (chunk.length > 0) body?.enqueue(chunk)
        if ((body?.desiredSize ?? 1) <= 0) controller.pause()
      },
      onResponseEnd() {
        signal?.removeEventListener('abort', giveUp)
        body?.close()
      },
      onResponseError: (_, error) => fail(error),
    })
  })
}

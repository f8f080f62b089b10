import { lookup as systemLookup } from 'node:dns'
import type { LookupFunction } from 'node:net'
import { promisify } from 'node:util'
import { brotliDecompress, gunzip, inflate } from 'node:zlib'
import { type Dispatcher, Pool } from 'undici'
import type { ConnectionConfig } from '../config/document.ts'
import { literalAddress, mayReach } from '../lib/address-guard.ts'
import type { Log } from '../lib/log.ts'
import type { Fetch, PlainAnswer } from '../upstream/send.ts'

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

/** What an answer may be coded with, though nobody asked for it (RFC 9110 §8.4.1): what Workers undo as well. */
const codings = new Map<
  string,
  (bytes: Uint8Array, most: { maxOutputLength: number }) => Promise<Uint8Array>
>([
  ['gzip', promisify(gunzip)],
  // As RFC 9110 §8.4.1.3 wants it read.
  ['x-gzip', promisify(gunzip)],
  ['deflate', promisify(inflate)],
  ['br', promisify(brotliDecompress)],
])

/** The body without its coding, or undefined where it is longer than `most` bytes or coded otherwise. */
async function decoded(
  bytes: Uint8Array | undefined,
  coding: string,
  most: number,
): Promise<Uint8Array | undefined> {
  if (!bytes || coding === '' || coding === 'identity') return bytes
  // What is cut short or no such coding is an answer that cannot be read, and not one that was cut off on its way.
  return codings
    .get(coding)?.(bytes, { maxOutputLength: most })
    .catch(() => undefined)
}

/** Bytes of a body that are taken before anybody asks for it. */
const UNASKED = 64 * 1024

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
    (url: URL): LookupFunction =>
    (hostname, options, callback) =>
      lookup(hostname, { ...options, all: true }, (error, found) => {
        if (error) return callback(error, '')
        const open = found.filter(({ address }) => mayReach(url, address, allowPrivateAddresses))
        const [first] = open
        if (!first) callback(refuse(), '')
        else if (options.all) callback(null, open)
        else callback(null, first.address, first.family)
      })

  function poolOf(url: URL): Pool {
    const { origin } = url
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
        connect: { lookup: lookupOf(url) },
      })
    pools.set(origin, pool)
    return pool
  }

  return {
    async fetch(text, { method = 'GET', headers, body, signal }) {
      const url = new URL(text)
      // No name, no lookup: a literal is connected to as it is.
      const literal = literalAddress(url.hostname)
      if (literal !== undefined && !mayReach(url, literal, allowPrivateAddresses))
        throw new NeverSent(refuse())
      const options: Dispatcher.DispatchOptions = {
        path: url.pathname + url.search,
        method,
        // Without the header any coding would be welcome (RFC 9110 §12.5.3).
        headers: {
          ...Object.fromEntries(headers instanceof Headers ? headers : new Headers(headers)),
          'accept-encoding': 'identity',
        },
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
): Promise<PlainAnswer> {
  return new Promise((resolve, reject) => {
    let started: Dispatcher.DispatchController | undefined
    const chunks: Buffer[] = []
    let size = 0
    let limit: number | undefined
    const whole = Promise.withResolvers<Uint8Array | undefined>()
    // A reader gets the error; there need not be one.
    whole.promise.catch(() => {})
    const timedOut = () => signal?.reason as Error
    function fail(error: Error): void {
      signal?.removeEventListener('abort', giveUp)
      reject(started ? error : new NeverSent(error))
      whole.reject(error)
    }
    /** Ends the socket: how much more would come is unknown. */
    function cut(controller: Dispatcher.DispatchController): void {
      whole.resolve(undefined)
      controller.abort(new Error('the rest of the answer is not wanted'))
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
        if (status > 599) throw new RangeError('the provider answered a status that does not exist')
        const flat = Object.entries(headers).map(([header, value]): [string, string] => [
          header,
          [value ?? []].flat().join(', '),
        ])
        const coding =
          flat
            .find(([header]) => header === 'content-encoding')?.[1]
            .trim()
            .toLowerCase() ?? ''
        resolve({
          status,
          headers: flat,
          async read(most) {
            limit = most
            if (size > most) cut(controller)
            else controller.resume()
            return decoded(await whole.promise, coding, most)
          },
        })
      },
      onResponseData(controller, chunk) {
        size += chunk.length
        chunks.push(chunk)
        if (size <= (limit ?? UNASKED)) return
        if (limit === undefined) controller.pause()
        else cut(controller)
      },
      onResponseEnd() {
        signal?.removeEventListener('abort', giveUp)
        whole.resolve(Buffer.concat(chunks))
      },
      onResponseError: (_, error) => fail(error),
    })
  })
}

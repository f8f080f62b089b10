import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTVerifyGetKey } from 'jose'
import type { IssuerConfig } from '../config/document.ts'
import { Deadline } from '../lib/deadline.ts'
import { isObject } from '../lib/json.ts'
import type { Log } from '../lib/log.ts'
import type { Send } from '../upstream/send.ts'

/** Older keys are read anew; if that fails, they serve until they are `TOO_OLD`. Milliseconds. */
const OLD = 300_000
const TOO_OLD = 900_000

/** An issuer is asked no more often than this, whatever tokens name and whether or not it answers. Milliseconds. */
const COOLDOWN = 10_000

/** How long finding and reading the keys may take together. Milliseconds. */
const PATIENCE = 5000

/** How often one request looks whether another has read the keys. Milliseconds. */
const LOOK = 20

/** The keys of the token's issuer cannot be fetched, so the token can be neither accepted nor refused. */
export class KeysUnavailable extends Error {
  readonly retryAfterSeconds: number

  constructor(milliseconds: number) {
    super('the keys of the issuer cannot be had')
    this.retryAfterSeconds = Math.max(1, Math.ceil(milliseconds / 1000))
  }
}

type Keys = ReturnType<typeof createLocalJWKSet>

/** The keys of a set. What is none is passed over, but of nothing else a set cannot be. */
function keysIn({ keys }: Record<string, unknown>): Keys {
  if (!Array.isArray(keys)) throw new Error('the answer has no list of keys')
  const sound = keys.filter(isObject)
  if (sound.length === 0 && keys.length > 0) throw new Error('the answer lists nothing that could be a key')
  return createLocalJWKSet({ keys: sound } as JSONWebKeySet)
}

/** The keys of an issuer, as one request has them. */
export interface IssuerKeys {
  find: JWTVerifyGetKey
  /** Reads them anew, where the issuer may be asked; whether there are others now. */
  renew(): Promise<boolean>
}

interface State {
  known: { keys: Keys; readAt: number } | undefined
  /** When the issuer was last asked, and whether it gave its keys. */
  asked: { at: number; well: boolean }
  /** The end of the time of the request that is reading. */
  reading: Deadline | undefined
}

/**
 * An issuer's public keys, read when they are needed and kept. What requests share is data and never a promise: on
 * Workers a promise belongs to the request that made it, so whoever comes second looks again until the first is done.
 * @param now In epoch milliseconds.
 */
export function issuerKeys(
  { issuer, jwksUrl }: IssuerConfig,
  send: Send,
  now: () => number,
  log: Log,
): (traceparent: string) => IssuerKeys {
  const state: State = { known: undefined, asked: { at: -Infinity, well: true }, reading: undefined }

  /** A clock that was set back makes everything old. */
  const since = (at: number): number => (now() < at ? Infinity : now() - at)

  async function read(baseUrl: string, template: string, deadline: Deadline, traceparent: string) {
    const answer = await send({
      method: 'GET',
      baseUrl,
      template,
      ref: {},
      headers: { accept: 'application/json' },
      credentials: {},
      traceparent,
      timeoutMs: deadline.remainingMs(),
    })
    if (!answer.received) throw new Error(answer.detail)
    const { status, body } = answer.response
    if (status !== 200) throw new Error(`the answer was ${status}`)
    if (typeof body !== 'object' || body === null) throw new Error('the answer is no JSON object')
    return body as Record<string, unknown>
  }

  /** OpenID Connect Discovery 1.0 §4: the document must name the issuer itself. */
  async function discover(deadline: Deadline, traceparent: string): Promise<string> {
    const { origin, pathname } = new URL(issuer)
    const base = origin + pathname.replace(/\/+$/, '')
    const told = await read(base, '/.well-known/openid-configuration', deadline, traceparent)
    if (told['issuer'] !== issuer) throw new Error('the discovery document is of another issuer')
    const url = URL.parse(String(told['jwks_uri']))
    if (!url || (url.protocol !== 'https:' && url.origin !== origin)) {
      throw new Error('the discovery document has no jwks_uri that could be used')
    }
    return url.href
  }

  const isBeingRead = (): boolean => state.reading !== undefined && state.reading.remainingMs() > 0

  async function refresh(traceparent: string): Promise<void> {
    const others = state.reading
    if (others && isBeingRead()) {
      while (state.reading === others && (await others.sleep(LOOK)));
      return
    }
    const own = new Deadline(PATIENCE)
    state.reading = own
    try {
      const url = jwksUrl ?? (await discover(own, traceparent))
      state.known = { keys: keysIn(await read(url, '', own, traceparent)), readAt: now() }
      state.asked = { at: now(), well: true }
    } catch (error) {
      state.asked = { at: now(), well: false }
      const reason = error instanceof Error ? error.message : 'unknown fault'
      log.warn('issuer without keys', { issuer, reason })
    } finally {
      if (state.reading === own) state.reading = undefined
    }
  }

  const mayAsk = (): boolean => since(state.asked.at) >= COOLDOWN
  const unavailable = () => new KeysUnavailable(COOLDOWN - since(state.asked.at))

  async function current(traceparent: string): Promise<Keys> {
    const age = state.known ? since(state.known.readAt) : Infinity
    // While old keys are still valid, only the request that refreshes them waits.
    const waits = age > TOO_OLD || !isBeingRead()
    if (age > OLD && waits && mayAsk()) await refresh(traceparent)
    if (!state.known || since(state.known.readAt) > TOO_OLD) throw unavailable()
    return state.known.keys
  }

  const find =
    (traceparent: string): JWTVerifyGetKey =>
    async (header, token) => {
      const before = state.asked.at
      const keys = await current(traceparent)
      try {
        return await keys(header, token)
      } catch (error) {
        if (!(error instanceof errors.JWKSNoMatchingKey)) throw error
        // A missing key may be a new one: only keys fetched after the token arrived can tell.
        if (mayAsk()) await refresh(traceparent)
        if (!state.asked.well || state.asked.at === before) throw unavailable()
        if (!state.known || state.known.keys === keys) throw error
        return state.known.keys(header, token)
      }
    }
  return (traceparent) => ({
    find: find(traceparent),
    async renew() {
      const before = state.known?.keys
      if (mayAsk()) await refresh(traceparent)
      return state.asked.well && state.known?.keys !== before
    },
  })
}

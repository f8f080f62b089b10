import type { ConnectionConfig } from '../config/document.ts'
import { Deadline } from '../lib/deadline.ts'
import { Secret } from '../lib/secret.ts'
import type { Auth } from '../model/adapter.ts'
import type { Refusal } from '../model/upstream-refusal.ts'
import type { GatedSend } from './concurrency-gate.ts'
import { type Answer, heldBack } from './send.ts'

/** The headers that sign a request in, or why there are none. Without them the request itself was never sent. */
export type SignIn =
  /** `isNew` where the token was fetched for the request itself. */
  | { ok: true; headers: Record<string, Secret>; isNew: boolean }
  | { ok: false; refusal: Refusal }
  | { ok: false; unanswered: Answer }

export interface Tokens {
  /** @param refused What the provider has refused to take for the request: anything else will do. */
  signIn(deadline: Deadline, traceparent: string, refused?: Record<string, Secret>): Promise<SignIn>
  /**
   * The provider has refused what `headers` sign in with: has it renewed, unless it has been since. Until then it serves other
   * requests, for the refusal may be of one resource.
   * @param isFresh Whether it was made for the request that it was refused for: another would fare no better.
   * @returns Whether another token may be had, with which the request is worth a repeat.
   */
  discard(headers: Record<string, Secret>, isFresh: boolean): boolean
}

/**
 * How long a token request may take with its waiting, of which an attempt gets its share: it serves all who wait, so no
 * single deadline bounds it. Milliseconds.
 */
const PATIENCE = 10_000

/** A token is renewed this long before its end, or after nine tenths of its life, so that it does not run out on the way. Milliseconds. */
const EARLY = 30_000

/** A token already expired on arrival means clock skew: assume that it lasts this long. Milliseconds. */
const MISDATED = 60_000

/** No token is asked for so soon after a failure, each time twice as long. Milliseconds. */
const COOL_DOWN = { first: 500, longest: 30_000 }

/**
 * Cool-downs of up to this are waited for, so that a single transient failure is invisible to callers. Milliseconds.
 */
const SHORT = 1000

/** Share of the remaining time that may be spent waiting: leave enough of it for the response. */
const RENEWAL_SHARE = 0.1

const LATE: SignIn = {
  ok: false,
  unanswered: { received: false, sent: false, detail: 'the deadline passed while signing in' },
}

interface Held {
  headers: Record<string, Secret>
  /** Both on the monotonic clock: a wall clock that jumps neither ends a token nor keeps it alive. */
  renewAt: number
  endsAt: number
}

/** One account's sign-in. Waiters share one token request. */
export function createTokens(connection: ConnectionConfig, send: GatedSend): Tokens {
  const { auth, secrets } = connection
  if (auth.scheme === 'header') {
    const headers = { [auth.header]: new Secret(auth.prefix + (secrets[auth.setting]?.expose() ?? '')) }
    const signedIn: SignIn = { ok: true, headers, isNew: false }
    return { signIn: async () => signedIn, discard: () => false }
  }

  let held: Held | undefined
  let pending: Promise<SignIn> | undefined
  let failures = 0
  /** On the monotonic clock. */
  let coolUntil = -Infinity
  /** Whether the last token that was asked for did not come. */
  let isFailing = false
  /** Set while a refusal for good is remembered. */
  let refusal: Extract<SignIn, { refusal: Refusal }> | undefined

  const toSignIn = ({ headers }: Held, isNew = false): SignIn => ({ ok: true, headers, isNew })

  function coolDown(): void {
    // Reset by time, not by success: a token that the API rejects is not a success.
    const isOver = performance.now() > coolUntil + COOL_DOWN.longest
    failures = isOver ? 1 : failures + 1
    const longest = Math.min(COOL_DOWN.first * 2 ** (failures - 1), COOL_DOWN.longest)
    // Half of it at random: those who share an account need not come back together.
    coolUntil = performance.now() + (longest * (1 + Math.random())) / 2
  }

  async function renew(
    way: Extract<Auth, { scheme: 'client-credentials' }>,
    traceparent: string,
  ): Promise<SignIn> {
    const request = {
      method: 'POST' as const,
      baseUrl: connection.tokenBaseUrl,
      template: way.template,
      ref: {},
      headers: {
        accept: 'application/json',
        'content-type': way.encoding === 'json' ? 'application/json' : 'application/x-www-form-urlencoded',
      },
      encoding: way.encoding,
      body: {
        grant_type: 'client_credentials',
        client_id: secrets.clientId ?? '',
        client_secret: secrets.clientSecret ?? '',
      },
      credentials: {},
      traceparent,
    }
    const answer = await send(request, new Deadline(PATIENCE))
    // Kept by a gate: no token was asked for, and the gate itself says when to come back.
    if ('held' in answer) return { ok: false, unanswered: answer }
    isFailing = true
    if (!answer.received || answer.response.status === 429 || answer.response.status >= 500) {
      coolDown()
      return { ok: false, unanswered: answer }
    }
    const token = way.parse(answer.response)
    if (!token.ok) {
      coolDown()
      refusal = token
      return token
    }
    isFailing = false
    const { accessToken, lifetime } = token.value
    const told = 'seconds' in lifetime ? lifetime.seconds * 1000 : lifetime.until - Date.now()
    const life = told > 0 ? told : MISDATED
    const now = performance.now()
    held = {
      headers: { Authorization: new Secret(`Bearer ${accessToken.expose()}`) },
      renewAt: now + Math.max(life - EARLY, life * 0.9),
      endsAt: now + life,
    }
    return toSignIn(held, true)
  }

  return {
    async signIn(deadline, traceparent, refused) {
      const heldUntil = (end: 'renewAt' | 'endsAt') =>
        held && held.headers !== refused && performance.now() < held[end] ? toSignIn(held) : undefined
      // What is about to run out is better than nothing.
      const last = () => heldUntil('endsAt')
      for (let slept = false; ; slept = true) {
        const good = heldUntil('renewAt')
        if (good) return good
        const coolMs = pending ? 0 : coolUntil - performance.now()
        if (coolMs <= 0) break
        const known = last() ?? refusal
        if (known) return known
        // A millisecond more, for timers may be early.
        if (slept || coolMs > SHORT || !(await deadline.sleep(Math.ceil(coolMs) + 1))) {
          const detail = 'the provider’s token endpoint failed a moment ago'
          return { ok: false, unanswered: heldBack('upstream-unavailable', coolMs, false, detail) }
        }
      }
      refusal = undefined
      pending ??= renew(auth, traceparent).finally(() => (pending = undefined))
      const patience = last() ? deadline.part(RENEWAL_SHARE) : deadline
      const signedIn = (await patience.within(pending)) ?? LATE
      return signedIn.ok ? signedIn : (last() ?? signedIn)
    },
    discard(headers, isFresh) {
      const isCooling = performance.now() < coolUntil
      if (held?.headers !== headers) return !isFresh
      if (isFresh) {
        if (!isCooling) coolDown()
        return false
      }
      // While it cools down after a fresh one that was refused, another would fare no better; where none is to be had, signing in
      // anew tells why.
      if (isCooling && !isFailing) return false
      held.renewAt = -Infinity
      return true
    },
  }
}

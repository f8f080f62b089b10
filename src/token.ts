import type { Auth, Refusal } from './adapter.ts'
import type { ConnectionConfig } from './config.ts'
import type { Deadline } from './deadline.ts'
import { Secret } from './secret.ts'
import type { Answer, Send } from './upstream.ts'

/** The headers that sign a request in, or why there are none. Without them the request itself was never sent. */
export type SignIn =
  | { ok: true; headers: Record<string, Secret>; expired: () => boolean }
  | { ok: false; refusal: Refusal }
  | { ok: false; unanswered: Answer }

export interface Tokens {
  signIn(deadline: Deadline, traceparent: string): Promise<SignIn>
  /** Forgets the token, unless it has been renewed since `headers` were given out. */
  discard(headers: Record<string, Secret>): void
  /** Whether a fresh token could be had at all. */
  renewable: boolean
}

/** How long a token request may take: it serves all who wait, so no single deadline bounds it. Milliseconds. */
const PATIENCE = 10_000

/** A token is renewed this long before its end, so that it does not run out on the way. Milliseconds. */
const EARLY = 30_000

const LATE: SignIn = {
  ok: false,
  unanswered: { received: false, sent: false, detail: 'the deadline passed while signing in' },
}

interface Held {
  headers: Record<string, Secret>
  /** On the monotonic clock: a wall clock that jumps neither ends a token nor keeps it alive. */
  endsAt: number
}

/** One account's sign-in. Waiters share one token request. */
export function createTokens(connection: ConnectionConfig, send: Send): Tokens {
  const { auth, secrets } = connection
  if (auth.scheme === 'header') {
    const headers = { [auth.header]: new Secret(auth.prefix + (secrets[auth.setting]?.expose() ?? '')) }
    const signedIn: SignIn = { ok: true, headers, expired: () => false }
    return { signIn: async () => signedIn, discard: () => {}, renewable: false }
  }

  let held: Held | undefined
  let pending: Promise<SignIn> | undefined

  const toSignIn = ({ headers, endsAt }: Held): SignIn => ({
    ok: true,
    headers,
    expired: () => performance.now() >= endsAt,
  })

  async function renew(way: Extract<Auth, { scheme: 'client-credentials' }>, traceparent: string) {
    const answer = await send({
      method: 'POST',
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
      timeoutMs: PATIENCE,
    })
    if (!answer.received || answer.response.status === 429 || answer.response.status >= 500) {
      return { ok: false as const, unanswered: answer }
    }
    const token = way.parse(answer.response)
    if (!token.ok) return token
    const { accessToken, lifetime } = token.value
    const milliseconds = 'seconds' in lifetime ? lifetime.seconds * 1000 : lifetime.until - Date.now()
    held = {
      headers: { Authorization: new Secret(`Bearer ${accessToken.expose()}`) },
      endsAt: performance.now() + milliseconds,
    }
    return toSignIn(held)
  }

  return {
    renewable: true,
    async signIn(deadline, traceparent) {
      if (held && performance.now() < held.endsAt - EARLY) return toSignIn(held)
      pending ??= renew(auth, traceparent).finally(() => (pending = undefined))
      return (await deadline.within(pending)) ?? LATE
    },
    discard(headers) {
      if (held?.headers === headers) held = undefined
    },
  }
}

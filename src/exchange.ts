import type { Adapter, Refusal, UpstreamRequest, UpstreamResponse } from './adapter.ts'
import type { ConnectionConfig } from './config.ts'
import type { Deadline } from './deadline.ts'
import type { Tokens } from './token.ts'
import type { Answer, Send } from './upstream.ts'

/** What one attempt has shown, before anybody asks what it means for the change. */
/** `unsent` marks what the sign-in met: the request itself never left. */
export type Verdict<T> =
  /** A definite answer that the adapter has read. */
  | { kind: 'answered'; status: number; parsed: T }
  /** Proven not to have reached the provider. */
  | { kind: 'not_sent'; detail: string }
  /** Refused for its rate: nothing was done, and it may be repeated after the wait. */
  | { kind: 'throttled'; status: number; waitMs: number; unsent?: true }
  /** Refused for good, whatever the body says. */
  | { kind: 'refused'; status: number; refusal: Refusal; unsent?: true }
  /** May have been done. */
  | { kind: 'unknown'; status: number | null; detail: string }

/** The parts of an adapter's reading that an exchange looks at: a refusal that a fresh token may lift. */
type Readable = { refusal?: Refusal } | object

export type Exchange = <T extends Readable>(
  request: UpstreamRequest,
  parse: (response: UpstreamResponse) => T,
  deadline: Deadline,
  traceparent: string,
) => Promise<Verdict<T>>

/** Cloudflare's edge answers these when it has no connection to the origin, so nothing of the request got there. */
const EDGE_UNREACHED = new Set([521, 523, 525, 526, 530])

/** A `Retry-After` beyond this is cut down to it (seconds). */
const LONGEST_WAIT = 3600

/** An attempt may use this much of the time that is left, so that a silent provider leaves some to find out what happened. */
const ATTEMPT_SHARE = 0.6

/** One authenticated request to a provider and its classification; a stale token is renewed once. */
export function createExchange(
  connection: ConnectionConfig,
  adapter: Adapter,
  tokens: Tokens,
  send: Send,
): Exchange {
  function waitMs({ headers }: UpstreamResponse): number {
    const retryAfter = headers['retry-after']
    if (retryAfter !== undefined) {
      const seconds = /^\d+$/.test(retryAfter)
        ? Number(retryAfter)
        : (Date.parse(retryAfter) - Date.now()) / 1000
      if (seconds >= 0) return Math.min(seconds, LONGEST_WAIT) * 1000
    }
    const { limitHeader, intervalHeader, fallbackSeconds } = adapter.throttle
    const pace = Number(headers[intervalHeader ?? '']) / Number(headers[limitHeader ?? ''])
    return (Number.isFinite(pace) && pace > 0 ? pace : fallbackSeconds) * 1000
  }

  function classify<T>(answer: Answer, parse: (response: UpstreamResponse) => T): Verdict<T> {
    if (!answer.received) {
      return answer.sent
        ? { kind: 'unknown', status: null, detail: answer.detail }
        : { kind: 'not_sent', detail: answer.detail }
    }
    const { response } = answer
    const { status } = response
    if (EDGE_UNREACHED.has(status))
      return { kind: 'not_sent', detail: `the provider’s edge answered ${status}` }
    if (status === 429 || (status === 503 && 'retry-after' in response.headers)) {
      return { kind: 'throttled', status, waitMs: waitMs(response) }
    }
    if (status === 501 || (status >= 300 && status < 400)) {
      const detail =
        status === 501
          ? 'the provider does not implement the request'
          : 'the provider answered with a redirect'
      return {
        kind: 'refused',
        status,
        refusal: { problem: 'upstream-failed', detail: `${detail} (status ${status})` },
      }
    }
    if (status === 408 || status >= 500 || status < 200) {
      return { kind: 'unknown', status, detail: `the provider answered ${status}` }
    }
    return { kind: 'answered', status, parsed: parse(response) }
  }

  return async function exchange(request, parse, deadline, traceparent) {
    for (let renewed = false; ; renewed = true) {
      const signIn = await tokens.signIn(deadline, traceparent)
      if (!signIn.ok) {
        if ('refusal' in signIn)
          return { kind: 'refused', status: 401, refusal: signIn.refusal, unsent: true }
        const verdict = classify(signIn.unanswered, () => ({}))
        if (verdict.kind === 'throttled') return { ...verdict, unsent: true }
        return { kind: 'not_sent', detail: 'the provider’s token endpoint gave no answer' }
      }
      if (deadline.remainingMs() === 0) {
        return { kind: 'not_sent', detail: 'the deadline passed before the request was sent' }
      }
      const expired = signIn.expired()
      const answer = await send({
        ...request,
        baseUrl: connection.baseUrl,
        credentials: signIn.headers,
        traceparent,
        timeoutMs: deadline.remainingMs() * ATTEMPT_SHARE,
      })
      const verdict = classify(answer, parse)
      const refusal =
        verdict.kind === 'answered' && 'refusal' in verdict.parsed
          ? (verdict.parsed.refusal as Refusal)
          : undefined
      const stale = verdict.kind === 'answered' && verdict.status === 401 && (refusal?.staleToken || expired)
      if (!stale || !tokens.renewable) return verdict
      tokens.discard(signIn.headers)
      if (renewed) return verdict
    }
  }
}

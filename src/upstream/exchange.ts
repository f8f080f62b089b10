import type { ConnectionConfig } from '../config/document.ts'
import type { Deadline } from '../lib/deadline.ts'
import type { Secret } from '../lib/secret.ts'
import type { Adapter, UpstreamRequest, UpstreamResponse } from '../model/adapter.ts'
import type { Refusal } from '../model/upstream-refusal.ts'
import type { GatedSend } from './concurrency-gate.ts'
import { paceOf } from './rate-headers.ts'
import type { Answer, HeldBack } from './send.ts'
import type { Tokens } from './sign-in.ts'

/** What one attempt has shown, before anybody asks what it means for the change. */
/** `unsent`: sign-in failed, the request itself was never sent. */
export type AttemptResult<T> =
  /** A definite answer that the adapter has read. */
  | { kind: 'answered'; status: number; parsed: T }
  /** Proven not to have reached the provider; `held` where the gateway itself kept it, which a repeat would not change. */
  | { kind: 'not_sent'; detail: string; held?: HeldBack['held'] }
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
) => Promise<AttemptResult<T>>

/** Cloudflare's edge answers these when it has no connection to the origin, so nothing of the request got there. */
const EDGE_UNREACHED = new Set([521, 523, 525, 526, 530])

/** One authenticated request to a provider and its classification; a stale token is renewed once. */
export function createExchange(
  connection: ConnectionConfig,
  adapter: Adapter,
  tokens: Tokens,
  send: GatedSend,
): Exchange {
  function classify<T>(answer: Answer, parse: (response: UpstreamResponse) => T): AttemptResult<T> {
    if (!answer.received) {
      return answer.sent
        ? { kind: 'unknown', status: null, detail: answer.detail }
        : { kind: 'not_sent', detail: answer.detail, ...('held' in answer && { held: answer.held }) }
    }
    const { response } = answer
    const { status } = response
    if (EDGE_UNREACHED.has(status))
      return { kind: 'not_sent', detail: `the provider’s edge answered ${status}` }
    const { waitMs } = paceOf(response, adapter.throttle, Date.now())
    if (waitMs !== undefined) return { kind: 'throttled', status, waitMs }
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
    let refused: Record<string, Secret> | undefined
    for (;;) {
      const signIn = await tokens.signIn(deadline, traceparent, refused)
      if (!signIn.ok) {
        if ('refusal' in signIn)
          return { kind: 'refused', status: 401, refusal: signIn.refusal, unsent: true }
        const verdict = classify(signIn.unanswered, () => ({}))
        if (verdict.kind === 'throttled') return { ...verdict, unsent: true }
        if (verdict.kind === 'not_sent' && verdict.held) return verdict
        return { kind: 'not_sent', detail: 'the provider’s token endpoint gave no answer' }
      }
      if (deadline.remainingMs() === 0) {
        return { kind: 'not_sent', detail: 'the deadline passed before the request was sent' }
      }
      const { baseUrl } = connection
      const answer = await send({ ...request, baseUrl, credentials: signIn.headers, traceparent }, deadline)
      const verdict = classify(answer, parse)
      const refusal =
        verdict.kind === 'answered' && 'refusal' in verdict.parsed
          ? (verdict.parsed.refusal as Refusal)
          : undefined
      const isFresh = signIn.isNew || refused !== undefined
      if (!refusal?.staleToken || !tokens.discard(signIn.headers, isFresh)) return verdict
      refused = signIn.headers
    }
  }
}

import type { Deadline } from '../lib/deadline.ts'
import type { Current, KindSpec, Ref } from '../model/adapter.ts'
import type { Kind } from '../model/enums.ts'
import type { Problem } from '../model/problems.ts'
import type { Exchange, Verdict } from '../upstream/exchange.ts'

/** Attempts of one read or one change. */
export const MAX_ATTEMPTS = 3

/** Full jitter: somewhere between nothing and twice as much as the time before. Milliseconds. */
export const backoffMs = (attempt: number): number => Math.random() * 100 * 2 ** attempt

const inSeconds = (milliseconds: number): number => Math.max(1, Math.ceil(milliseconds / 1000))

/** What a caller is told when the provider gave no answer that can be read. */
export function problemOf(verdict: Exclude<Verdict<unknown>, { kind: 'answered' }>): Problem {
  switch (verdict.kind) {
    case 'not_sent':
      return {
        slug: verdict.held?.problem ?? 'upstream-unavailable',
        detail: verdict.detail,
        retryAfterSeconds: inSeconds(verdict.held?.ms ?? 0),
      }
    case 'throttled':
      return {
        slug: 'upstream-rate-limited',
        detail: 'the provider’s rate limit is spent',
        retryAfterSeconds: inSeconds(verdict.waitMs),
      }
    case 'refused':
      return toProblem(verdict.refusal)
    case 'unknown':
      return { slug: 'upstream-failed', detail: `the provider could not be read: ${verdict.detail}` }
  }
}

export const toProblem = ({
  problem,
  detail,
  errors,
}: {
  problem: Problem['slug']
  detail: string
  errors?: Problem['errors']
}): Problem => ({
  slug: problem,
  detail,
  ...(errors && { errors }),
})

/** `later` where the provider is well and did not look at the request: its patience is spent, or others were before. */
export type ReadBack<K extends Kind> =
  | { ok: true; value: Current<K> }
  | { ok: false; problem: Problem; later: boolean }

/** Reads a resource's state back. Reading changes nothing, so every kind of failure may be tried again. */
export async function readBack<K extends Kind>(
  read: NonNullable<KindSpec<K>['read']>,
  ref: Ref,
  exchange: Exchange,
  deadline: Deadline,
  traceparent: string,
): Promise<ReadBack<K>> {
  for (let attempt = 1; ; attempt++) {
    const verdict = await exchange(
      read.request(ref),
      (response) => read.parse(ref, response),
      deadline,
      traceparent,
    )
    if (verdict.kind === 'answered') {
      return verdict.parsed.ok
        ? { ok: true, value: verdict.parsed.value }
        : { ok: false, problem: toProblem(verdict.parsed.refusal), later: false }
    }
    const isHeld = verdict.kind === 'not_sent' && verdict.held !== undefined
    const later = verdict.kind === 'throttled' || (isHeld && verdict.held?.crowded === true)
    const refused = { ok: false as const, problem: problemOf(verdict), later }
    if (verdict.kind === 'refused' || isHeld || attempt === MAX_ATTEMPTS) return refused
    const wait = verdict.kind === 'throttled' ? verdict.waitMs : backoffMs(attempt)
    if (!(await deadline.sleep(wait))) return refused
  }
}

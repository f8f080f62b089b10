import type { Deadline } from '../lib/deadline.ts'
import type { Current, KindSpec, Ref } from '../model/adapter.ts'
import type { Kind } from '../model/enums.ts'
import type { Problem } from '../model/problems.ts'
import type { Exchange } from '../upstream/exchange.ts'
import { backoffMs, MAX_ATTEMPTS, problemOf, toProblem } from './retry.ts'

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

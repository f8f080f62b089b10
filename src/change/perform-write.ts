import type { UpstreamResponse } from '../model/adapter.ts'
import type { Kind } from '../model/enums.ts'
import { type AnyValues, sameValue, type Values } from '../model/fields.ts'
import type { Exchange } from '../upstream/exchange.ts'
import { acknowledge } from './acknowledge.ts'
import { readBack } from './read-back.ts'
import { backoffMs, interpret, type Known, MAX_ATTEMPTS, foundPartial, foundUnknown } from './retry.ts'
import {
  comparable,
  type Earlier,
  type WriteResult,
  hasSecret,
  notTakenProblem,
  provesAll,
  toldOtherwise,
  type Write,
} from './write.ts'

/** Called before a request is repeated, with what the attempt before it has shown. */
export type OnRepeat = (attempt: number, shown: string, status: number | null) => Promise<void>

/** What is known from the run before, until this one knows better. */
function carriedOver({ state, notTaken, undeployed }: Earlier): WriteResult {
  const known: Known = { status: null, attempts: 0 }
  if (state === 'unknown') return foundUnknown('what became of an attempt before this one is open', known)
  if (!notTaken) return foundPartial('the change is stored and not deployed everywhere', undefined, known)
  const problem = notTakenProblem('partial', notTaken)
  return {
    outcome: 'partial',
    notTaken,
    ...(undeployed && { undeployed }),
    problem: { ...problem, detail: `in an attempt before this one ${problem.detail}` },
    ...known,
  }
}

/**
 * Makes the write and repeats it only where that is safe: when nothing was sent, when it was refused for its rate, to
 * repair a partial deployment, or to find out about an unknown one. An attempt that may have been applied is never
 * downgraded by a later refusal, and an acknowledgement counts as far as it tells what was asked for.
 */
export async function performWrite<K extends Kind>(
  write: Write<K>,
  exchange: Exchange,
  onRepeat: OnRepeat,
): Promise<WriteResult> {
  const { spec, ref, request, desired, deadline, traceparent, earlier } = write
  /** What may be in force already. */
  let inForce = earlier && carriedOver(earlier)
  /** What attempts before, of earlier runs too, have come to: the one that is made now cannot make it less. */
  let least = earlier?.state
  let repaired = false
  let resent = false
  for (let attempts = 1; ; attempts++) {
    const parse = (response: UpstreamResponse) => spec.parse(ref, response, desired as Values<K>)
    const verdict = await exchange(request, parse, deadline, traceparent)
    const { means, finding, waitMs, answered } = interpret(verdict, attempts)
    const last = attempts === MAX_ATTEMPTS
    /** The most that is known when no further attempt is made. */
    const atWorst = async (): Promise<WriteResult> => {
      if (!inForce) return finding
      const known = { ...inForce, attempts }
      return inForce.outcome === 'partial' && inForce.status !== null
        ? acknowledge(write, exchange, known, least)
        : known
    }
    switch (means) {
      case 'acknowledged':
        return acknowledge(write, exchange, finding, least)
      case 'refused':
        return atWorst()
      case 'nothing done':
        if (last || waitMs === undefined || !(await deadline.sleep(waitMs))) return atWorst()
        break
      case 'partial':
        inForce = finding
        least = 'partial'
        if (repaired || last || deadline.remainingMs() === 0) return atWorst()
        repaired = true
        break
      case 'unknown': {
        if (inForce?.undeployed) return atWorst()
        if (inForce?.outcome !== 'partial') inForce = finding
        least ??= 'unknown'
        const seen = await readBackAndCompare(write, exchange)
        if (seen.state === 'new') {
          const { values } = seen
          return {
            outcome: 'applied',
            values,
            ...toldOtherwise(write.kind, write.desired, values),
            verified: true,
            status: finding.status,
            attempts,
          }
        }
        const mayRepeat = !answered && (seen.state === 'old' || (seen.state === 'inconclusive' && !resent))
        if (!mayRepeat || last || !(await deadline.sleep(backoffMs(attempts)))) return atWorst()
        resent = true
      }
    }
    await onRepeat(attempts, finding.outcome, finding.status)
  }
}

type ReadBackState =
  | { state: 'new'; values: AnyValues }
  /** Everything is as it was; that proves nothing, because a late request may still land. */
  | { state: 'old' }
  /** Neither: somebody else writes too, or the provider cannot be read now. */
  | { state: 'other' }
  /** A read is inconclusive: the provider has none, or a secret is part of the change. */
  | { state: 'inconclusive' }

async function readBackAndCompare<K extends Kind>(
  write: Write<K>,
  exchange: Exchange,
): Promise<ReadBackState> {
  const { kind, spec, ref, desired, current, deadline, traceparent } = write
  const names = comparable(desired)
  if (!spec.read || hasSecret(desired)) return { state: 'inconclusive' }
  const read = await readBack(spec.read, ref, exchange, deadline, traceparent)
  if (!read.ok) return { state: 'other' }
  const now = read.value.values as AnyValues
  const before = current?.values as AnyValues | undefined
  if (provesAll(kind, spec.fields, desired, now, before)) return { state: 'new', values: now }
  return names.every((name) => sameValue(kind, name, now[name], before?.[name]))
    ? { state: 'old' }
    : { state: 'other' }
}

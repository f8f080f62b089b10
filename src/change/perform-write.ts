import type { Deployment, Reported, UpstreamResponse } from '../model/adapter.ts'
import { type Kind } from '../model/enums.ts'
import { type AnyValues, sameValue, type Values } from '../model/fields.ts'
import type { Exchange, Verdict } from '../upstream/exchange.ts'
import { acknowledge } from './acknowledge.ts'
import { backoffMs, MAX_ATTEMPTS, problemOf, readBack, toProblem } from './read-back.ts'
import {
  comparable,
  type Earlier,
  type Finding,
  hasSecret,
  notTakenProblem,
  provesAll,
  toldOtherwise,
  type Write,
} from './write.ts'

/** Called before a request is repeated, with what the attempt before it has shown. */
export type OnRepeat = (attempt: number, shown: string, status: number | null) => Promise<void>

/** What one attempt means for the change. */
interface Shown {
  means:
    | 'acknowledged'
    | 'refused'
    | 'partial'
    | 'unknown'
    /** Nothing was done, and it may be repeated after `waitMs`; without it a repeat would not help. */
    | 'nothing done'
  finding: Finding
  waitMs?: number
  /** Of what is unknown: it was answered, and the same request would be answered so again. */
  answered?: true
}

function interpret(verdict: Verdict<Reported<Kind>>, attempts: number): Shown {
  const known = { status: verdict.kind === 'not_sent' ? null : verdict.status, attempts }
  if (verdict.kind === 'unknown') return { means: 'unknown', finding: unknown(verdict.detail, known) }
  if (verdict.kind !== 'answered') {
    const unsent = verdict.kind === 'not_sent' || verdict.unsent
    const finding: Finding = {
      outcome: unsent ? 'not_sent' : 'rejected',
      problem: problemOf(verdict),
      ...known,
    }
    if (verdict.kind === 'refused') return { means: 'refused', finding }
    if (verdict.kind === 'throttled') return { means: 'nothing done', finding, waitMs: verdict.waitMs }
    return { means: 'nothing done', finding, ...(!verdict.held && { waitMs: backoffMs(attempts) }) }
  }
  const { parsed } = verdict
  switch (parsed.outcome) {
    case 'applied': {
      const { values, deployment } = parsed
      const told = { ...(values && { values: values as AnyValues }), ...(deployment && { deployment }) }
      return { means: 'acknowledged', finding: { outcome: 'applied', ...told, ...known } }
    }
    case 'partial':
      return { means: 'partial', finding: partial(parsed.detail, parsed.deployment, known) }
    case 'rejected':
      return {
        means: 'refused',
        finding: { outcome: 'rejected', problem: toProblem(parsed.refusal), ...known },
      }
    case 'unknown':
      return {
        means: 'unknown',
        finding: unknown(parsed.detail, known),
        ...(parsed.answered && { answered: true }),
      }
  }
}

type Known = Pick<Finding, 'status' | 'attempts'>

const unknown = (detail: string, known: Known): Finding => ({
  outcome: 'unknown',
  problem: {
    slug: 'outcome-unknown',
    detail: `${detail}; the change may have been applied`,
    retryAfterSeconds: 1,
  },
  ...known,
})

const partial = (detail: string, deployment: Deployment | undefined, known: Known): Finding => ({
  outcome: 'partial',
  undeployed: true,
  problem: { slug: 'partially-applied', detail, ...(deployment && { extension: { deployment } }) },
  ...(deployment && { deployment }),
  ...known,
})

/** What is known from the run before, until this one knows better. */
function carriedOver({ state, notTaken, undeployed }: Earlier): Finding {
  const known: Known = { status: null, attempts: 0 }
  if (state === 'unknown') return unknown('what became of an attempt before this one is open', known)
  if (!notTaken) return partial('the change is stored and not deployed everywhere', undefined, known)
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
export async function carryOut<K extends Kind>(
  write: Write<K>,
  exchange: Exchange,
  onRepeat: OnRepeat,
): Promise<Finding> {
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
    const atWorst = async (): Promise<Finding> => {
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
        const seen = await look(write, exchange)
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
        const mayRepeat = !answered && (seen.state === 'old' || (seen.state === 'untold' && !resent))
        if (!mayRepeat || last || !(await deadline.sleep(backoffMs(attempts)))) return atWorst()
        resent = true
      }
    }
    await onRepeat(attempts, finding.outcome, finding.status)
  }
}

type Look =
  | { state: 'new'; values: AnyValues }
  /** Everything is as it was; that proves nothing, because a late request may still land. */
  | { state: 'old' }
  /** Neither: somebody else writes too, or the provider cannot be read now. */
  | { state: 'other' }
  /** Reading cannot tell: the provider has no read, or a secret is part of the change. */
  | { state: 'untold' }

async function look<K extends Kind>(write: Write<K>, exchange: Exchange): Promise<Look> {
  const { kind, spec, ref, desired, current, deadline, traceparent } = write
  const names = comparable(desired)
  if (!spec.read || hasSecret(desired)) return { state: 'untold' }
  const read = await readBack(spec.read, ref, exchange, deadline, traceparent)
  if (!read.ok) return { state: 'other' }
  const now = read.value.values as AnyValues
  const before = current?.values as AnyValues | undefined
  if (provesAll(kind, spec.fields, desired, now, before)) return { state: 'new', values: now }
  return names.every((name) => sameValue(kind, name, now[name], before?.[name]))
    ? { state: 'old' }
    : { state: 'other' }
}

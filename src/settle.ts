import type { Current, Deployment, KindSpec, Ref, UpstreamRequest } from './adapter.ts'
import type { Deadline } from './deadline.ts'
import type { Exchange } from './exchange.ts'
import { type AnyValues, type Kind, sameValue } from './model.ts'
import type { Problem } from './problems.ts'
import { backoffMs, MAX_ATTEMPTS, problemOf, readBack, toProblem } from './read.ts'
import { Secret } from './secret.ts'

/** A write that is about to be made, and all that is needed to find out afterwards whether it was. */
export interface Write<K extends Kind> {
  kind: K
  spec: KindSpec<K>
  ref: Ref
  request: UpstreamRequest
  desired: AnyValues
  /** What was read before; undefined where the provider cannot be read. */
  current: Current<K> | undefined
  /** What an earlier run of the same change ended in, when this one goes on with it. */
  earlier: 'unknown' | 'partial' | undefined
  deadline: Deadline
  traceparent: string
}

/** What is known at the end. Only `applied` may be reported as success. */
export interface Finding {
  outcome: 'applied' | 'partial' | 'rejected' | 'unknown' | 'not_sent'
  /** What the caller is told when it is not `applied`. */
  problem?: Problem
  /** What the provider said the resource is now. */
  values?: AnyValues
  deployment?: Deployment
  status: number | null
  attempts: number
}

/** Called before a request is repeated, with what the attempt before it has shown. */
export type OnRepeat = (attempt: number, shown: string, status: number | null) => Promise<void>

/**
 * Makes the write and repeats it only where that is safe: when nothing was sent, when it was refused for its rate, to
 * repair a partial deployment, or to find out about an unknown one. An attempt that may have been applied is never
 * talked away by a later refusal.
 */
export async function carryOut<K extends Kind>(
  write: Write<K>,
  exchange: Exchange,
  onRepeat: OnRepeat,
): Promise<Finding> {
  const { spec, ref, request, deadline, traceparent } = write
  let partial = write.earlier === 'partial' ? carriedOver('partial') : undefined
  let unknown = write.earlier === 'unknown' ? carriedOver('unknown') : undefined
  let repaired = false
  let resent = false
  for (let attempts = 1; ; attempts++) {
    const verdict = await exchange(request, (response) => spec.parse(ref, response), deadline, traceparent)
    const last = attempts === MAX_ATTEMPTS
    const status = verdict.kind === 'not_sent' ? null : verdict.status
    const known = { status, attempts }
    /** The most that is known when no further attempt is made. */
    const end = (finding: Finding): Finding => {
      const before = partial ?? unknown
      return before ? { ...before, attempts } : finding
    }

    if (verdict.kind === 'answered' && verdict.parsed.outcome === 'applied') {
      const { values, deployment } = verdict.parsed
      return {
        outcome: 'applied',
        ...known,
        ...(values && { values: values as AnyValues }),
        ...(deployment && { deployment }),
      }
    }
    if (verdict.kind === 'answered' && verdict.parsed.outcome === 'rejected') {
      return end({ outcome: 'rejected', problem: toProblem(verdict.parsed.refusal), ...known })
    }
    if (verdict.kind === 'refused') {
      return end({ outcome: verdict.unsent ? 'not_sent' : 'rejected', problem: problemOf(verdict), ...known })
    }

    if (verdict.kind === 'answered' && verdict.parsed.outcome === 'partial') {
      const { detail, deployment } = verdict.parsed
      const before = repaired
      repaired = true
      partial = {
        outcome: 'partial',
        problem: { slug: 'partially-applied', detail, ...(deployment && { extension: { deployment } }) },
        ...(deployment && { deployment }),
        ...known,
      }
      if (before || last || deadline.remainingMs() === 0) return partial
      await onRepeat(attempts, 'partial', status)
      continue
    }

    if (verdict.kind === 'throttled' || verdict.kind === 'not_sent') {
      const refused = verdict.kind === 'throttled' && !verdict.unsent
      const outcome = refused ? ('rejected' as const) : ('not_sent' as const)
      const finding: Finding = { outcome, problem: problemOf(verdict), ...known }
      const isHeld = verdict.kind === 'not_sent' && verdict.held !== undefined
      const wait = verdict.kind === 'throttled' ? verdict.waitMs : backoffMs(attempts)
      if (last || isHeld || !(await deadline.sleep(wait))) return end(finding)
      await onRepeat(attempts, outcome, status)
      continue
    }

    const detail = verdict.kind === 'unknown' ? verdict.detail : (verdict.parsed as { detail: string }).detail
    const repeated = resent
    resent = true
    unknown = {
      outcome: 'unknown',
      problem: {
        slug: 'outcome-unknown',
        detail: `${detail}; the change may have been applied`,
        retryAfterSeconds: 1,
      },
      ...known,
    }
    if (partial) return { ...partial, attempts }
    const seen = await look(write, exchange)
    if (seen.state === 'new') return { outcome: 'applied', values: seen.values, ...known }
    const mayRepeat = seen.state === 'old' || (seen.state === 'untold' && !repeated)
    if (!mayRepeat || last || !(await deadline.sleep(backoffMs(attempts)))) return unknown
    await onRepeat(attempts, 'unknown', status)
  }
}

/** What is known from the run before, until this one knows better. */
const carriedOver = (outcome: 'unknown' | 'partial'): Finding => ({
  outcome,
  problem:
    outcome === 'partial'
      ? { slug: 'partially-applied', detail: 'the change is stored and not deployed everywhere' }
      : { slug: 'outcome-unknown', detail: 'the change may have been applied', retryAfterSeconds: 1 },
  status: null,
  attempts: 0,
})

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
  const asked = Object.entries(desired)
  if (!spec.read || asked.some(([, value]) => value instanceof Secret)) return { state: 'untold' }
  const read = await readBack(spec.read, ref, exchange, deadline, traceparent)
  if (!read.ok) return { state: 'other' }
  const now = read.value.values as AnyValues
  if (asked.every(([name, value]) => sameValue(kind, name, now[name], value)))
    return { state: 'new', values: now }
  const before = current?.values as AnyValues | undefined
  return asked.every(([name]) => sameValue(kind, name, now[name], before?.[name]))
    ? { state: 'old' }
    : { state: 'other' }
}

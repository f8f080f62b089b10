import type { Deployment, Reported } from '../model/adapter.ts'
import type { Kind } from '../model/enums.ts'
import type { AnyValues } from '../model/fields.ts'
import type { Problem } from '../model/problems.ts'
import type { AttemptResult } from '../upstream/exchange.ts'
import type { WriteResult } from './write.ts'

/** What one attempt means for the change. */
interface Interpretation {
  means:
    | 'acknowledged'
    | 'refused'
    | 'partial'
    | 'unknown'
    /** Nothing was done, and it may be repeated after `waitMs`; without it a repeat would not help. */
    | 'nothing done'
  finding: WriteResult
  waitMs?: number
  /** Of what is unknown: it was answered, and the same request would be answered so again. */
  answered?: true
}

/** What an attempt means: the table in ARCHITECTURE.md, as one switch. `attempts` counts this one. */
export function interpret(verdict: AttemptResult<Reported<Kind>>, attempts: number): Interpretation {
  const known = { status: verdict.kind === 'not_sent' ? null : verdict.status, attempts }
  const refusal = (outcome: 'not_sent' | 'rejected'): WriteResult => ({
    outcome,
    problem: problemOf(verdict as Exclude<typeof verdict, { kind: 'answered' }>),
    ...known,
  })
  switch (verdict.kind) {
    case 'not_sent':
      return {
        means: 'nothing done',
        finding: refusal('not_sent'),
        ...(!verdict.held && { waitMs: backoffMs(attempts) }),
      }
    case 'throttled':
      return {
        means: 'nothing done',
        finding: refusal(verdict.unsent ? 'not_sent' : 'rejected'),
        waitMs: verdict.waitMs,
      }
    case 'refused':
      return { means: 'refused', finding: refusal(verdict.unsent ? 'not_sent' : 'rejected') }
    case 'unknown':
      return { means: 'unknown', finding: foundUnknown(verdict.detail, known) }
    case 'answered':
      return interpretAnswer(verdict.parsed, known)
  }
}

/** What the provider's own words mean, as its adapter reads them. */
function interpretAnswer(parsed: Reported<Kind>, known: Known): Interpretation {
  switch (parsed.outcome) {
    case 'applied': {
      const { values, deployment } = parsed
      const told = { ...(values && { values: values as AnyValues }), ...(deployment && { deployment }) }
      return { means: 'acknowledged', finding: { outcome: 'applied', ...told, ...known } }
    }
    case 'partial':
      return { means: 'partial', finding: foundPartial(parsed.detail, parsed.deployment, known) }
    case 'rejected':
      return {
        means: 'refused',
        finding: { outcome: 'rejected', problem: toProblem(parsed.refusal), ...known },
      }
    case 'unknown':
      return {
        means: 'unknown',
        finding: foundUnknown(parsed.detail, known),
        ...(parsed.answered && { answered: true }),
      }
  }
}

export type Known = Pick<WriteResult, 'status' | 'attempts'>

export const foundUnknown = (detail: string, known: Known): WriteResult => ({
  outcome: 'unknown',
  problem: {
    slug: 'outcome-unknown',
    detail: `${detail}; the change may have been applied`,
    retryAfterSeconds: 1,
  },
  ...known,
})

export const foundPartial = (
  detail: string,
  deployment: Deployment | undefined,
  known: Known,
): WriteResult => ({
  outcome: 'partial',
  undeployed: true,
  problem: { slug: 'partially-applied', detail, ...(deployment && { extension: { deployment } }) },
  ...(deployment && { deployment }),
  ...known,
})

/** Attempts of one read or one change. */
export const MAX_ATTEMPTS = 3

/** Full jitter: somewhere between nothing and twice as much as the time before. Milliseconds. */
export const backoffMs = (attempt: number): number => Math.random() * 100 * 2 ** attempt

const inSeconds = (milliseconds: number): number => Math.max(1, Math.ceil(milliseconds / 1000))

/** The problem returned when the provider gave no readable answer. */
export function problemOf(verdict: Exclude<AttemptResult<unknown>, { kind: 'answered' }>): Problem {
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

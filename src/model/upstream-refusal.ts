import type { FieldFault, ProblemSlug } from './problems.ts'

/** Why a request cannot be made, or what a refusal by the provider means to the caller. */
export interface Refusal {
  problem: ProblemSlug
  detail: string
  errors?: FieldFault[]
  /** The provider may no longer take the token: a fresh one may help. */
  staleToken?: boolean
}

export type Parsed<T> = { ok: true; value: T } | { ok: false; refusal: Refusal }

export const parsed = <T>(value: T): Parsed<T> => ({ ok: true, value })

export const refused = (
  problem: ProblemSlug,
  detail: string,
  more: Omit<Refusal, 'problem' | 'detail'> = {},
): { ok: false; refusal: Refusal } => ({ ok: false, refusal: { problem, detail, ...more } })

/**
 * What a 4xx without a known body means. 401 and 403 speak of the gateway's own account, never of the caller; a 400 or
 * 405 speaks of the request that the adapter built.
 */
export function refusalByStatus(status: number): Refusal {
  const refusal = (problem: ProblemSlug, detail: string): Refusal => ({
    problem,
    detail: `${detail} (status ${status})`,
  })
  if (status === 401 || status === 403) {
    return refusal('upstream-unauthorized', 'the provider does not let the gateway’s account do this')
  }
  if (status === 404 || status === 410) return refusal('not-found', 'the provider has no such resource')
  if (status === 409)
    return refusal('upstream-conflict', 'the provider reports a conflict with another resource')
  if (status === 422) return refusal('upstream-validation-failed', 'the provider refused the values')
  if (status === 423) return refusal('upstream-locked', 'the provider holds the resource locked')
  return refusal('upstream-failed', 'the provider refused the request')
}

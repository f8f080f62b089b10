/** What the operator grants a caller. */
export interface Limit {
  requests: number
  seconds: number
}

/** Requests that are counted as one, from the first to the last of them: epoch milliseconds. */
interface Burst {
  from: number
  to: number
  count: number
}

/** What still counts of a caller's requests, oldest first. */
export type Window = Burst[]

/** Into how many parts a window is divided at the most: within one, requests count as the last of them does. */
const PARTS = 60

export interface Taken {
  allowed: boolean
  /** Requests that are left now. */
  remaining: number
  /** Seconds until the oldest that counts does not any more, rounded up. */
  resetSeconds: number
}

/**
 * Counts one request, if no stretch of the limit's length then holds more than it allows. What a clock that was set back
 * has ahead of it does not count, so that no caller is shut out for long.
 */
export function take(
  window: Window | undefined,
  { requests, seconds }: Limit,
  now: number,
): { window: Window; taken: Taken } {
  const length = seconds * 1000
  const bursts = (window ?? []).filter(({ to }) => to <= now && now < to + length)
  const counted = bursts.reduce((sum, { count }) => sum + count, 0)
  const allowed = counted < requests
  const last = bursts.at(-1)
  if (allowed) {
    if (last && now < last.from + length / PARTS)
      bursts.splice(-1, 1, { ...last, to: now, count: last.count + 1 })
    else bursts.push({ from: now, to: now, count: 1 })
  }
  const oldest = bursts[0]?.to ?? now
  return {
    window: bursts,
    taken: {
      allowed,
      remaining: Math.max(0, requests - counted - (allowed ? 1 : 0)),
      resetSeconds: Math.max(1, Math.ceil((oldest + length - now) / 1000)),
    },
  }
}

/** Counts one request against a caller's limit; undefined when the counter does not answer. */
export type TakeRequest = (caller: string, limit: Limit) => Promise<Taken | undefined>

/**
 * `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10): the quota and its window, what is left
 * of it and for how many seconds.
 */
export const rateLimitHeaders = ({ requests, seconds }: Limit, { remaining, resetSeconds }: Taken) => ({
  'ratelimit-policy': `"caller";q=${requests};w=${seconds}`,
  ratelimit: `"caller";r=${remaining};t=${resetSeconds}`,
})

/** What the operator grants a caller. */
export interface Limit {
  requests: number
  seconds: number
}

/** A window of a caller's limit: it opens with the first request after the one before is over. */
export interface Window {
  /** Epoch milliseconds. */
  opened: number
  taken: number
}

export interface Taken {
  allowed: boolean
  /** Requests that are left in the window. */
  remaining: number
  /** Seconds until the window is over, rounded up. */
  resetSeconds: number
}

/** Counts one request. A clock that was set back opens a new window, so that no caller is shut out for long. */
export function take(
  window: Window | undefined,
  { requests, seconds }: Limit,
  now: number,
): { window: Window; taken: Taken } {
  const isOpen = window && now >= window.opened && now < window.opened + seconds * 1000
  const { opened, taken } = isOpen ? window : { opened: now, taken: 0 }
  const allowed = taken < requests
  const count = allowed ? taken + 1 : taken
  return {
    window: { opened, taken: count },
    taken: {
      allowed,
      remaining: Math.max(0, requests - count),
      resetSeconds: Math.max(1, Math.ceil((opened + seconds * 1000 - now) / 1000)),
    },
  }
}

/** Takes one request out of a caller's limit; undefined when whoever counts does not answer. */
export type TakeRequest = (caller: string, limit: Limit) => Promise<Taken | undefined>

/**
 * `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10): the quota and its window, what is left
 * of it and for how many seconds.
 */
export const rateLimitHeaders = ({ requests, seconds }: Limit, { remaining, resetSeconds }: Taken) => ({
  'ratelimit-policy': `"caller";q=${requests};w=${seconds}`,
  ratelimit: `"caller";r=${remaining};t=${resetSeconds}`,
})

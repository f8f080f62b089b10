import type { Clock } from './clock.ts'

export interface Allowance {
  limit: number
  seconds: number
}

export interface Standing extends Allowance {
  allowed: boolean
  remaining: number
  /** When the oldest request that still counts leaves the window. */
  freesAt: number
}

export interface SlidingWindows {
  /** Counts one request. Refused ones count as well: a source stays blocked until its rate has fallen. */
  hit(key: string, allowance: Allowance): Standing
  clear(): void
}

export function createSlidingWindows(clock: Clock): SlidingWindows {
  const windows = new Map<string, number[]>()
  return {
    hit(key, { limit, seconds }) {
      const now = clock.now()
      const recent = (windows.get(key) ?? []).filter((at) => at > now - seconds * 1000)
      const allowed = recent.length < limit
      // The newest `limit` hits decide every later answer, so nothing older is kept.
      const kept = [...recent, now].slice(-limit)
      windows.set(key, kept)
      return {
        limit,
        seconds,
        allowed,
        remaining: allowed ? limit - recent.length - 1 : 0,
        freesAt: (kept[0] ?? now) + seconds * 1000,
      }
    },
    clear: () => windows.clear(),
  }
}

import type { Log } from './log.ts'

/** No clock is right that is before this: raised with a release now and then. Epoch milliseconds. */
const RELEASED = Date.parse('2026-11-01T00:00:00Z')
const TEN_YEARS = 10 * 365.25 * 24 * 60 * 60 * 1000

/**
 * Why the wall clock cannot be right, or undefined. Ids and positions ascend with it: one event of a far future would leave no
 * place for those after it.
 */
export function clockFault(now = Date.now()): string | undefined {
  if (now >= RELEASED && now < RELEASED + TEN_YEARS) return undefined
  return `the clock says ${new Date(now).toISOString()}, which cannot be; nothing is recorded until it is set right`
}

/** How far the wall clock may come apart from the monotonic one before it counts as set. Milliseconds. */
const JUMP = 5000

/** Logs when the wall clock was set; to be called every now and then. */
export function watchClock(log: Log): () => void {
  const apart = (): number => Date.now() - performance.now()
  let known = apart()
  return () => {
    const now = apart()
    if (Math.abs(now - known) > JUMP) log.warn('clock was set', { byMs: Math.round(now - known) })
    known = now
  }
}

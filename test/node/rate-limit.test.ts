import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { take, type Window } from '../../src/access/rate-limit.ts'

const limit = fc.record({
  requests: fc.integer({ min: 1, max: 8 }),
  seconds: fc.integer({ min: 1, max: 10 }),
})

test('no stretch of the window’s length holds more than is allowed, and what is refused would be let in later', () => {
  fc.assert(
    fc.property(limit, fc.array(fc.integer({ min: 0, max: 3000 }), { maxLength: 80 }), (granted, pauses) => {
      const length = granted.seconds * 1000
      const times: number[] = []
      let window: Window | undefined
      let now = 1e12
      for (const pause of pauses) {
        now += pause
        const next = take(window, granted, now)
        window = next.window
        const { allowed, remaining, resetSeconds } = next.taken
        const recent = times.filter((at) => at > now - length).length
        if (allowed) times.push(now)
        // Never too many; too few only by what was counted as a little later than it was.
        expect(times.filter((at) => at > now - length).length).toBeLessThanOrEqual(granted.requests)
        if (!allowed) {
          const surely = times.filter((at) => at > now - length * (1 + 1 / 60)).length
          expect(surely).toBeGreaterThanOrEqual(granted.requests)
          expect(take(window, granted, now + resetSeconds * 1000).taken.allowed).toBe(true)
        }
        expect(remaining).toBeLessThanOrEqual(Math.max(0, granted.requests - recent - (allowed ? 1 : 0)))
      }
    }),
  )
})

test('a limit of any number takes a bounded place', () => {
  let window: Window | undefined
  for (let now = 0; now < 3_600_000; now += 100)
    window = take(window, { requests: 1e9, seconds: 3600 }, now).window
  expect(window?.length).toBeLessThanOrEqual(61)
  expect(window?.reduce((sum, { count }) => sum + count, 0)).toBe(36_000)
})

test('a clock that was set back shuts nobody out', () => {
  const granted = { requests: 1, seconds: 60 }
  const { window } = take(undefined, granted, 1e12)
  expect(take(window, granted, 1e12 + 1000).taken.allowed).toBe(false)
  expect(take(window, granted, 1e12 - 1000).taken.allowed).toBe(true)
})

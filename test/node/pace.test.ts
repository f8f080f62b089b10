import { describe, expect, test } from 'vitest'
import { registry } from '../../adapters/index.ts'
import { paceOf } from '../../src/upstream/rate-headers.ts'

const NOW = Date.parse('2026-11-22T12:00:00Z')
const adapter = registry['commerce-layer']
if (!adapter) throw new Error('the adapter is missing')
const pace = (status: number, headers: Record<string, string>) =>
  paceOf({ status, headers, body: undefined }, adapter.throttle, NOW)

describe('a refusal for the rate', () => {
  test.each([
    ['in seconds', { 'retry-after': '7' }, 7],
    ['at once', { 'retry-after': '0' }, 0],
    ['as a date', { 'retry-after': 'Sun, 22 Nov 2026 12:00:30 GMT' }, 30],
    ['as a date that is over', { 'retry-after': 'Sun, 22 Nov 2026 11:00:00 GMT' }, 10],
    ['negative', { 'retry-after': '-5' }, 10],
    ['a fraction', { 'retry-after': '0.5' }, 10],
    ['no time at all', { 'retry-after': 'soon' }, 10],
    ['empty', { 'retry-after': '' }, 10],
    ['absurd', { 'retry-after': '99999999999999999999' }, 3600],
    ['an absurd date', { 'retry-after': 'Sun, 22 Nov 2076 12:00:30 GMT' }, 3600],
    ['absent', {}, 10],
    ['absent, with a pace', { 'x-ratelimit-limit': '200', 'x-ratelimit-interval': '60' }, 0.3],
    ['absent, with an absurd pace', { 'x-ratelimit-limit': '1', 'x-ratelimit-interval': '1e9' }, 3600],
    ['absent, with half a pace', { 'x-ratelimit-limit': '0', 'x-ratelimit-interval': '60' }, 10],
  ])('%s', (_, headers, seconds) => {
    expect(pace(429, headers).waitMs).toBe(seconds * 1000)
  })

  test('is a 503 only with Retry-After', () => {
    expect(pace(503, { 'retry-after': '3' }).waitMs).toBe(3000)
    expect(pace(503, {}).waitMs).toBeUndefined()
    expect(pace(200, { 'retry-after': '3' }).waitMs).toBeUndefined()
  })
})

test.each([
  [
    'X-Ratelimit without a reset, as Commerce Layer sends it',
    { 'x-ratelimit-limit': '50', 'x-ratelimit-interval': '10', 'x-ratelimit-remaining': '12' },
    [{ remaining: 12, windowSeconds: 10 }],
  ],
  [
    'X-RateLimit with the moment of the reset, as Discue announces it',
    { 'x-ratelimit-remaining': '3', 'x-ratelimit-reset': String(NOW / 1000 + 20) },
    [{ remaining: 3, resetSeconds: 20 }],
  ],
  [
    'RateLimit-Remaining with seconds until the reset',
    { 'ratelimit-remaining': '3', 'ratelimit-reset': '20' },
    [{ remaining: 3, resetSeconds: 20 }],
  ],
  [
    'RateLimit',
    { ratelimit: '"a";r=50;t=30, "b";r=2;t=1' },
    [
      { remaining: 50, resetSeconds: 30 },
      { remaining: 2, resetSeconds: 1 },
    ],
  ],
  [
    'RateLimit without a time, by its policy',
    { ratelimit: '"day";r=9', 'ratelimit-policy': '"day";q=100;w=86400' },
    [{ remaining: 9, windowSeconds: 86_400 }],
  ],
  ['a reset that is over', { 'x-ratelimit-remaining': '3', 'x-ratelimit-reset': '1000000001' }, []],
  ['what is left, for nobody knows how long', { 'x-ratelimit-remaining': '3' }, []],
  ['less than nothing', { 'x-ratelimit-remaining': '-3', 'x-ratelimit-reset': '20' }, []],
  ['words', { ratelimit: 'plenty', 'x-ratelimit-remaining': 'many', 'x-ratelimit-reset': '20' }, []],
])('%s', (_, headers, room) => {
  expect(pace(200, headers)).toEqual({ room })
})

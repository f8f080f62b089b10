import type { Throttle, UpstreamResponse } from '../model/adapter.ts'

/** What an answer says about the provider's rate limits. Milliseconds and seconds from now. */
export interface Pace {
  /** Set where the request was refused for its rate. */
  waitMs?: number
  room: Remaining[]
}

/** How much may still come: until a reset, or within a window of so many seconds. */
export type Remaining = { remaining: number } & ({ resetSeconds: number } | { windowSeconds: number })

/** A `Retry-After` beyond this is cut down to it (seconds). */
const LONGEST_WAIT = 3600

/** Seconds; undefined where it is absent, in the past, or no time at all (RFC 9110 §10.2.3). */
function retryAfter(text: string | undefined, now: number): number | undefined {
  if (text === undefined) return undefined
  const seconds = /^\d+$/.test(text) ? Number(text) : (Date.parse(text) - now) / 1000
  return seconds >= 0 ? Math.min(seconds, LONGEST_WAIT) : undefined
}

const count = (text: string | undefined): number | undefined =>
  text !== undefined && /^\d{1,12}$/.test(text.trim()) ? Number(text) : undefined

/** The parameters of each item of a structured list, by the item's name: `"default";r=50;t=30` (RFC 9651). */
function items(text: string | undefined): Map<string, Record<string, number>> {
  const listed = (text ?? '').slice(0, 1000).split(',')
  return new Map(
    listed.map((item) => {
      const [name = '', ...parameters] = item.split(';').map((part) => part.trim())
      const read = parameters.map((part) => /^(\w+)=(\d{1,12})$/.exec(part) ?? [])
      return [name, Object.fromEntries(read.map(([, key = '', value]) => [key, Number(value)]))]
    }),
  )
}

/** Epoch seconds are a moment, smaller numbers a time from now: both are in use. */
const fromNow = (seconds: number, now: number): number => (seconds > 1e9 ? seconds - now / 1000 : seconds)

/** @param now Epoch milliseconds, for the times that headers give. */
export function paceOf(
  { status, headers }: UpstreamResponse,
  { limitHeader, intervalHeader, fallbackSeconds }: Throttle,
  now: number,
): Pace {
  const room: Remaining[] = []
  const add = (remaining?: number, resetSeconds?: number, windowSeconds?: number) => {
    if (remaining === undefined) return
    if (resetSeconds !== undefined && resetSeconds >= 0) room.push({ remaining, resetSeconds })
    else if (windowSeconds !== undefined) room.push({ remaining, windowSeconds })
  }
  // draft-ietf-httpapi-ratelimit-headers-10, and the headers of which it has made one.
  const policies = items(headers['ratelimit-policy'])
  for (const [name, { r, t }] of items(headers['ratelimit'])) add(r, t, policies.get(name)?.['w'])
  for (const prefix of ['ratelimit', 'x-ratelimit']) {
    const reset = count(headers[`${prefix}-reset`])
    const told = reset === undefined ? undefined : fromNow(reset, now)
    add(count(headers[`${prefix}-remaining`]), told, count(headers[intervalHeader ?? '']))
  }

  const asked = headers['retry-after']
  if (status !== 429 && (status !== 503 || asked === undefined)) return { room }
  const pace = Number(headers[intervalHeader ?? '']) / Number(headers[limitHeader ?? ''])
  const fallback = Number.isFinite(pace) && pace > 0 ? pace : fallbackSeconds
  return { room, waitMs: (retryAfter(asked, now) ?? Math.min(fallback, LONGEST_WAIT)) * 1000 }
}

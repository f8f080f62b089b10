import { v7 as uuidv7 } from 'uuid'
import { nextRandom } from '../lib/id.ts'

/**
 * Events that a store can place in one millisecond. Positions stay whole numbers in JavaScript until the year 2248.
 */
const PER_MS = 1024

/** The first position that an event of a point in time can have. Epoch milliseconds. */
export const firstPosition = (ms: number): number => Math.min(ms * PER_MS, Number.MAX_SAFE_INTEGER)

/** How many events find a place after the last. */
export const placesAfter = (last: number): number => Number.MAX_SAFE_INTEGER - last

/** The place after `last` of an event of now: positions ascend even where a clock is set back. */
export const positionAfter = (last: number, now: number): number => Math.max(firstPosition(now), last + 1)

/** A UUIDv7 that sorts after those of all earlier positions (RFC 9562 §6.2, method 1). */
export function idAt(position: number): string {
  const random = nextRandom(16)
  // The counter's upper 10 bits are the place in the millisecond, the others are random.
  const seq = (((position % PER_MS) << 22) | (random.readUInt32BE(6) >>> 10)) >>> 0
  return uuidv7({ random, msecs: Math.floor(position / PER_MS), seq })
}

/** The time in a UUIDv7's first 48 bits (RFC 9562 §5.7), in epoch milliseconds. */
export const timeOf = (id: string): number => Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16)

/** The smallest id of a point in time: a time filter is a range of ids. */
export const firstIdAt = (instant: string): string => {
  const hex = Date.parse(instant).toString(16).padStart(12, '0')
  return `${hex.slice(0, 8)}-${hex.slice(8)}`
}

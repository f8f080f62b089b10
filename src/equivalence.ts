import { sameRanges } from './address-range.ts'
import type { Json } from './json.ts'

/**
 * Ways in which a provider may spell a value that it took. An adapter names one for a field in its table; whatever
 * else the provider tells instead of what was asked for is a contradiction.
 */
export const equivalences = {
  /** Space at the ends of a text is cut off. */
  trimmed: (asked, told) => typeof asked === 'string' && asked.trim() === told,
  /** Instants lose their fraction of a second. Both are spelled as `toInstant` does. */
  seconds: (asked, told) => typeof asked === 'string' && asked.replace(/\.\d{3}Z$/, '.000Z') === told,
  /** Addresses and ranges are spelled otherwise: `2001:DB8::1`, `10.0.0.1/32`. */
  addresses: (asked, told) =>
    Array.isArray(asked) && Array.isArray(told) && sameRanges(asked as string[], told as string[]),
  /** An e-mail address in lower case reaches the same mailbox (RFC 5321 §2.4 asks to treat it so). */
  mailbox: (asked, told) =>
    typeof asked === 'string' && typeof told === 'string' && asked.toLowerCase() === told.toLowerCase(),
} satisfies Record<string, (asked: Json, told: Json) => boolean>

export type Equivalence = keyof typeof equivalences
export const equivalenceNames = Object.keys(equivalences) as [Equivalence, ...Equivalence[]]

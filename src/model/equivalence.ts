import type { Json } from '../lib/json.ts'
import { sameRanges } from './ip-ranges.ts'

/** Letters of other alphabets that look alike in lower case are other letters. */
const lowerAscii = (text: string): string => text.replace(/[A-Z]/g, (letter) => letter.toLowerCase())

const isText = (value: Json): value is string | null => value === null || typeof value === 'string'

/**
 * Ways in which a provider may spell a value that it took. An adapter names one for a field in its table; whatever
 * else the provider tells instead of what was asked for is a contradiction.
 */
export const equivalences = {
  /** Space at the ends of a text is cut off; a text of nothing else and none at all are the same. */
  trimmed: (asked, told) => isText(asked) && isText(told) && (asked ?? '').trim() === (told ?? ''),
  /** Instants lose their fraction of a second. Both are spelled as `toInstant` does. */
  seconds: (asked, told) => typeof asked === 'string' && asked.replace(/\.\d{3}Z$/, '.000Z') === told,
  /** Addresses and ranges are spelled otherwise: `2001:DB8::1`, `10.0.0.1/32`. */
  addresses: (asked, told) =>
    Array.isArray(asked) && Array.isArray(told) && sameRanges(asked as string[], told as string[]),
  /** Case of an e-mail address: RFC 5321 §2.4 lets it matter before the @, and in practice it never does. */
  mailbox: (asked, told) =>
    typeof asked === 'string' && typeof told === 'string' && lowerAscii(asked) === lowerAscii(told),
} satisfies Record<string, (asked: Json, told: Json) => boolean>

export type Equivalence = keyof typeof equivalences
export const equivalenceNames = Object.keys(equivalences) as [Equivalence, ...Equivalence[]]

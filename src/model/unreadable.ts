import { isExact, isObject, type Json } from '../lib/json.ts'

/** Placeholder for a number that lost digits: in diffs, and in what is merged until `spelledAs` puts it back. */
export const UNREADABLE = '[unreadable]'

/**
 * A value that a provider reported and that cannot be used: of another type, not well-formed, not exact. It is shown
 * as null and equals nothing.
 */
export class Unreadable {
  /** The value as JSON text, to compare two of them; empty where the provider reported none. Never shown. */
  readonly source: string
  /** Of an object that may be merged into: the same with `[unreadable]` for numbers that cannot be used. */
  readonly legible: Json | undefined

  constructor(value: unknown, legible?: Json) {
    this.source = JSON.stringify(value) ?? ''
    this.legible = legible
  }

  toJSON(): null {
    return null
  }
}

/** Nesting that no real answer needs; what walks over an answer later recurses. */
const MAX_DEPTH = 100

/** Placeholder in an answer for what is nested deeper; no schema accepts it as a value. */
const TOO_DEEP = Symbol('nested too deep')

function cutOff(value: unknown, depthLeft: number): unknown {
  if (typeof value !== 'object' || value === null) return value
  if (depthLeft === 0) return TOO_DEEP
  const members = value as Record<string, unknown>
  for (const name of Object.keys(members)) {
    const member = members[name]
    if (typeof member === 'object') members[name] = cutOff(member, depthLeft - 1)
  }
  return value
}

/** The value of an answer's text, or undefined where that is no JSON. What nobody asks for decides nothing: only its depth is bounded. */
export function parseAnswer(text: string): unknown {
  try {
    return cutOff(JSON.parse(text), MAX_DEPTH)
  } catch {
    return undefined
  }
}

/** A number that keeps the digits it was written with. */
interface RawNumber {
  rawJSON: string
}
// Both runtimes have them; the language library of the compiler has not.
const { rawJSON, isRawJSON } = JSON as unknown as {
  rawJSON(text: string): RawNumber
  isRawJSON(value: unknown): value is RawNumber
}
type Reviver = (this: unknown, name: string, value: unknown, context: { source: string }) => unknown

const holdsNumber = (value: unknown): boolean =>
  typeof value === 'number' ||
  (typeof value === 'object' && value !== null && Object.values(value).some(holdsNumber))

/**
 * What was parsed out of a text, with numbers in the spelling of the text. The text is parsed once more, which takes some
 * five times as long, so only where there are numbers.
 *
 * @param find Finds the same part in the whole value.
 */
export function exactly(part: unknown, text: string | undefined, find: (whole: never) => unknown): unknown {
  if (text === undefined || !holdsNumber(part)) return part
  const keepDigits: Reviver = (_, value, { source }) => (typeof value === 'number' ? rawJSON(source) : value)
  try {
    return find(JSON.parse(text, keepDigits as Parameters<typeof JSON.parse>[1]) as never)
  } catch {
    // Nested so deep that it cannot be gone through twice.
    return part
  }
}

/** Whether a value has a canonical form and can be repeated: no lone surrogate, and no number that lost digits. */
export function isUsable(value: unknown): value is Json {
  if (typeof value === 'string') return value.isWellFormed()
  if (typeof value === 'number') return isExact(value)
  if (typeof value !== 'object' || value === null) return typeof value === 'boolean' || value === null
  return Object.entries(value).every(([name, member]) => name.isWellFormed() && isUsable(member))
}

/** The value with `[unreadable]` for numbers that cannot be used; undefined where more of it cannot be. */
export function legibleOf(value: unknown): Json | undefined {
  if (typeof value === 'number') return isUsable(value) ? value : UNREADABLE
  if (typeof value !== 'object' || value === null) return isUsable(value) ? value : undefined
  if (Array.isArray(value)) {
    const elements = value.map(legibleOf)
    return elements.includes(undefined) ? undefined : (elements as Json[])
  }
  const members = Object.entries(value).map(([name, member]) => [name, legibleOf(member)] as const)
  const isWhole = members.every(([name, member]) => name.isWellFormed() && member !== undefined)
  return isWhole ? (Object.fromEntries(members) as Json) : undefined
}

/** A value in the spelling of the one that it was merged into, where both have the same there: `1.50` stays `1.50`. */
export function spelledAs(value: Json, known: unknown): Json {
  if (isRawJSON(known)) {
    const isSame = value === UNREADABLE || value === Number(known.rawJSON)
    return isSame ? (known as unknown as Json) : value
  }
  if (Array.isArray(value) && Array.isArray(known)) {
    return value.map((element: Json, index) => spelledAs(element, known[index]))
  }
  if (!isObject(value) || !isObject(known)) return value
  return Object.fromEntries(
    Object.entries(value).map(([name, member]) => [
      name,
      Object.hasOwn(known, name) ? spelledAs(member as Json, known[name]) : (member as Json),
    ]),
  )
}

import canonicalize from 'canonicalize'
import { parse, type ValueNode } from '@humanwhocodes/momoa'

export type Json = string | number | boolean | null | readonly Json[] | { readonly [member: string]: Json }
export type JsonObject = { readonly [member: string]: Json }

export const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** The canonical form of RFC 8785: equal values have equal text, whatever the order of their members. */
export function canonical(value: unknown): string {
  const text = canonicalize(value)
  if (text === undefined) throw new TypeError('a value without a JSON form')
  return text
}

/** RFC 6901 §3: `~` and `/` are escaped inside a reference token; §6 puts the pointer into a URI fragment. */
export const pointer = (path: readonly PropertyKey[]): string =>
  '#' +
  path
    .map((part) => '/' + encodeURI(String(part).toWellFormed().replaceAll('~', '~0').replaceAll('/', '~1')))
    .join('')

const PLAIN_NAME = /^[\w$.-]{1,64}$/

/** Whether a member's name can be repeated in a reply: anything else could be a value in the wrong place, a secret too. */
export const isPlainName = (name: PropertyKey): boolean => PLAIN_NAME.test(String(name))

/** The pointer to a place in a caller's body, as far as its names can be repeated. */
export function bodyPointer(path: readonly PropertyKey[]): string {
  const foreign = path.findIndex((part) => !isPlainName(part))
  return pointer(foreign === -1 ? path : path.slice(0, foreign))
}

/** Whether every string in it is well-formed Unicode without U+0000, which most systems behind JSON mangle. */
export function isClean(value: Json): boolean {
  if (typeof value === 'string') return value.isWellFormed() && !value.includes('\0')
  if (typeof value !== 'object' || value === null) return true
  return Object.entries(value).every(([name, member]) => isClean(name) && isClean(member as Json))
}

/** Whether a number has survived parsing: no infinity, no integer that lost its last digits. */
export const isExact = (value: number): boolean =>
  Number.isFinite(value) && (!Number.isInteger(value) || Number.isSafeInteger(value))

/** What no real body needs; bounds keep every later walk over the value bounded too. */
const MAX_DEPTH = 32
/** Members and elements in the whole body. */
const MAX_VALUES = 1000
/** Characters of one string, names of members included. */
const MAX_STRING = 32_768

/** The first thing wrong with a JSON text that `JSON.parse` would let pass, or undefined. */
function hazard(node: ValueNode, path: string[], count: { values: number }): string | undefined {
  const place = bodyPointer(path)
  if (node.type === 'Array' || node.type === 'Object') {
    count.values += node.type === 'Array' ? node.elements.length : node.members.length
    if (count.values > MAX_VALUES) return `the body has more than ${MAX_VALUES} members and elements`
  }
  if (node.type === 'String' && node.value.length > MAX_STRING) {
    return `the string at ${place} is longer than ${MAX_STRING} characters`
  }
  if (path.length > MAX_DEPTH) return `the value at ${place} is nested deeper than ${MAX_DEPTH} levels`
  if (node.type === 'Number' && !isExact(node.value)) return `the number at ${place} cannot be kept exactly`
  if (node.type === 'Array') {
    for (const [at, element] of node.elements.entries()) {
      const found = hazard(element.value, [...path, String(at)], count)
      if (found) return found
    }
  }
  if (node.type === 'Object') {
    const names = new Set<string>()
    for (const member of node.members) {
      const name = member.name.type === 'String' ? member.name.value : member.name.name
      if (name === '__proto__') return `the object at ${place} has a member named __proto__`
      if (names.has(name)) {
        return `the object at ${place} names ${isPlainName(name) ? JSON.stringify(name) : 'a member'} twice`
      }
      if (name.length > MAX_STRING) {
        return `the object at ${place} has a member with a name longer than ${MAX_STRING} characters`
      }
      names.add(name)
      const found = hazard(member.value, [...path, name], count)
      if (found) return found
    }
  }
  return undefined
}

/** The places of members of a JSON text that a reader could lose: those that stand there again, and `__proto__`. */
export function membersNotAlone(text: string): string[][] {
  const found: string[][] = []
  const walk = (node: ValueNode, path: string[]): void => {
    if (node.type === 'Array') node.elements.forEach(({ value }, at) => walk(value, [...path, String(at)]))
    if (node.type !== 'Object') return
    const names = new Set(['__proto__'])
    for (const { name, value } of node.members) {
      const at = [...path, name.type === 'String' ? name.value : name.name]
      const own = at.at(-1) ?? ''
      if (names.has(own)) found.push(at)
      names.add(own)
      walk(value, at)
    }
  }
  walk(parse(text, { mode: 'json' }).body, [])
  return found
}

/**
 * One JSON object out of a request body (RFC 8259). Duplicate members, `__proto__` and deep nesting are refused,
 * because two readers of such a text can see two different objects.
 */
export function parseObject(text: string): { ok: true; value: JsonObject } | { ok: false; detail: string } {
  let value: Json
  try {
    value = JSON.parse(text) as Json
  } catch {
    // The engine's message quotes the text, which may hold a secret.
    return { ok: false, detail: 'the body is not JSON' }
  }
  if (!isObject(value)) return { ok: false, detail: 'the body is not a JSON object' }
  try {
    const found = hazard(parse(text, { mode: 'json' }).body, [], { values: 0 })
    return found ? { ok: false, detail: found } : { ok: true, value: value as JsonObject }
  } catch {
    // The tree parser recurses where JSON.parse does not: what exhausts it is far over MAX_DEPTH.
    return { ok: false, detail: `the body is nested deeper than ${MAX_DEPTH} levels` }
  }
}

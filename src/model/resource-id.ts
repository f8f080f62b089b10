import { ok, refuse, type Result } from './problems.ts'

/** A resource's address: the connection that owns it and the parts of its key there. */
export interface ResourceAddress {
  connection: string
  parts: string[]
  /** `{connection}:{part}[:{part}]` as plain text, in NFC: rules, replies and audit use it. */
  id: string
  /** The alias that the caller used, if it did. */
  alias?: string
}

export const NAME = /^[a-z][a-z0-9-]{0,62}$/

/** Whose the events are that belong to no connection: no connection can have this name. */
export const GATEWAY = '_gateway'

/** Bytes of an id in UTF-8. */
const MAX_ID = 1024

/** Percent-encodes everything outside RFC 3986's unreserved characters, with upper-case hex. */
export const encodePart = (part: string): string =>
  encodeURIComponent(part).replace(/[!'()*]/g, (c) => '%' + c.charCodeAt(0).toString(16).toUpperCase())

/**
 * Characters that some system between here and the provider's database may take for structure, or that nobody sees:
 * separators, control and format characters. User names of HTTP Basic have no colon (RFC 7617 §2).
 */
const STRUCTURAL = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}/\\?#:]/u

function faultOf(part: string): string | undefined {
  if (part === '') return 'has an empty part; it is {connection}:{key}'
  if (!part.isWellFormed()) return 'has a part that is not well-formed Unicode'
  if (part !== part.normalize('NFC')) return 'has a part that is not in Unicode normalization form C'
  // NFKC too, because full-width dots and slashes become plain ones in systems that normalize.
  for (const form of [part, part.normalize('NFKC')]) {
    if (form === '.' || form === '..') return 'has a part that is "." or ".."'
    // A second decoding would open it.
    if (form.includes('%'))
      return 'has a part with "%" in it; an id is plain text, percent-encoded once where it stands in a URL'
    if (STRUCTURAL.test(form)) return 'has a part with a separator, a control or format character in it'
    if (form !== form.trim()) return 'has a part that begins or ends with space'
  }
  return undefined
}

/** Reads an id as plain text. A refusal names the fault and never repeats the id. */
export function parseId(text: string): Result<ResourceAddress> {
  const [connection = '', ...parts] = text.split(':')
  if (!NAME.test(connection)) {
    return refuse('invalid-id', 'the id does not begin with the name of a connection or an alias')
  }
  if (parts.length === 0) return refuse('invalid-id', 'the id has no key; it is {connection}:{key}')
  for (const part of parts) {
    const fault = faultOf(part)
    if (fault) return refuse('invalid-id', `the id ${fault}`)
  }
  if (Buffer.byteLength(text) > MAX_ID)
    return refuse('invalid-id', `the id is longer than ${MAX_ID} bytes in UTF-8`)
  return ok({ connection, parts, id: text })
}

/**
 * Reads a path's segment, which is an id or an alias, percent-encoded once. It is decoded once and strictly
 * (`decodeURIComponent` refuses malformed, overlong and surrogate UTF-8), and then split, so that an encoded colon is a
 * colon. Undefined where the alias does not exist.
 */
export function resolveSegment(
  segment: string,
  aliases: ReadonlyMap<string, ResourceAddress>,
): Result<ResourceAddress> | undefined {
  let text: string
  try {
    text = decodeURIComponent(segment)
  } catch {
    return refuse('invalid-id', 'the id is not percent-encoded UTF-8')
  }
  if (text.includes(':')) return parseId(text)
  if (!NAME.test(text)) return refuse('invalid-id', 'the id is neither an alias nor {connection}:{key}')
  const target = aliases.get(text)
  return target && ok({ ...target, alias: text })
}

/**
 * The id with each part percent-encoded, as ids were spelled until they became plain text. Events of that time keep it, for
 * their hashes bind it, and keyed digests go on with it, so that those of then and now can be compared.
 */
export const encodedSpelling = (id: string): string => {
  const [connection = '', ...parts] = id.split(':')
  return [connection, ...parts.map(encodePart)].join(':')
}

/**
 * The plain text of an id in either spelling. No plain one has a `%`, so what has one is encoded. What cannot be decoded stays
 * as it is.
 */
export function plainSpelling(id: string): string {
  if (!id.includes('%')) return id
  try {
    return decodeURIComponent(id)
  } catch {
    return id
  }
}

import { ok, refuse, type Result } from './problems.ts'

/** A resource's address: the connection that owns it and the decoded parts of its key there. */
export interface ResourceAddress {
  connection: string
  parts: string[]
  /** `{connection}:{key}` in its one spelling, URL-ready: rules, replies and audit use it. */
  id: string
  /** The alias that the caller used, if it did. */
  alias?: string
}

export const NAME = /^[a-z][a-z0-9-]{0,62}$/

/** Whose the events are that belong to no connection: no connection can have this name. */
export const GATEWAY = '_gateway'

/** Percent-encodes everything outside RFC 3986's unreserved characters, with upper-case hex. */
export const encodePart = (part: string): string =>
  encodeURIComponent(part).replace(/[!'()*]/g, (c) => '%' + c.charCodeAt(0).toString(16).toUpperCase())

/**
 * Characters that some system between here and the provider's database may take for structure: separators, control
 * characters, and `%`, which a second decoding would open. User names of HTTP Basic have no colon (RFC 7617 §2).
 */
const STRUCTURAL = /[\p{Cc}/\\?#%:]/u

function faultOf(part: string): string | undefined {
  if (part === '') return 'has an empty part'
  if (!part.isWellFormed()) return 'has a part that is not well-formed Unicode'
  // NFKC too, because full-width dots and slashes become plain ones in systems that normalize.
  for (const form of [part, part.normalize('NFKC')]) {
    if (form === '.' || form === '..') return 'has a part that is "." or ".."'
    if (STRUCTURAL.test(form)) return 'has a part with a separator, a control character or "%" in it'
  }
  return undefined
}

/**
 * Reads an id as it stands in a URL: split at literal colons first, then each part decoded once, strictly
 * (`decodeURIComponent` refuses malformed, overlong and surrogate UTF-8).
 */
export function parseId(text: string): Result<ResourceAddress> {
  const [connection = '', ...encoded] = text.split(':')
  if (!NAME.test(connection)) {
    return refuse('invalid-id', 'the id does not begin with the name of a connection or an alias')
  }
  if (encoded.length === 0) return refuse('invalid-id', 'the id has no key')
  const parts: string[] = []
  for (const part of encoded) {
    let decoded: string
    try {
      decoded = decodeURIComponent(part)
    } catch {
      return refuse('invalid-id', 'the id is not percent-encoded UTF-8')
    }
    const fault = faultOf(decoded)
    if (fault) return refuse('invalid-id', `the id ${fault}`)
    parts.push(decoded)
  }
  return ok({ connection, parts, id: [connection, ...parts.map(encodePart)].join(':') })
}

/** The same for an id or an alias; undefined where the alias does not exist. */
export function resolveId(
  text: string,
  aliases: ReadonlyMap<string, ResourceAddress>,
): Result<ResourceAddress> | undefined {
  if (text.includes(':')) return parseId(text)
  if (!NAME.test(text)) return refuse('invalid-id', 'the id is neither an alias nor {connection}:{key}')
  const target = aliases.get(text)
  return target && ok({ ...target, alias: text })
}

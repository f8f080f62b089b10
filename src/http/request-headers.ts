import { newId } from '../lib/id.ts'
import { ok, refuse, type Result } from '../model/problems.ts'

/** Taken over when it is 1 to 128 visible characters without quotes or commas, else made. */
export const requestIdOf = (headers: Headers): string => {
  const given = headers.get('x-request-id')
  return given !== null && /^[A-Za-z0-9._:@/+=-]{1,128}$/.test(given) ? given : newId()
}

/** Percent-encoded UTF-8, at most 500 characters after decoding. */
export function changeReasonOf(headers: Headers): Result<string | undefined> {
  const given = headers.get('x-change-reason')
  if (given === null) return ok(undefined)
  let reason: string
  if (!/^[\x20-\x7e]*$/.test(given))
    return refuse('invalid-header', 'X-Change-Reason is not percent-encoded UTF-8')
  try {
    reason = decodeURIComponent(given)
  } catch {
    return refuse('invalid-header', 'X-Change-Reason is not percent-encoded UTF-8')
  }
  if ([...reason].length > 500)
    return refuse('invalid-header', 'X-Change-Reason is longer than 500 characters')
  return /\p{Cc}/u.test(reason)
    ? refuse('invalid-header', 'X-Change-Reason holds a control character')
    : ok(reason)
}

/**
 * A member of a list of entity tags with what ends it. It may be empty (RFC 9110 §5.6.1); commas may stand inside of its quotes, and
 * older versions of Apache put their `-gzip` behind them.
 */
const TAG = /(?:\s*((?:W\/)?"[\x21\x23-\x7e\x80-\xff]*"(?:-[a-z]+)?))?\s*(?:,|$)/gy

/**
 * A tag of this gateway's as intermediaries spell it when they compress or otherwise touch a reply: weak (nginx, Cloudflare),
 * or with a suffix inside of the quotes: `-gzip` and `-br` (Apache, Caddy), `--gzip` (Jetty), `:dtagent…` (monitors). Ours
 * are 32 characters long, so that no suffix makes one out of another.
 */
const OWN_TAG = /^(?:W\/)?"([\w-]{32})(?:[-.:;+/~][\x21\x23-\x7e]{0,63})?"(?:-[a-z]+)?$/

/**
 * The members of `If-Match` or `If-None-Match` (RFC 9110 §13.1), or `*`. One that may be the gateway's own is in its own spelling: it
 * names a state and not the bytes of a reply, so that the strong and the weak comparison are the same.
 */
export function entityTagsOf(
  headers: Headers,
  name: 'if-match' | 'if-none-match',
): Result<string[] | undefined> {
  const given = headers.get(name)
  if (given === null) return ok(undefined)
  if (given.trim() === '*') return ok(['*'])
  const members = [...given.matchAll(TAG)]
  const tags = members.flatMap(([, tag]) => (tag === undefined ? [] : [tag.replace(OWN_TAG, '"$1"')]))
  const isWhole = members.map(([text]) => text).join('') === given
  return isWhole && tags.length > 0
    ? ok(tags)
    : refuse('invalid-header', `${name} is neither * nor a list of entity tags in double quotes`)
}

/** 1 to 255 visible ASCII characters, bare or as a quoted string; both spell the same key. */
export function idempotencyKeyOf(headers: Headers): Result<string | undefined> {
  const given = headers.get('idempotency-key')
  if (given === null) return ok(undefined)
  const key = /^"(.*)"$/.exec(given)?.[1] ?? given
  return /^[\x21-\x7e]{1,255}$/.test(key)
    ? ok(key)
    : refuse('invalid-header', 'Idempotency-Key is not 1 to 255 visible ASCII characters')
}

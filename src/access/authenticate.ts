import { createHash, timingSafeEqual } from 'node:crypto'
import type { CallerConfig, CallerKey, Config, IssuerConfig } from '../config/document.ts'
import type { Log } from '../lib/log.ts'
import { ok, refuse, type Result } from '../model/problems.ts'
import type { Send } from '../upstream/send.ts'
import { tokenCheck } from './jwt.ts'
import type { Caller } from './rules.ts'

const KEY = /^cgw_([a-z0-9]{1,32})_[A-Za-z0-9_-]{43}$/

/**
 * The digest to compare with when the key id is unknown. Built like the real ones, because timing differs otherwise.
 */
const NOBODY = Buffer.from('00'.repeat(32), 'hex')

const callerOf = ({ name, allow, limit }: CallerConfig, keyId: string): Caller => ({
  name,
  keyId,
  allow,
  limit,
})

/**
 * Builds the check of an API key against the configured callers. The result for an expired key still names its
 * caller.
 */
function keyCheck(callers: readonly CallerConfig[], now: () => number) {
  const byKeyId = new Map<string, { caller: CallerConfig; key: CallerKey; digest: Buffer }>()
  for (const caller of callers) {
    for (const key of caller.keys)
      byKeyId.set(key.id, { caller, key, digest: Buffer.from(key.sha256, 'hex') })
  }

  return (text: string): { caller: Caller; expired: boolean } | undefined => {
    const known = byKeyId.get(KEY.exec(text)?.[1] ?? '')
    // Unknown ids are compared too, so that the time taken does not reveal which ids exist.
    const same = timingSafeEqual(createHash('sha256').update(text).digest(), known?.digest ?? NOBODY)
    if (!known || !same) return undefined
    const { caller, key } = known
    const expired = key.expiresAt !== null && Date.parse(key.expiresAt) <= now()
    return { caller: callerOf(caller, key.id), expired }
  }
}

const UNKNOWN = 'the request carries no key or token that the gateway knows'

/** RFC 6750 §3; a bearer that is no good gets its error as well. */
export const CHALLENGE = 'Bearer realm="credential-gateway"'
const INVALID_TOKEN = { headers: { 'www-authenticate': `${CHALLENGE}, error="invalid_token"` } }

export interface AuthenticatorParts {
  config: Pick<Config, 'callers' | 'issuers'>
  /** Reads the keys of an issuer. */
  sendToIssuer(issuer: IssuerConfig): Send
  /** In epoch milliseconds. */
  now: () => number
  log: Log
}

/** A request as the authenticator sees it. */
export interface Arrival {
  headers: Headers
  requestId: string
  traceparent: string
}

/** Who calls. A refusal that has a caller speaks of it: it is known, and may not come in with what it sent. */
export type Authentication = Result<Caller> & { caller?: Caller }

/** Builds the check of who calls: by an API key, or by a token of a configured issuer. */
export function authenticator({
  config,
  ...parts
}: AuthenticatorParts): (arrival: Arrival) => Promise<Authentication> {
  const checkKey = keyCheck(config.callers, parts.now)
  const checkToken = tokenCheck(config, parts)
  const places = new Set(['authorization', 'x-api-key', ...config.issuers.map(({ header }) => header)])

  return async ({ headers, requestId, traceparent }) => {
    const sent = [...places].flatMap((header) => {
      const value = headers.get(header)
      if (value === null) return []
      return [{ header, text: header === 'authorization' ? /^Bearer +(\S+)$/i.exec(value)?.[1] : value }]
    })
    const [first] = sent
    if (!first) return refuse('unauthenticated', UNKNOWN)
    // With two credentials we could not tell which one authenticates the caller, and the audit would name only one.
    // The same key in two headers is one credential.
    const isOne = sent.every(({ text }) => text === first.text && KEY.test(text ?? ''))
    if (sent.length > 1 && !isOne) {
      const names = sent.map(({ header }) => header).join(', ')
      return refuse('invalid-header', `more than one credential was sent: ${names}`)
    }
    const { header, text } = first
    if (text === undefined) return refuse('unauthenticated', UNKNOWN)
    // A key has no dots, and a token has two.
    if (header === 'x-api-key' || (header === 'authorization' && !text.includes('.'))) {
      const checked = checkKey(text)
      if (checked && !checked.expired) return ok(checked.caller)
      const challenge = header === 'authorization' ? INVALID_TOKEN : {}
      if (!checked) return refuse('unauthenticated', UNKNOWN, challenge)
      return { ...refuse('unauthenticated', 'the key has expired', challenge), caller: checked.caller }
    }
    const verdict = await checkToken({ text, header, requestId, traceparent })
    if (verdict.kind === 'refused') return refuse('unauthenticated', UNKNOWN, INVALID_TOKEN)
    if (verdict.kind === 'undecided') {
      const { retryAfterSeconds } = verdict
      return refuse('not-ready', 'the keys of the token’s issuer cannot be had now', { retryAfterSeconds })
    }
    const { caller, subject } = verdict
    return ok(callerOf(caller, `jwt:${subject}`))
  }
}

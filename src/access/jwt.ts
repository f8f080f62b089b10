import { createHash } from 'node:crypto'
import {
  decodeJwt,
  errors,
  type JWTPayload,
  jwtVerify,
  type JWTVerifyGetKey,
  type JWTVerifyOptions,
} from 'jose'
import type { CallerConfig, CallerTokens, Config, IssuerConfig } from '../config/document.ts'
import type { Log } from '../lib/log.ts'
import type { Send } from '../upstream/send.ts'
import { type IssuerKeys, issuerKeys, KeysUnavailable } from './issuer-keys.ts'

/** Characters of a token that are looked at; real ones have one or two thousand. */
const MAX_LENGTH = 8192

/** Keys that are tried where several fit: a token names none, or two go by one name while they are exchanged. */
const MOST_KEYS = 8

/** Seconds by which the clocks of issuer and gateway may differ. */
const LEEWAY = 30

export type TokenVerdict =
  | {
      kind: 'known'
      caller: CallerConfig
      /** Who it is, for the audit: at most 128 printable characters. */
      subject: string
    }
  /** The reason is logged, not returned. */
  | { kind: 'refused' }
  /** It can be neither accepted nor refused now. */
  | { kind: 'undecided'; retryAfterSeconds: number }

export interface SentToken {
  text: string
  /** The header that it came in. */
  header: string
  requestId: string
  traceparent: string
}

type Value = CallerTokens['claims'][string][number]

/** A claim that is a list has what one of its elements is. */
function meets(payload: JWTPayload, claims: CallerTokens['claims']): boolean {
  return Object.entries(claims).every(([name, wanted]) => {
    const held: unknown = Object.hasOwn(payload, name) ? payload[name] : undefined
    return (Array.isArray(held) ? held : [held]).some((value) => wanted.includes(value as Value))
  })
}

/** Characters of a subject, as the audit has it. */
const MAX_SUBJECT = 128

/** Cloudflare Access leaves `sub` empty for its service tokens and says `common_name`. */
function subjectOf({ sub, ...claims }: JWTPayload): string {
  const named = [sub, claims['client_id'], claims['common_name']].find(
    (name): name is string => typeof name === 'string' && name !== '',
  )
  const subject = named ?? ''
  const clean = subject.replace(/[^\x20-\x7e]/gu, '?')
  if (clean === subject && clean.length <= MAX_SUBJECT) return subject
  // Two of them must not become one: idempotency keys belong to a subject.
  const digest = createHash('sha256').update(subject).digest('base64url').slice(0, 16)
  return `${clean.slice(0, MAX_SUBJECT - digest.length - 1)}#${digest}`
}

/** Why a token was refused, for the log: never a value of it. */
function reasonOf(error: unknown): string {
  if (error instanceof errors.JWTClaimValidationFailed || error instanceof errors.JWTExpired) {
    return `${error.code} ${error.claim}`
  }
  return error instanceof errors.JOSEError ? error.code : 'it cannot be verified'
}

/** The payload. An issuer may have exchanged a key and kept its name, so that a signature that fails is tried with keys read anew. */
async function verify(text: string, keys: IssuerKeys, options: JWTVerifyOptions): Promise<JWTPayload> {
  try {
    return await verifyWith(text, keys.find, options)
  } catch (error) {
    const mayBeNew = error instanceof errors.JWSSignatureVerificationFailed && (await keys.renew())
    if (!mayBeNew) throw error
    return verifyWith(text, keys.find, options)
  }
}

/** The payload, if one of the keys that fit verifies the signature. */
async function verifyWith(
  text: string,
  keys: JWTVerifyGetKey,
  options: JWTVerifyOptions,
): Promise<JWTPayload> {
  try {
    return (await jwtVerify(text, keys, options)).payload
  } catch (several) {
    if (!(several instanceof errors.JWKSMultipleMatchingKeys)) throw several
    let tried = 0
    for await (const key of several) {
      if ((tried += 1) > MOST_KEYS) break
      try {
        return (await jwtVerify(text, key, options)).payload
      } catch (error) {
        if (!(error instanceof errors.JWSSignatureVerificationFailed)) throw error
      }
    }
    throw new errors.JWSSignatureVerificationFailed()
  }
}

/** Builds the check of a token against the configured issuers and callers. `now` is in epoch milliseconds. */
export function tokenCheck(
  { issuers, callers }: Pick<Config, 'issuers' | 'callers'>,
  { sendToIssuer, now, log }: { sendToIssuer(issuer: IssuerConfig): Send; now: () => number; log: Log },
): (token: SentToken) => Promise<TokenVerdict> {
  const byName = new Map(
    issuers.map((config) => [
      config.issuer,
      { ...config, keysFor: issuerKeys(config, sendToIssuer(config), now, log) },
    ]),
  )

  /** The issuer that the token names. Nothing else is read from it before its signature is verified. */
  function issuerOf({ text, header }: SentToken) {
    try {
      const named = byName.get(decodeJwt(text).iss ?? '')
      return named?.header === header ? named : undefined
    } catch {
      return undefined
    }
  }

  return async (token) => {
    const { text, requestId, traceparent } = token
    const refused = (reason: string, more: Record<string, unknown> = {}): TokenVerdict => {
      log.info('token refused', { requestId, reason, ...more })
      return { kind: 'refused' }
    }
    if (text.length > MAX_LENGTH) return refused('it is too long')
    const named = issuerOf(token)
    if (!named) return refused('it is of no issuer that is configured for this header')
    const { issuer, audience, algorithms, keysFor } = named
    let payload: JWTPayload
    try {
      payload = await verify(text, keysFor(traceparent), {
        issuer,
        audience,
        algorithms,
        requiredClaims: ['exp'],
        clockTolerance: LEEWAY,
        currentDate: new Date(now()),
      })
    } catch (error) {
      if (!(error instanceof KeysUnavailable)) return refused(reasonOf(error), { issuer })
      return { kind: 'undecided', retryAfterSeconds: error.retryAfterSeconds }
    }
    // The library looks at `nbf` and `exp` only.
    if (payload.iat !== undefined && payload.iat > Math.floor(now() / 1000) + LEEWAY) {
      return refused('it was issued in the future', { issuer })
    }
    const matching = callers.filter(({ jwt }) => jwt?.issuer === issuer && meets(payload, jwt.claims))
    const [caller] = matching
    if (!caller) return refused('its claims are those of no caller', { issuer })
    if (matching.length > 1) {
      const names = matching.map(({ name }) => name).join(' ')
      return refused('its claims are those of several callers', { issuer, callers: names })
    }
    return { kind: 'known', caller, subject: subjectOf(payload) }
  }
}

import { createHash, timingSafeEqual } from 'node:crypto'
import type { Action, CallerConfig, CallerKey, Config, IssuerConfig, Rule } from '../config/document.ts'
import type { Log } from '../lib/log.ts'
import { type Kind, kinds } from '../model/enums.ts'
import { fieldsOf } from '../model/fields.ts'
import { ok, refuse, type Result } from '../model/problems.ts'
import { GATEWAY, plainSpelling } from '../model/resource-id.ts'
import type { Send } from '../upstream/send.ts'
import { tokenCheck } from './jwt.ts'
import type { Limit } from './rate-limit.ts'

/** An authenticated internal service and what it came with. */
export interface Caller {
  name: string
  /** The id of its API key, or `jwt:` and the subject of its token. */
  keyId: string
  allow: readonly Rule[]
  limit: Limit | undefined
}

const KEY = /^cgw_([a-z0-9]{1,32})_[A-Za-z0-9_-]{43}$/

/** What is compared with where nothing is known: made like the real ones, because the comparison takes note of that. */
const NOBODY = Buffer.from('00'.repeat(32), 'hex')

const callerOf = ({ name, allow, limit }: CallerConfig, keyId: string): Caller => ({
  name,
  keyId,
  allow,
  limit,
})

/** Builds the check of an API key against the configured callers. An expired one still tells whose it was. */
function keyCheck(callers: readonly CallerConfig[], now: () => number) {
  const byKeyId = new Map<string, { caller: CallerConfig; key: CallerKey; digest: Buffer }>()
  for (const caller of callers) {
    for (const key of caller.keys)
      byKeyId.set(key.id, { caller, key, digest: Buffer.from(key.sha256, 'hex') })
  }

  return (text: string): { caller: Caller; expired: boolean } | undefined => {
    const known = byKeyId.get(KEY.exec(text)?.[1] ?? '')
    // An unknown id is compared as well, so that the time taken does not tell which ids exist.
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
    // Which of two speaks for the caller would be a guess, and the audit would name only one. One key twice is one.
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

const globs = new Map<string, string[]>()

/** What stands between the stars of a glob; `\\*` is a star itself. */
function literalsOf(glob: string): string[] {
  const known = globs.get(glob)
  if (known) return known
  const literals = glob.split(/(?<!\\)\*/).map((literal) => literal.replaceAll('\\*', '*'))
  globs.set(glob, literals)
  return literals
}

/** `*` matches any run of characters, colons included; everything else stands for itself. In linear time. */
function matches(glob: string, id: string): boolean {
  const [first = '', ...between] = literalsOf(glob)
  const last = between.pop()
  if (last === undefined) return id === first
  if (!id.startsWith(first)) return false
  let at = first.length
  for (const literal of between) {
    const found = id.indexOf(literal, at)
    if (found === -1) return false
    at = found + literal.length
  }
  return id.length - last.length >= at && id.endsWith(last)
}

const grants = (rule: Rule, action: Action): boolean =>
  rule.actions.includes(action) || (action === 'plan' && rule.actions.includes('write'))

/** Of an event's resource too, whose id may be in its earlier spelling. */
function covers(rule: Rule, kind: Kind, id: string): boolean {
  const plain = plainSpelling(id)
  return rule.kinds.includes(kind) && rule.ids.some((glob) => matches(glob, plain))
}

/** Whether any rule reaches the resource: without one it does not exist for the caller. */
export const isVisible = (caller: Caller, kind: Kind, id: string): boolean =>
  caller.allow.some((rule) => covers(rule, kind, id))

/** Tells of a field whether the caller may use it in this way on the resource. */
export function allowedFields(
  caller: Caller,
  action: Action,
  kind: Kind,
  id: string,
): (field: string) => boolean {
  const fields = new Set(
    caller.allow
      .filter((rule) => grants(rule, action) && covers(rule, kind, id))
      .flatMap((rule) => rule.fields),
  )
  return fields.has('*') ? () => true : (field) => fields.has(field)
}

export const mayDo = (caller: Caller, action: Action, kind: Kind, id: string): boolean =>
  caller.allow.some((rule) => grants(rule, action) && covers(rule, kind, id))

/** The names of the fields that the caller may read, as plain data. */
export const readableFields = (caller: Caller, kind: Kind, id: string): string[] =>
  Object.keys(fieldsOf(kind)).filter(allowedFields(caller, 'read', kind, id))

export const mayUse = (caller: Caller, action: Action): boolean =>
  caller.allow.some((rule) => grants(rule, action))

/** Whether a rule lets the caller audit whatever there is. */
export const mayAuditAll = (caller: Caller): boolean =>
  caller.allow.some(
    (rule) =>
      grants(rule, 'audit') &&
      rule.ids.includes('*') &&
      rule.fields.includes('*') &&
      kinds.every((kind) => rule.kinds.includes(kind)),
  )

/** Whether events or changes of the connection, or of the gateway itself, could be for the caller. */
export const mayHear = (caller: Caller, connection: string): boolean =>
  connection === GATEWAY ? mayAuditAll(caller) : touchesConnection(caller, connection)

/** Whether some rule could match an id of the connection. */
export function touchesConnection(caller: Caller, connection: string): boolean {
  const prefix = `${connection}:`
  return caller.allow.some((rule) =>
    rule.ids.some((glob) => {
      const [literal = '', ...more] = literalsOf(glob)
      return literal.startsWith(prefix) || (more.length > 0 && prefix.startsWith(literal))
    }),
  )
}

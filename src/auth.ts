import { createHash, timingSafeEqual } from 'node:crypto'
import type { Action, CallerConfig, CallerKey, Rule } from './config.ts'
import { fieldsOf, type Kind } from './model.ts'
import { ok, refuse, type Result } from './problems.ts'
import type { Limit } from './rate-limit.ts'

/** An authenticated internal service and the key it came with. */
export interface Caller {
  name: string
  keyId: string
  allow: readonly Rule[]
  limit: Limit | undefined
}

const KEY = /^cgw_([a-z0-9]{1,32})_[A-Za-z0-9_-]{43}$/

/** Builds the check of a request's key against the configured callers. `now` is in epoch milliseconds. */
export function authenticator(callers: readonly CallerConfig[], now: () => number) {
  const byKeyId = new Map<string, { caller: CallerConfig; key: CallerKey; digest: Buffer }>()
  for (const caller of callers) {
    for (const key of caller.keys)
      byKeyId.set(key.id, { caller, key, digest: Buffer.from(key.sha256, 'hex') })
  }
  const nobody = Buffer.alloc(32)

  return (headers: Headers): Result<Caller> => {
    const authorization = headers.get('authorization')
    const apiKey = headers.get('x-api-key')
    if (authorization !== null && apiKey !== null) {
      return refuse('invalid-header', 'both Authorization and X-API-Key were sent')
    }
    const text = apiKey ?? /^Bearer +(\S+)$/i.exec(authorization ?? '')?.[1]
    const [, id = ''] = KEY.exec(text ?? '') ?? []
    const known = byKeyId.get(id)
    // An unknown id is compared as well, so that the time taken does not tell which ids exist.
    const same = timingSafeEqual(
      createHash('sha256')
        .update(text ?? '')
        .digest(),
      known?.digest ?? nobody,
    )
    if (!known || !same) return refuse('unauthenticated', 'the request carries no key that the gateway knows')
    const { caller, key } = known
    if (key.expiresAt !== null && Date.parse(key.expiresAt) <= now()) {
      return refuse('unauthenticated', 'the key has expired')
    }
    return ok({ name: caller.name, keyId: key.id, allow: caller.allow, limit: caller.limit })
  }
}

const globs = new Map<string, RegExp>()

/** `*` matches any run of characters, colons included; everything else stands for itself. */
function matches(glob: string, id: string): boolean {
  let pattern = globs.get(glob)
  if (!pattern) {
    pattern = new RegExp(
      `^${glob
        .split('*')
        .map((literal) => RegExp.escape(literal))
        .join('.*')}$`,
      's',
    )
    globs.set(glob, pattern)
  }
  return pattern.test(id)
}

const grants = (rule: Rule, action: Action): boolean =>
  rule.actions.includes(action) || (action === 'plan' && rule.actions.includes('write'))

const covers = (rule: Rule, kind: Kind, id: string): boolean =>
  rule.kinds.includes(kind) && rule.ids.some((glob) => matches(glob, id))

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
  caller.allow.some((rule) => grants(rule, 'audit') && rule.ids.includes('*'))

/** Whether some rule could match an id of the connection. */
export function touchesConnection(caller: Caller, connection: string): boolean {
  const prefix = `${connection}:`
  return caller.allow.some((rule) =>
    rule.ids.some((glob) => {
      const [literal = ''] = glob.split('*')
      return literal.startsWith(prefix) || (glob.includes('*') && prefix.startsWith(literal))
    }),
  )
}

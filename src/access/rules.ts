import type { Action, Rule } from '../config/document.ts'
import { type Kind, kinds } from '../model/enums.ts'
import { fieldsOf } from '../model/fields.ts'
import { GATEWAY, plainSpelling } from '../model/resource-id.ts'
import type { Limit } from './rate-limit.ts'

/** An authenticated internal service and what it came with. */
export interface Caller {
  name: string
  /** The id of its API key, or `jwt:` and the subject of its token. */
  keyId: string
  allow: readonly Rule[]
  limit: Limit | undefined
}

const globs = new Map<string, string[]>()

/** The literal parts between the stars of a glob; `\\*` is a literal star. */
function literalsOf(glob: string): string[] {
  const known = globs.get(glob)
  if (known) return known
  const literals = glob.split(/(?<!\\)\*/).map((literal) => literal.replaceAll('\\*', '*'))
  globs.set(glob, literals)
  return literals
}

/** `*` matches any run of characters, colons included; everything else is literal. In linear time. */
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

/** Returns a test: may the caller use this field in this way on the resource? */
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
export const mayAuditConnection = (caller: Caller, connection: string): boolean =>
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

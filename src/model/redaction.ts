import type { Json } from '../lib/json.ts'
import { Secret } from '../lib/secret.ts'
import { type Kind, kinds } from './enums.ts'
import { type AnyValues, type FieldChange, type FieldChanges, fieldsOf, isPlain } from './fields.ts'

export const HIDDEN = '[hidden]'

/** Names of fields that hold lists. A null one must not look like another value where it is hidden. */
const LISTS = new Set(
  kinds.flatMap((kind) =>
    Object.keys(fieldsOf(kind)).filter((name) => fieldsOf(kind)[name]?.compare === 'set'),
  ),
)

/** Values with those that the caller may not read replaced; lists stay lists, so that an adapter can still plan. */
export function hide(values: AnyValues, readable: readonly string[]): AnyValues {
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => [
      name,
      readable.includes(name) || value === undefined || value instanceof Secret
        ? value
        : Array.isArray(value) || LISTS.has(name)
          ? [HIDDEN]
          : HIDDEN,
    ]),
  )
}

/** Whether a change widens access, unless that depends on a field that the caller may not read. */
export const widensFor = (
  kind: Kind,
  changed: readonly string[],
  widens: boolean,
  mayRead: (field: string) => boolean,
): boolean | typeof HIDDEN =>
  changed.some((name) => fieldsOf(kind)[name]?.widens && !mayRead(name)) ? HIDDEN : widens

const hidden = (change: FieldChange): FieldChange => ({
  action: change.action,
  ...('from' in change && { from: HIDDEN }),
  ...('to' in change && { to: HIDDEN }),
  ...('told' in change && { told: HIDDEN }),
  ...('fingerprint' in change && { fingerprint: HIDDEN }),
})

export function hideChanges(changes: FieldChanges, readable: readonly string[]): FieldChanges {
  return Object.fromEntries(
    Object.entries(changes).map(([name, change]) => [
      name,
      readable.includes(name) ? change : hidden(change),
    ]),
  )
}

/** Shorter secrets occur in many values by chance. */
const TELLING = 6

/**
 * A value may hold a secret of the request: a provider can show it in another field, and a caller can put it there. Such a
 * value is concealed; with a short secret only where it is new, because others hold the same letters by chance.
 */
export function withoutEchoes(values: AnyValues, asked: AnyValues, before: AnyValues = {}): AnyValues {
  const secrets = Object.values(asked).filter((value) => value instanceof Secret)
  if (secrets.length === 0) return values
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => {
      if (!isPlain(value)) return [name, value]
      const isKnown = isSame(value, asked[name]) || isSame(value, before[name])
      const isEcho = secrets.some((secret) => (!isKnown || secret.length >= TELLING) && holds(value, secret))
      return [name, isEcho ? (Array.isArray(value) ? [HIDDEN] : HIDDEN) : value]
    }),
  )
}

export const isHidden = (value: Json): boolean =>
  value === HIDDEN || (Array.isArray(value) && value[0] === HIDDEN)

export const isSame = (one: unknown, other: unknown): boolean => JSON.stringify(one) === JSON.stringify(other)

function holds(value: Json, secret: Secret): boolean {
  if (typeof value === 'string' || typeof value === 'number') return secret.isIn(String(value))
  if (typeof value !== 'object' || value === null) return false
  return Object.entries(value).some(([name, member]) => secret.isIn(name) || holds(member as Json, secret))
}

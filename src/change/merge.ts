import { z } from 'zod'
import { bodyPointer, isObject, type Json, type JsonObject } from '../lib/json.ts'
import type { AuditKeys } from '../lib/keyed-digests.ts'
import { Secret } from '../lib/secret.ts'
import type { Kind } from '../model/enums.ts'
import {
  type AnyCapabilities,
  type AnyValues,
  type Capability,
  type FieldChange,
  type FieldChanges,
  fieldsOf,
  isPlain,
  isWritable,
  sameValue,
  schemaFor,
  type Value,
} from '../model/fields.ts'
import { codeOfIssue, type FieldFault, ok, refuse, refuseFields, type Result } from '../model/problems.ts'
import { withoutEchoes } from '../model/redaction.ts'
import { encodedSpelling } from '../model/resource-id.ts'
import { Unreadable } from '../model/unreadable.ts'

export type Mode = 'merge' | 'replace'

export interface Merged {
  /** What differs from upstream, and so has to be written. */
  desired: AnyValues
  /** Names of the fields that were asked for and have the value already. */
  kept: string[]
  changes: FieldChanges
  widens: boolean
  /** Whether something differs only because its caller may not learn that it does not. */
  unseen: boolean
}

const writable = (capabilities: AnyCapabilities): [string, Capability][] =>
  Object.entries(capabilities).filter(
    (entry): entry is [string, Capability] => !!entry[1] && isWritable(entry[1]),
  )

const schemas = new WeakMap<AnyCapabilities, z.ZodObject>()

/** The schema of a PUT body for one provider's kind; built once, because building costs more than validating. */
function bodySchema(kind: Kind, capabilities: AnyCapabilities): z.ZodObject {
  const built = schemas.get(capabilities)
  if (built) return built
  const fields = writable(capabilities).map(([name, capability]) => [
    name,
    schemaFor(kind, name, capability).optional(),
  ])
  const schema = z.strictObject(Object.fromEntries(fields))
  schemas.set(capabilities, schema)
  return schema
}

/** Every fault of a body at once, or its values: dates in one spelling, secrets wrapped. */
export function readBody(
  kind: Kind,
  capabilities: AnyCapabilities,
  body: JsonObject,
  mode: Mode,
): Result<AnyValues> {
  const read = bodySchema(kind, capabilities).safeParse(body)
  const faults: FieldFault[] = read.success
    ? []
    : read.error.issues.flatMap((issue) => faultsOf(issue, kind, capabilities))
  if (mode === 'replace') {
    for (const [name] of writable(capabilities)) {
      if (name in body) continue
      faults.push({ pointer: bodyPointer([name]), code: 'incomplete-representation', detail: 'is missing' })
    }
  }
  if (faults.length > 0) return refuseFields(faults)
  if (Object.keys(body).length === 0) return refuse('validation-failed', 'the body names no field')
  return ok(read.data as AnyValues)
}

function faultsOf(issue: z.core.$ZodIssue, kind: Kind, capabilities: AnyCapabilities): FieldFault[] {
  if (issue.code !== 'unrecognized_keys') {
    return [{ pointer: bodyPointer(issue.path), code: codeOfIssue(issue.code), detail: issue.message }]
  }
  return issue.keys.map((name) => {
    const at = bodyPointer([...issue.path, name])
    if (Object.hasOwn(capabilities, name) && capabilities[name]) {
      return { pointer: at, code: 'read-only-field', detail: 'cannot be set' }
    }
    return Object.hasOwn(fieldsOf(kind), name)
      ? { pointer: at, code: 'unsupported-field', detail: 'is not supported by the provider' }
      : { pointer: at, code: 'unsupported-field', detail: `is no field of a ${kind}` }
  })
}

/** How a request is merged into what there is. */
export interface Merging {
  mode: Mode
  /** Names of the fields that the caller may read. Another one counts as different, or asking would tell its value. */
  readable: readonly string[]
  /** Whether what is there already is sent again all the same. */
  resends?: boolean | undefined
}

/**
 * What the caller asks for, against what there is: fields that are equal drop out, metadata is merged member by
 * member. `current` is undefined where the provider cannot be read; then everything sent counts as a change.
 */
export function merge(
  kind: Kind,
  sent: AnyValues,
  current: AnyValues | undefined,
  { mode, readable, resends = false }: Merging,
): Result<Merged> {
  const desired: AnyValues = {}
  const kept: string[] = []
  const changes: Record<string, FieldChange> = {}
  let widens = false
  let unseen = false
  for (const [name, asked] of Object.entries(sent)) {
    if (asked === undefined) continue
    const read = current?.[name]
    const from = isPlain(read) ? read : undefined
    const merging = name === 'metadata' && mode === 'merge' && isObject(asked)
    const base = read instanceof Unreadable && isObject(read.legible) ? read.legible : from
    if (merging && current && base === undefined) {
      const detail = 'cannot be merged into what the provider told of it; ?mode=replace sets it whole'
      return refuseFields([{ pointer: bodyPointer([name]), code: 'incomplete-representation', detail }])
    }
    const to = merging ? mergeMetadata(base, asked as JsonObject) : asked
    const isSeen = readable.includes(name)
    if (!resends && isSeen && sameValue(kind, name, from, to)) {
      kept.push(name)
      continue
    }
    unseen ||= !isSeen
    desired[name] = to
    if (to instanceof Secret) {
      changes[name] = { action: 'set' }
      continue
    }
    const shown = (value: Value): Json => withoutEchoes({ [name]: value }, sent, current)[name] as Json
    changes[name] = {
      action: (isSeen ? to : asked) === null ? 'clear' : 'set',
      ...(from !== undefined && { from: shown(from) }),
      to: shown(to),
    }
    const rule = fieldsOf(kind)[name]?.widens
    // The previous value is unknown.
    if (rule && (read instanceof Unreadable || rule(from, to as Json))) widens = true
  }
  return ok({ desired, kept, changes, widens, unseen })
}

/** Null removes a member (RFC 7396 at the first level). Removing from nothing leaves nothing. */
function mergeMetadata(from: Value | undefined, asked: JsonObject): Value {
  const base = isObject(from) ? (from as JsonObject) : {}
  const merged = Object.fromEntries(
    Object.entries({ ...base, ...asked }).filter(([name]) => asked[name] !== null),
  )
  return from === null && Object.keys(merged).length === 0 ? null : merged
}

/** Adds fingerprints of the secrets in a change that is about to be made. */
export function withFingerprints(
  kind: Kind,
  resource: string,
  { desired, changes }: Merged,
  keys: AuditKeys,
): FieldChanges {
  return Object.fromEntries(
    Object.entries(changes).map(([name, change]) => {
      const value = desired[name]
      return [
        name,
        value instanceof Secret
          ? { ...change, fingerprint: keys.fingerprint(kind, encodedSpelling(resource), name, value) }
          : change,
      ]
    }),
  )
}

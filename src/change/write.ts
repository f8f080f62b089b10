import type { Deadline } from '../lib/deadline.ts'
import type { Json } from '../lib/json.ts'
import { Secret } from '../lib/secret.ts'
import type { Current, Deployment, KindSpec, Ref, UpstreamRequest } from '../model/adapter.ts'
import type { Kind } from '../model/enums.ts'
import { type AnyCapabilities, type AnyValues, isPlain, isTaken, sameValue } from '../model/fields.ts'
import type { FieldFault, Problem } from '../model/problems.ts'
import type { Merged } from './merge.ts'

/** A write that is about to be made, and all that is needed to find out afterwards whether it was. */
export interface Write<K extends Kind> {
  kind: K
  spec: KindSpec<K>
  ref: Ref
  request: UpstreamRequest
  desired: AnyValues
  /** What was read before; undefined where the provider cannot be read. */
  current: Current<K> | undefined
  /** What an earlier run of the same change came to, when this one goes on with it. */
  earlier: Earlier | undefined
  /** Whether fields that the provider's answer leaves out are read back. */
  verifies: boolean
  deadline: Deadline
  traceparent: string
}

/** What is known of a change from the runs before. */
export interface Earlier {
  state: 'unknown' | 'partial'
  /** Of a partial one: fields that the provider did not take. */
  notTaken?: string[]
  /** Of a partial one: it was stored, and not deployed everywhere. */
  undeployed?: true
}

/** What is known at the end. Only `applied` may be reported as success. */
export interface WriteResult {
  outcome: 'applied' | 'partial' | 'rejected' | 'unknown' | 'not_sent'
  /** The problem returned when it is not `applied`. */
  problem?: Problem
  /** What the provider said the resource is now. */
  values?: AnyValues
  /** Requested fields for which the provider reported another value, with that value. */
  told?: Record<string, Json>
  /** Requested fields whose reported value cannot be what was requested. */
  notTaken?: string[]
  /** It is stored, and not deployed everywhere. */
  undeployed?: true
  /**
   * Whether requested fields that the answer left out were read back and found in force; absent where it reported
   * everything that can be reported.
   */
  verified?: boolean
  deployment?: Deployment
  status: number | null
  attempts: number
}

/** A secret is never reported, so it cannot be compared. */
export const comparable = (desired: AnyValues): string[] =>
  Object.keys(desired).filter((name) => !(desired[name] instanceof Secret))

export const hasSecret = (desired: AnyValues): boolean =>
  Object.values(desired).some((value) => value instanceof Secret)

/** Whether the caller must not learn that the change altered nothing: then its tag must not reveal that either. */
export const isBlind = ({ desired, unseen }: Pick<Merged, 'desired' | 'unseen'>): boolean =>
  unseen || hasSecret(desired)

/** How the reported value of a requested field compares with the request. A secret is never reported. */
export type Standing = 'taken' | 'other' | 'absent'

export function standingsOf(
  kind: Kind,
  capabilities: AnyCapabilities,
  asked: AnyValues,
  told: AnyValues | undefined,
): Record<string, Standing> {
  return Object.fromEntries(
    comparable(asked).map((name) => {
      // A reported value that cannot be used proves nothing.
      if (!isPlain(told?.[name])) return [name, 'absent']
      const taken = isTaken(kind, name, capabilities[name] ?? {}, asked[name], told[name])
      return [name, taken ? 'taken' : 'other']
    }),
  )
}

/**
 * Whether what was read proves that all that was asked for, and can be compared, is in force. Another spelling of it proves
 * nothing where it was there before.
 */
export function provesAll(
  kind: Kind,
  capabilities: AnyCapabilities,
  asked: AnyValues,
  read: AnyValues,
  before: AnyValues | undefined,
): boolean {
  const standings = standingsOf(kind, capabilities, asked, read)
  return comparable(asked).every(
    (name) =>
      standings[name] === 'taken' &&
      (sameValue(kind, name, read[name], asked[name]) || !sameValue(kind, name, read[name], before?.[name])),
  )
}

/** The values that were reported instead of the requested ones, even if only the spelling differs. */
export function toldOtherwise(
  kind: Kind,
  desired: AnyValues,
  values: AnyValues | undefined,
): Pick<WriteResult, 'told'> | undefined {
  const entries = comparable(desired).flatMap((name) => {
    const value = values?.[name]
    if (!isPlain(value)) return []
    return sameValue(kind, name, value, desired[name]) ? [] : [[name, value] as const]
  })
  return entries.length > 0 ? { told: Object.fromEntries(entries) } : undefined
}

/** The provider answered with success, and does not hold what was asked for in these fields. */
export function notTakenProblem(
  outcome: 'rejected' | 'partial' | 'unknown',
  fields: readonly string[],
): Problem {
  const said = `the provider answered with success and reports another value than was asked for: ${fields.join(', ')}`
  const errors = fields.map((name): FieldFault => ({
    pointer: `#/${name}`,
    code: 'not-taken',
    detail: 'the provider reports another value',
  }))
  if (outcome === 'unknown') {
    const detail = `${said}; whether the change is in force is not known`
    return { slug: 'outcome-unknown', detail, retryAfterSeconds: 1, errors }
  }
  const rest =
    outcome === 'rejected' ? 'nothing of the change is in force' : 'only a part of the change is in force'
  return { slug: 'not-taken', detail: `${said}; ${rest}`, errors }
}

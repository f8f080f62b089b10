import type { Entry } from '../ledger/types.ts'
import type { Json, JsonObject } from '../lib/json.ts'
import type { Deployment } from '../model/adapter.ts'
import { type AnyValues, type FieldChanges, isPlain } from '../model/fields.ts'
import type { Problem } from '../model/problems.ts'
import { HIDDEN, isSame, withoutEchoes } from '../model/redaction.ts'
import type { Merged } from './merge.ts'
import { type ReplyTools, visible } from './reply.ts'
import { comparable, type WriteResult, isBlind } from './write.ts'

/**
 * Characters of one reported value that are repeated in a diff, and that are kept at all: a provider may report
 * megabytes.
 */
const MAX_TOLD = 16_384
const MAX_KEPT = 131_072
const TOO_LONG = '[too long]'

/** What a finding means for the gateway's own record, the audit and the reply. */
export interface Conclusion {
  /** The resource's values, as far as they are known now; no secret of the request is concealed in them. */
  values: AnyValues
  /** The diff, with what the provider reported instead. */
  fields: FieldChanges
  warnings: string[]
  deployment?: Deployment
  applied: NonNullable<Entry['applied']>
  problem?: Problem
}

/** What a change is made of: with its finding, all that a conclusion needs. */
export interface Basis {
  merged: Merged
  /** As the audit has it. */
  fields: FieldChanges
  before: AnyValues | undefined
  /** Fields that stood in the request as they were read. */
  carried: readonly string[]
}

export function conclude(
  tools: Pick<ReplyTools, 'connection'>,
  { merged, fields, before, carried }: Basis,
  finding: WriteResult,
): Conclusion {
  const { desired, kept } = merged
  const { outcome, notTaken, problem, deployment } = finding
  const isWithin = (most: number, value: unknown) => (JSON.stringify(value)?.length ?? 0) <= most
  const isKnown = (name: string, value: unknown) =>
    isSame(value, desired[name]) || isSame(value, before?.[name])
  const told: AnyValues = Object.fromEntries(
    Object.entries(finding.values ?? {}).filter(
      ([name, value]) => isWithin(MAX_KEPT, value) || isKnown(name, value),
    ),
  )
  const shown = withoutEchoes(finding.told ?? {}, desired)
  const mayShow = new Set(visible(tools, Object.keys(desired)))
  const toldOf = (name: string): Json =>
    !mayShow.has(name) ? HIDDEN : isWithin(MAX_TOLD, shown[name]) ? (shown[name] as Json) : TOO_LONG
  const withTold = Object.fromEntries(
    Object.entries(fields).map(([name, change]) => [
      name,
      name in shown ? { ...change, told: toldOf(name) } : change,
    ]),
  )

  // After a contradiction, what the provider reported is in force. Otherwise the change is in force as it was made.
  const isWhole = notTaken === undefined && (outcome === 'applied' || outcome === 'partial')
  const whole: AnyValues = { ...before, ...desired, ...told }
  const known = isWhole ? whole : told
  const unechoed = withoutEchoes(known, desired, before)
  const named = visible(tools, [...comparable(desired), ...kept, ...carried])
  const inForce = named.filter((name) => isPlain(known[name]) && unechoed[name] === known[name])
  const mayHaveChanged = isWhole || outcome === 'partial' || outcome === 'unknown'
  const contradicted = Object.entries(withTold).filter(([name]) => notTaken?.includes(name))
  const more = deployment && { deployment: withoutNamesLike(deployment, desired) }
  return {
    values: whole,
    fields: withTold,
    warnings:
      outcome === 'applied'
        ? Object.keys(shown).map((name) => `the provider holds ${name} in a spelling of its own`)
        : [],
    ...more,
    applied: {
      values: Object.fromEntries(inForce.map((name) => [name, known[name]])) as JsonObject,
      // A secret that may have changed counts: an ETag must not outlive a change that cannot be ruled out.
      secretChanged: mayHaveChanged && isBlind(merged),
      ...(isBlind(merged) && !mayHaveChanged && { secretKept: true as const }),
    },
    ...(problem && {
      problem: {
        ...problem,
        ...(more && problem.extension && { extension: { ...problem.extension, ...more } }),
        ...(contradicted.length > 0 && { fields: Object.fromEntries(contradicted) }),
      },
    }),
  }
}

/** A provider can call an environment by anything, a secret of the request too. */
const withoutNamesLike = ({ success, environments }: Deployment, desired: AnyValues): Deployment => ({
  success,
  environments: environments.map(({ name, success }) => ({
    name: withoutEchoes({ environment: name }, desired)['environment'] === name ? name : 'unnamed',
    success,
  })),
})

import { HIDDEN, isHidden, withoutEchoes } from './hidden.ts'
import type { Json, JsonObject } from './json.ts'
import type { Entry } from './ledger/ledger.ts'
import type { Merged } from './merge.ts'
import type { AnyValues, FieldChanges } from './model.ts'
import type { Problem } from './problems.ts'
import { type ReplyTools, visible } from './reply.ts'
import { comparable, type Finding } from './write.ts'

/** Characters of one told value that the diff repeats: it is stored several times, and a provider may tell a megabyte. */
const MAX_TOLD = 16_384
const TOO_LONG = '[too long]'

const short = (value: Json): Json => (JSON.stringify(value).length > MAX_TOLD ? TOO_LONG : value)

/** What a finding means for the gateway's own record, the audit and the reply. */
export interface Conclusion {
  /** Values that the reply may show, and that may be stored. */
  values: AnyValues
  /** The diff, with what the provider told instead. */
  fields: FieldChanges
  warnings: string[]
  applied: NonNullable<Entry['applied']>
  problem?: Problem
}

/** What the change was made with. */
interface Made {
  merged: Merged
  /** As the audit has it. */
  fields: FieldChanges
  before: AnyValues | undefined
  /** Fields that stood in the request as they were read. */
  carried: readonly string[]
}

export function conclude(
  tools: Pick<ReplyTools, 'connection'>,
  { merged: { desired, kept }, fields, before, carried }: Made,
  finding: Finding,
): Conclusion {
  const { outcome, notTaken, problem } = finding
  const told = withoutEchoes(finding.values ?? {}, desired, before)
  const shownBefore = withoutEchoes(before ?? {}, desired, before)
  const toldOtherwise = withoutEchoes(finding.told ?? {}, desired, before)
  const mayShow = new Set(visible(tools, Object.keys(desired)))
  const withTold = Object.fromEntries(
    Object.entries(fields).map(([name, change]) => [
      name,
      name in toldOtherwise
        ? { ...change, told: mayShow.has(name) ? short(toldOtherwise[name] as Json) : HIDDEN }
        : change,
    ]),
  )

  // What a contradiction leaves in force is what the provider told. Otherwise a change is in force as it was made.
  const isWhole = notTaken === undefined && (outcome === 'applied' || outcome === 'partial')
  const whole: AnyValues = { ...shownBefore, ...desired, ...told }
  const known = isWhole ? whole : told
  const named = visible(tools, [...comparable(desired), ...kept, ...carried])
  const inForce = named.filter((name) => known[name] !== undefined && !isHidden(known[name]))
  const mayHaveChanged = isWhole || outcome === 'partial' || outcome === 'unknown'
  const contradicted = Object.entries(withTold).filter(([name]) => notTaken?.includes(name))
  return {
    values: whole,
    fields: withTold,
    warnings:
      outcome === 'applied'
        ? Object.keys(toldOtherwise).map((name) => `the provider holds ${name} in a spelling of its own`)
        : [],
    applied: {
      values: Object.fromEntries(inForce.map((name) => [name, known[name]])) as JsonObject,
      // A secret that may have changed counts: an ETag must not outlive a change that nobody can rule out.
      secretChanged: mayHaveChanged && comparable(desired).length < Object.keys(desired).length,
    },
    ...(problem && {
      problem: { ...problem, ...(contradicted.length > 0 && { fields: Object.fromEntries(contradicted) }) },
    }),
  }
}

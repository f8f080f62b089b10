import { isDeepStrictEqual } from 'node:util'
import type { Json } from '../../test/harness/sandbox-calls.ts'
import type { Belief } from './contenders.ts'
import type { Case } from './scenarios.ts'
import { holds, type Intent, type Members, membersOf } from './wire.ts'

/** The four ways to be wrong, and two that nobody can help and that count apart. */
export const columns = ['false success', 'false failure', 'twice', 'untold question'] as const
export const columnsApart = ['landed late', 'unseen'] as const
export type Column = (typeof columns)[number] | (typeof columnsApart)[number]

/** What a case says about its contender. */
export interface Verdict {
  case: Case
  /** The columns that the case can say something about, and what is wrong in each. */
  judged: Map<Column, string | undefined>
  /** Of a plain change: from asking until the truth was known. Infinity where it never was; milliseconds. */
  known?: number
}

const isStamp = (name: string): boolean => name === 'updated_at'

/** Whether a write has changed anything but the stamp that says that there was one. */
function isEffect({ before, after }: Json): boolean {
  const [old, now] = [membersOf(before), membersOf(after)]
  return [...new Set([...Object.keys(old), ...Object.keys(now)])].some(
    (name) => !isStamp(name) && !isDeepStrictEqual(old[name], now[name]),
  )
}

/**
 * A write is the intent's when it asks for its values. A part of them will do, since who compares sends what differs; a
 * whole that carries a value on beside values of another change is that other change's. Flags and dates are shared by many.
 */
function asksFor({ asked }: Intent, { body }: Json): boolean {
  const members = wireBody(body)
  const shared = Object.entries(asked).filter(([name]) => isOwn(name) && name in members)
  return shared.length > 0 && shared.every(([name, value]) => holds(members, name, value))
}
const isOwn = (name: string): boolean => name !== 'can_read' && name !== 'expireDate'

/** A body of the ledger's, in which a digest stands for the password. */
function wireBody(body: Json): Members {
  const members = membersOf(body)
  return { ...members, ...('passwordSha256' in members && { password: null }) }
}

const effectsOf = (intent: Intent, { ledger }: Case): Json[] =>
  ledger.filter((entry) => asksFor(intent, entry) && isEffect(entry))

interface Truth {
  /** Everything that was asked for, wherever the provider deploys to; undefined where there is no saying. */
  whole: boolean | undefined
  /** Any of it is stored. */
  some: boolean
}

function truthOf({ intent: { asked }, kind, always, ledger, after }: Case): Truth {
  const held = Object.entries(asked).map(([name, value]) => holds(after, name, value))
  const stored = { whole: held.every(Boolean), some: held.some(Boolean) }
  // A fault that hits one write is over with the first that the provider took.
  const isDeployed = !kind.deployment || (!always && ledger.length > 1)
  if (!stored.whole || isDeployed) return stored
  return { ...stored, whole: kind.deployment === 'untold' ? undefined : false }
}

/** What is wrong with a belief, and in which column. */
function fault(
  belief: Belief,
  { whole, some }: Truth,
): ['false success' | 'false failure', string] | undefined {
  if (belief === 'success' && whole === false)
    return ['false success', some ? 'some of it is not in force' : 'it is not in force']
  if (belief === 'partial' && !some) return ['false success', 'nothing of it is stored']
  if ((belief === 'failure' || belief === 'partial') && whole === true)
    return ['false failure', 'all of it is in force']
  return undefined
}

function plain(one: Case): Verdict {
  const { said, recalled, kind, intent } = one
  const truth = truthOf(one)
  // Only a record says something by itself later on.
  const later = typeof recalled === 'object' && recalled.since !== undefined ? recalled : undefined
  const wrong = fault(said.belief, truth) ?? (later && fault(later.belief, truth))
  if (kind.isUnseen)
    return { case: one, judged: new Map([['unseen', wrong && `${said.belief}, and ${wrong[1]}`]]) }

  const effects = effectsOf(intent, one)
  const afterwards = effects.find(({ at }) => Date.parse(at) > said.told)
  const judged = new Map<Column, string | undefined>([
    ['false success', undefined],
    ['false failure', undefined],
    ['twice', effects.length > 1 ? `it took effect ${effects.length} times` : undefined],
    [
      'untold question',
      said.belief !== 'unknown' && afterwards
        ? `it landed ${Date.parse(afterwards.at) - said.told} ms after that`
        : undefined,
    ],
  ])
  if (wrong) judged.set(...wrong)
  return { case: one, judged, known: whenKnown(one, wrong !== undefined) }
}

function whenKnown({ said, recalled }: Case, isWrong: boolean): number {
  if (isWrong) return Infinity
  if (said.belief !== 'unknown') return said.told - said.asked
  return typeof recalled === 'object' && recalled.since !== undefined ? recalled.since - said.asked : Infinity
}

/** The newer change is the one that counts, whatever the caller of the first one does after it. */
function newer(one: Case): Verdict {
  const { next, kind, intent, after } = one
  if (!next || next.said.belief !== 'success') return { case: one, judged: new Map() }
  const effects = effectsOf(intent, one)
  const stands = Object.entries(next.intent.asked).every(([name, value]) => holds(after, name, value))
  if (kind.isLate)
    return { case: one, judged: new Map([['landed late', stands ? undefined : 'the newer change is gone']]) }
  const twice =
    effects.length > 1
      ? `it took effect ${effects.length} times${stands ? '' : ', the last time over the newer change'}`
      : undefined
  return { case: one, judged: new Map([['twice', twice]]) }
}

/** What follows did nothing, so that the question about the first change is as open as before. */
function nothing(one: Case): Verdict {
  const { said, recalled } = one
  if (said.belief !== 'unknown') return { case: one, judged: new Map() }
  const lost =
    recalled === 'open'
      ? undefined
      : typeof recalled === 'object'
        ? fault(recalled.belief, truthOf(one))?.[1]
        : 'nothing tells of it any more'
  return { case: one, judged: new Map([['untold question', lost]]) }
}

export function judge(one: Case): Verdict {
  if (one.scenario === 'plain') return plain(one)
  return one.scenario === 'newer' ? newer(one) : nothing(one)
}

/** One case in words, with everything that is needed to find it again. */
export function told(
  { case: { contender, scenario, kind, always, intent, said, next, ledger } }: Verdict,
  fault: string,
): string {
  const followed = next ? `, then ${next.said.belief}` : ''
  return `${contender}, ${intent.operation.name}, “${kind.name}”${always ? ' always' : ''}, ${scenario}: ${said.belief} (${said.words.trim()})${followed}, and ${fault}; ${ledger.length} writes taken`
}

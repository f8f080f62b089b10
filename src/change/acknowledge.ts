import { Deadline } from '../lib/deadline.ts'
import type { Kind } from '../model/enums.ts'
import type { AnyValues } from '../model/fields.ts'
import type { Exchange } from '../upstream/exchange.ts'
import { readBack } from './read-back.ts'
import {
  comparable,
  type WriteResult,
  hasSecret,
  notTakenProblem,
  type Standing,
  standingsOf,
  toldOtherwise,
  type Write,
} from './write.ts'

/** How long a verifying read may take: the change is made, and its reply waits. Milliseconds. */
const READ_MS = 5000
/** Before the second look at a contradiction. Milliseconds. */
const SECOND_LOOK_MS = 500

/** What one asked field has come to, by the answer to the write and by a read after it. */
interface Evidence {
  name: string
  answer: Standing
  read: Standing
}

const isContradicted = ({ answer, read }: Evidence): boolean =>
  answer === 'other' || (answer === 'absent' && read === 'other')
/** The read comes later than the answer, and so knows better. */
const isInForce = ({ answer, read }: Evidence): boolean => (read === 'absent' ? answer : read) === 'taken'

/** What all asked fields together have come to. */
type Judgement = 'taken' | 'some' | 'none' | 'unclear'

function judge(evidence: readonly Evidence[]): Judgement {
  if (!evidence.some(isContradicted)) return 'taken'
  if (evidence.some(isInForce) && !evidence.every(isInForce)) return 'some'
  return evidence.every(({ answer, read }) => answer === 'other' && read === 'other') ? 'none' : 'unclear'
}

/**
 * Compares what the provider acknowledged with what was asked for. What its answer does not tell is read, where it can
 * be; a read that fails contradicts nothing. A contradiction is looked at twice and never repeated.
 *
 * @param finding `applied` or `partial`, with what the answer told.
 * @param least What the change has come to already: no contradiction says less.
 */
export async function acknowledge<K extends Kind>(
  write: Write<K>,
  exchange: Exchange,
  finding: WriteResult,
  least: 'unknown' | 'partial' | undefined,
): Promise<WriteResult> {
  const { kind, spec, desired, deadline, verifies } = write
  const answer = finding.values
  const names = comparable(desired)
  const standings = (told: AnyValues | undefined) => standingsOf(kind, spec.fields, desired, told)
  const told = standings(answer)
  const evidenceOf = (read: AnyValues | undefined): Evidence[] => {
    const seen = standings(read)
    return names.map((name) => ({ name, answer: told[name] ?? 'absent', read: seen[name] ?? 'absent' }))
  }

  let evidence = evidenceOf(undefined)
  let judgement = judge(evidence)
  const isSilent = evidence.some(({ answer }) => answer === 'absent')
  if (judgement === 'taken' && !(isSilent && spec.read && verifies)) {
    return { ...finding, ...toldOtherwise(kind, desired, answer), ...(isSilent && { verified: false }) }
  }

  let read = await readAgain(write, exchange)
  evidence = evidenceOf(read)
  judgement = judge(evidence)
  let isConfirmed = false
  if (
    (judgement === 'none' || judgement === 'unclear') &&
    spec.read &&
    (await deadline.sleep(SECOND_LOOK_MS))
  ) {
    const again = await readAgain(write, exchange)
    read = again ?? read
    evidence = evidenceOf(read)
    // One look is not enough to say that nothing is in force: what was read may have come out of a cache.
    isConfirmed = judgement === 'none' && again !== undefined
    judgement = judge(evidence)
  }

  if (judgement === 'taken') {
    // The read is newer, unless it came from a cache: then it lacks what the answer reported.
    const isFresh = evidence.every((one) => one.read === 'taken')
    const values = isFresh ? { ...answer, ...read } : { ...read, ...answer }
    const verified = evidence.every((one) => one.answer === 'taken' || one.read === 'taken')
    return { ...finding, values, ...toldOtherwise(kind, desired, values), verified }
  }
  const isNothing =
    judgement === 'none' && isConfirmed && !hasSecret(desired) && finding.outcome === 'applied'
  const outcome =
    judgement === 'some' || least === 'partial' ? 'partial' : (least ?? (isNothing ? 'rejected' : 'unknown'))
  const values = { ...answer, ...read }
  const contradicted = evidence.filter(isContradicted)
  const missing = contradicted.filter((one) => !isInForce(one))
  const notTaken = (missing.length > 0 ? missing : contradicted).map(({ name }) => name)
  return {
    ...finding,
    outcome,
    values,
    ...toldOtherwise(kind, desired, values),
    notTaken,
    problem: {
      ...notTakenProblem(outcome, notTaken),
      ...(finding.deployment && { extension: { deployment: finding.deployment } }),
    },
  }
}

async function readAgain<K extends Kind>(
  { spec, ref, deadline, traceparent }: Write<K>,
  exchange: Exchange,
): Promise<AnyValues | undefined> {
  if (!spec.read) return undefined
  const patience = new Deadline(Math.min(READ_MS, deadline.remainingMs()))
  const read = await readBack(spec.read, ref, exchange, patience, traceparent)
  return read.ok ? (read.value.values as AnyValues) : undefined
}

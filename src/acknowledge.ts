import type { Exchange } from './exchange.ts'
import { Deadline } from './deadline.ts'
import type { AnyCapabilities, AnyValues, Kind } from './model.ts'
import { readBack } from './read.ts'
import { comparable, type Finding, type Standing, standingOf, toldOtherwise, type Write } from './write.ts'

/** How long a verifying read may take: the change is made, and its reply waits. Milliseconds. */
const READ_MS = 5000
/** Before the second look at a contradiction: what was read first may have come out of a cache. Milliseconds. */
const SECOND_LOOK_MS = 500

/** What one asked field has come to, by the answer to the write and by a read after it. */
interface Evidence {
  answer: Standing
  read: Standing
}

const isContradicted = ({ answer, read }: Evidence): boolean =>
  answer === 'other' || (answer === 'untold' && read === 'other')
/** The read comes later than the answer, and so knows better. */
const isInForce = ({ answer, read }: Evidence): boolean => (read === 'untold' ? answer : read) === 'taken'

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
  finding: Finding,
  least: 'unknown' | 'partial' | undefined,
): Promise<Finding> {
  const { kind, spec, desired } = write
  const capabilities: AnyCapabilities = spec.fields
  const names = comparable(desired)
  const answer = finding.values
  const evidence = (read: AnyValues | undefined) =>
    new Map(
      names.map((name): [string, Evidence] => [
        name,
        {
          answer: standingOf(kind, capabilities, name, desired, answer),
          read: standingOf(kind, capabilities, name, desired, read),
        },
      ]),
    )

  const told = evidence(undefined)
  const isSilent = [...told.values()].some(({ answer }) => answer === 'untold')
  const isOpposed = [...told.values()].some(isContradicted)
  if (!isOpposed && !(isSilent && spec.read && write.verifies)) {
    return { ...finding, ...toldOtherwise(kind, desired, answer), ...(isSilent && { verified: false }) }
  }

  const read = await readAgain(write, exchange)
  const first = evidence(read)
  if (![...first.values()].some(isContradicted)) {
    const values = { ...read, ...answer }
    const verified = [...first.values()].every((one) => one.answer === 'taken' || one.read === 'taken')
    return { ...finding, values, ...toldOtherwise(kind, desired, values), verified }
  }

  const hasSecret = names.length < Object.keys(desired).length
  const judge = (seen: Map<string, Evidence>): 'rejected' | 'partial' | 'unknown' => {
    const all = [...seen.values()]
    if (all.some(isInForce) && !all.every(isInForce)) return 'partial'
    const none = all.every((one) => one.answer === 'other' && one.read === 'other')
    return none && !hasSecret && finding.outcome !== 'partial' ? 'rejected' : 'unknown'
  }
  let seen = first
  let latest = read
  if (judge(first) !== 'partial' && (await write.deadline.sleep(SECOND_LOOK_MS))) {
    const again = await readAgain(write, exchange)
    if (again) {
      latest = again
      seen = evidence(again)
    }
  }
  const judged = judge(seen)
  const outcome = least === 'partial' || judged === 'partial' ? 'partial' : (least ?? judged)
  const values = { ...answer, ...latest }
  const notTaken = names.filter((name) => isContradicted(seen.get(name) as Evidence))
  return {
    ...finding,
    outcome,
    values,
    ...toldOtherwise(kind, desired, values),
    notTaken,
    problem: contradiction(outcome, notTaken, finding),
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

function contradiction(
  outcome: 'rejected' | 'partial' | 'unknown',
  notTaken: readonly string[],
  { deployment }: Finding,
): NonNullable<Finding['problem']> {
  const said = `the provider answered with success and tells something else than what was asked for ${notTaken.join(', ')}`
  return {
    ...(outcome === 'unknown'
      ? {
          slug: 'outcome-unknown',
          detail: `${said}; whether the change is in force is not known`,
          retryAfterSeconds: 1,
        }
      : {
          slug: 'not-taken',
          detail: `${said}; ${outcome === 'rejected' ? 'nothing' : 'some'} of the change is in force`,
        }),
    errors: notTaken.map((name) => ({
      pointer: `#/${name}`,
      code: 'not-taken',
      detail: 'is not what the provider tells',
    })),
    ...(deployment && { extension: { deployment } }),
  }
}

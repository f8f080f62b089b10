import { startSandbox } from '../sandbox/server.ts'
import { DEADLINE } from '../test/harness/fault-kinds.ts'
import { makeHome } from '../test/harness/gateway-process.ts'
import { operationNames } from '../test/harness/operations.ts'
import {
  careful,
  type Contender,
  GATEWAY,
  gatewayAt,
  officialSdk,
  readThenWrite,
} from './belief/contenders.ts'
import { columns, columnsApart, judge } from './belief/judgement.ts'
import { campaign, type Effort } from './belief/scenarios.ts'
import {
  anyOf,
  markdown,
  offences,
  percent,
  type Row,
  rowOf,
  rowsOf,
  type Share,
  unknownCells,
  whenKnown,
} from './belief/table.ts'
import type { Figure, Tabled } from './figure.ts'

// Who believes what of a change, and what is true: the same changes under the same faults, made by an official SDK, by a
// careful client, by a loop as infrastructure tools have it, and by the gateway. The truth is the sandbox's own record.
const FULL: Effort = { rounds: () => 3, width: 32, patienceMs: 75_000 }

/** The contenders' rows, the gateway's last. */
export async function believe(effort: Effort, tell?: (progress: string) => void): Promise<Row[]> {
  const sandbox = await startSandbox({ limits: 'off' })
  const home = makeHome(sandbox.urls, { deadlineMs: DEADLINE, longestLife: 900_000 })
  try {
    const { url } = await home.start()
    const contenders: Contender[] = [await officialSdk(sandbox), careful, readThenWrite(), gatewayAt(url)]
    const cases = await campaign(sandbox, contenders, effort, tell)
    const rows = rowsOf(cases.map(judge))
    return contenders.flatMap(({ name }) => rows.filter(({ contender }) => contender === name))
  } finally {
    await home.leave()
    await sandbox.close()
  }
}

const row = (contender: string, what: string, measured: string, met?: boolean): Figure => ({
  bench: `belief, ${contender}`,
  what,
  measured,
  ...(met !== undefined && { goal: { text: '0 %', met } }),
})

/** In all, and at each operation. */
function figuresOf(all: Row): Figure[] {
  const { contender, verdicts, unknown, refused } = all
  const parts = operationNames.flatMap((name) => {
    const own = verdicts.filter((verdict) => verdict.case.intent.operation.name === name)
    return own.length === 0 ? [] : [{ name, of: rowOf(contender, own) }]
  })
  const shares = (pick: (of: Row) => Share) =>
    `${percent(pick(all))} of ${pick(all).of}: ${parts.map(({ name, of }) => `${name} ${percent(pick(of))}`).join(', ')}`
  const goal = ({ count }: Share) => (contender === GATEWAY ? count === 0 : undefined)
  return [
    ...columns.map((column) =>
      row(
        contender,
        column,
        shares((of) => of.shares[column]),
        goal(all.shares[column]),
      ),
    ),
    row(contender, 'wrong in any of the four', shares(anyOf), goal(anyOf(all))),
    ...columnsApart.map((column) =>
      row(
        contender,
        `${column} (apart)`,
        shares((of) => of.shares[column]),
      ),
    ),
    row(contender, 'says “unknown”; refuses', `${percent(unknown)}; ${percent(refused)}`),
    row(contender, 'truth known after: median, most; never', whenKnown(all.known)),
  ]
}

export async function belief(tell: (progress: string) => void): Promise<Tabled> {
  const rows = await believe(FULL, tell)
  const gateway = rows.filter(({ contender }) => contender === GATEWAY)
  for (const offence of gateway.flatMap((of) => offences(of, columns))) tell(offence)
  const cells = gateway.flatMap((of) => [...unknownCells(of)])
  const figures = [
    ...rows.flatMap(figuresOf),
    ...cells.map(([name, faults]) =>
      row(GATEWAY, `faults under which it says “unknown”: ${name}`, faults.join(', ') || 'none'),
    ),
  ]
  const notes = cells.map(([name, faults]) => `- ${name}: ${faults.join('; ') || 'none'}\n`).join('')
  return {
    figures,
    table: markdown(rows),
    notes: `Faults under which the gateway says “unknown”, of some or all changes:\n\n${notes}`,
  }
}

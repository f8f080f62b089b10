import { median } from '../../test/harness/figures.ts'
import { operationNames } from '../../test/harness/operations.ts'
import { type Column, columns, columnsApart, told, type Verdict } from './judgement.ts'

/** So many of so many changes. */
export interface Share {
  count: number
  of: number
}

export interface Row {
  contender: string
  /** All of its verdicts. */
  verdicts: readonly Verdict[]
  /** Of the changes that a column says something about, those that are wrong in it. */
  shares: Record<Column, Share>
  /** Plain changes of which it says `unknown`, or that they did not come about or not whole. */
  unknown: Share
  refused: Share
  /** Of the plain changes whose truth came to be known. Milliseconds. */
  known: { median: number; most: number; never: Share }
}

export const rowsOf = (verdicts: readonly Verdict[]): Row[] =>
  [...Map.groupBy(verdicts, (verdict) => verdict.case.contender)].map(([contender, own]) =>
    rowOf(contender, own),
  )

export function rowOf(contender: string, verdicts: readonly Verdict[]): Row {
  const shares = Object.fromEntries(
    [...columns, ...columnsApart].map((column) => [column, shareOf(verdicts, column)]),
  ) as Row['shares']
  const plain = verdicts.filter((verdict) => verdict.known !== undefined)
  const saying = (...beliefs: string[]): Share => ({
    count: plain.filter((verdict) => beliefs.includes(verdict.case.said.belief)).length,
    of: plain.length,
  })
  const times = plain.map(({ known = Infinity }) => known).filter(Number.isFinite)
  return {
    contender,
    verdicts,
    shares,
    unknown: saying('unknown'),
    refused: saying('failure', 'partial'),
    known: {
      median: median(times),
      most: Math.max(...times),
      never: { count: plain.length - times.length, of: plain.length },
    },
  }
}

/** Of the changes that any of the four columns judges, those that one of them finds wrong. */
export function anyOf({ verdicts }: Row): Share {
  const judged = verdicts.filter((verdict) => columns.some((column) => verdict.judged.has(column)))
  return {
    count: judged.filter((verdict) => columns.some((column) => verdict.judged.get(column) !== undefined))
      .length,
    of: judged.length,
  }
}

function shareOf(verdicts: readonly Verdict[], column: Column): Share {
  const judged = verdicts.filter((verdict) => verdict.judged.has(column))
  return {
    count: judged.filter((verdict) => verdict.judged.get(column) !== undefined).length,
    of: judged.length,
  }
}

export function percent({ count, of }: Share): string {
  if (of === 0) return '–'
  if (count === 0) return '0 %'
  const share = (100 * count) / of
  return share < 0.1 ? 'under 0.1 %' : `${share.toFixed(1)} %`
}

/** Everything that is wrong in the columns, in words. */
export const offences = ({ verdicts }: Row, of: readonly Column[]): string[] =>
  verdicts.flatMap((verdict) =>
    [...verdict.judged].flatMap(([column, fault]) =>
      fault !== undefined && of.includes(column) ? [`${column}: ${told(verdict, fault)}`] : [],
    ),
  )

/** By operation, the faults under which it said `unknown`, and how often. */
export const unknownCells = ({ verdicts }: Row): Map<string, string[]> =>
  new Map(
    operationNames.map((name) => {
      const own = verdicts.filter(
        (verdict) => verdict.known !== undefined && verdict.case.intent.operation.name === name,
      )
      const cells = Map.groupBy(own, ({ case: { kind, always } }) => `${kind.name}${always ? ' always' : ''}`)
      return [
        name,
        [...cells]
          .flatMap(([cell, all]) => {
            const unknown = all.filter((verdict) => verdict.case.said.belief === 'unknown').length
            if (unknown === 0) return []
            return unknown === all.length ? [cell] : [`${cell} (${unknown} of ${all.length})`]
          })
          .toSorted(),
      ]
    }),
  )

const heads: Record<Column, string> = {
  'false success': 'believes success, not in force',
  'false failure': 'believes failure, in force',
  twice: 'took effect twice',
  'untold question': 'open question untold',
  'landed late': 'landed late',
  unseen: 'password kept',
}

const rowText = (cells: readonly string[]): string => `| ${cells.join(' | ')} |\n`
const rounded = (ms: number): string => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`)

export const whenKnown = ({ median: middle, most, never }: Row['known']): string =>
  `${rounded(middle)}, ${rounded(most)}; ${percent(never)}`

/** The table as Markdown: contenders as rows. */
export function markdown(rows: readonly Row[]): string {
  const titles = [
    '',
    ...columns.map((column) => heads[column]),
    '“unknown”',
    'refuses',
    'truth known after (median, most; never)',
    ...columnsApart.map((column) => `apart: ${heads[column]}`),
  ]
  return (
    rowText(titles) +
    rowText(titles.map(() => '---')) +
    rows
      .map(({ contender, shares, unknown, refused, known }) =>
        rowText([
          contender,
          ...columns.map((column) => percent(shares[column])),
          percent(unknown),
          percent(refused),
          whenKnown(known),
          ...columnsApart.map((column) => percent(shares[column])),
        ]),
      )
      .join('')
  )
}

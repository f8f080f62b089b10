import { beforeAll, describe, expect, test } from 'vitest'
import { believe } from '../../bench/belief.ts'
import { GATEWAY } from '../../bench/belief/contenders.ts'
import { columns } from '../../bench/belief/judgement.ts'
import type { Effort } from '../../bench/belief/scenarios.ts'
import { markdown, offences, type Row } from '../../bench/belief/table.ts'
import { report } from '../harness/figures.ts'
import { campaignMs, full } from './scale.ts'

/** Which part of its cases each contender goes through. The others show that the harness can tell a wrong belief. */
const ofGateway = { plain: 0.25, newer: 0.12, refused: 0.4, 'no-op': 0.4 }
const ofOthers = { plain: 0.1, newer: 0.05, refused: 0.15, 'no-op': 0.15 }
const bounded: Effort = {
  rounds: ({ name }, scenario) => (name === GATEWAY ? ofGateway : ofOthers)[scenario],
  width: 32,
  patienceMs: 3000,
}
const effort: Effort = full ? { rounds: () => 3, width: 32, patienceMs: 75_000 } : bounded

let rows: Row[]
beforeAll(async () => {
  rows = await believe(effort)
}, campaignMs)

describe('what is believed of changes under faults', () => {
  test('the gateway is wrong about none, makes none twice, and forgets no question', () => {
    const own = rows.filter(({ contender }) => contender === GATEWAY)
    expect(own).toHaveLength(1)
    for (const { shares } of own) for (const column of columns) expect(shares[column].of).toBeGreaterThan(50)
    expect(own.flatMap((row) => offences(row, columns))).toEqual([])
    report('belief', { table: `\n${markdown(rows)}` })
  })

  test.each(columns)('others are wrong: %s', (column) => {
    const others = rows.filter(({ contender }) => contender !== GATEWAY)
    expect(others).toHaveLength(3)
    expect(others.flatMap((row) => offences(row, [column]))).not.toEqual([])
  })
})

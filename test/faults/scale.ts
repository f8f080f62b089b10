import type { OperationName } from '../harness/operations.ts'

/**
 * How much every campaign does. The bounded form belongs to each test run and judges no time; `FAULTS=full` asks for the
 * full form, which also judges times, as medians.
 */
export const full = process.env['FAULTS'] === 'full'

const either = <T>(bounded: T, inFull: T): T => (full ? inFull : bounded)

export const scale = {
  crash: {
    kills: either(5, 200),
    workerdKills: either(3, 20),
    clients: 16,
    /** Resources at each operation. */
    resources: either(4, 6),
    /** A kill comes at a random moment of this time. Milliseconds. */
    longestLife: either(700, 1200),
  },
  matrix: {
    /** Changes at each operation under each kind of fault. */
    repeats: either(2, 100),
    /** Changes at each operation under several faults in a row, drawn at random. */
    rows: either(8, 400),
    concurrency: either(32, 24),
  },
  races: {
    line: either({ clients: 16, puts: 100 }, { clients: 64, puts: 1000 }),
    counter: either({ clients: 8, increments: 3 }, { clients: 32, increments: 5 }),
    atOnce: either(30, 100),
    later: either(20, 100),
    afterRestart: 20,
    keyed: either<OperationName[]>(
      ['discue client', 'apinizer credential'],
      ['commerce layer role', 'discue client', 'apinizer credential', 'apinizer password'],
    ),
  },
  store: {
    inFlight: 20,
    /** Ways to fill a disk that are tried, of those that the machine allows. */
    disks: either(1, 2),
    /** Starts after a crash: what the first has taken over, the second must not take over again. */
    starts: either(1, 2),
    locks: either(1, 5),
    /** How long another process holds the database. Milliseconds. */
    lockMs: either(2500, 3000),
  },
  outage: either(
    { seconds: 3, perSecond: 16, resources: 20, afterwards: 1 },
    { seconds: 25, perSecond: 6, resources: 40, afterwards: 20 },
  ),
  hangup: { repeats: either(3, 100) },
  drain: {
    rounds: either(1, 10),
    /** How long providers say nothing while a crash is recovered from. Milliseconds. */
    silence: either(300, 20_000),
  },
}

/** How long one campaign may take before it counts as stuck, and one wait within it. Milliseconds. */
export const campaignMs = either(60_000, 900_000)
export const waitMs = either(20_000, 30_000)

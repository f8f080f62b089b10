import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { Deadline } from '../../src/lib/deadline.ts'
import type { Allowance } from '../../src/model/adapter.ts'
import { Budget, type Permit } from '../../src/upstream/budget.ts'
import type { Pace } from '../../src/upstream/rate-headers.ts'
import { SlidingWindow } from '../../src/upstream/sliding-window.ts'

// The clock is given: time passes only where a test says so, and timers go off with it.
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance', 'Date'] })
})
afterEach(() => {
  // No budget leaves a timer behind when nobody waits.
  expect(vi.getTimerCount()).toBe(0)
  vi.useRealTimers()
})

const now = () => performance.now()
const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms)

/** Whether some stretch of the window's length holds more than it allows; both ends belong to it. */
function isExceeded(times: readonly number[], { requests, seconds }: Allowance): boolean {
  const sorted = times.toSorted((a, b) => a - b)
  return sorted.some((at, index) => {
    const further = sorted[index + requests]
    return further !== undefined && further - at <= seconds * 1000
  })
}

const allowance = fc.record({
  requests: fc.integer({ min: 1, max: 8 }),
  seconds: fc.integer({ min: 1, max: 10 }),
})

describe('a window', () => {
  test('opens a window’s length after the end of the oldest, and for those ahead one by one', () => {
    const window = new SlidingWindow({ requests: 2, seconds: 10 })
    for (const at of [0, 1000]) {
      expect(window.openAt(at, 0)).toBe(at)
      window.begin(at)
      window.end(at + 500, true)
    }
    const opens = [0, 1, 2, 3, 4].map((ahead) => Math.round(window.openAt(2000, ahead)))
    expect(opens).toEqual([10_600, 11_600, 20_700, 21_700, 30_800])
    expect(window.openAt(10_600, 0)).toBe(10_600)
  })

  test('counts what has not ended, and gives back what was not sent', () => {
    const window = new SlidingWindow({ requests: 1, seconds: 1 })
    window.begin(0)
    expect(window.openAt(60_000, 0)).toBe(61_010)
    window.end(60_000, false)
    expect(window.openAt(60_000, 0)).toBe(60_000)
  })

  test('learns of strangers, and not of itself', () => {
    const window = new SlidingWindow({ requests: 10, seconds: 1 })
    const first = window.begin(0)
    for (let n = 0; n < 3; n++) window.begin(1)
    // Counted were the first and, at the most, the three that came after it.
    window.learn(2, first, 6)
    expect(window.openAt(2, 5)).toBe(2)
    window.learn(2, first, 4)
    expect([3, 4].map((ahead) => window.openAt(2, ahead))).toEqual([2, 1012])
    // The same once more is nothing new.
    window.learn(3, first, 4)
    expect(window.openAt(3, 3)).toBe(3)
    // Room that it does not have is not given.
    window.learn(3, first, 1000)
    expect(window.openAt(3, 4)).toBe(1012)
  })
})

interface Caller {
  /** Since the caller before. Milliseconds. */
  after: number
  /** How long its request takes, and at which part of that it is counted. */
  takes: number
  countedAt: number
  patience: number
  outcome: 'sent' | 'not sent'
}

const callers = fc.array(
  fc.record<Caller>({
    after: fc.integer({ min: 0, max: 400 }),
    takes: fc.integer({ min: 0, max: 2000 }),
    countedAt: fc.double({ min: 0, max: 1, noNaN: true }),
    patience: fc.integer({ min: 0, max: 20_000 }),
    outcome: fc.constantFrom('sent', 'sent', 'sent', 'not sent'),
  }),
  { minLength: 1, maxLength: 40, size: 'max' },
)

interface Told {
  caller: number
  cameAt: number
  toldAt: number
  turn: boolean
}

/** Plays the callers; when the provider counted each, and what each was told, in that order. */
async function play(budget: Budget, all: Caller[]): Promise<{ counted: number[]; told: Told[] }> {
  const counted: number[] = []
  const told: Told[] = []
  const played = all.map(async ({ takes, countedAt, patience, outcome }, caller) => {
    const before = all.slice(0, caller + 1).reduce((sum, { after }) => sum + after, 0)
    await new Promise((resolve) => setTimeout(resolve, before))
    const cameAt = now()
    const turn = await budget.take(new Deadline(patience))
    told.push({ caller, cameAt, toldAt: now(), turn: typeof turn !== 'number' })
    if (typeof turn === 'number') return
    if (outcome === 'sent') counted.push(now() + takes * countedAt)
    await new Promise((resolve) => setTimeout(resolve, takes))
    turn.end(outcome === 'sent')
  })
  // Longer than forty take in a window for one in ten seconds.
  await pass(1_000_000)
  await Promise.all(played)
  return { counted, told }
}

describe('a budget', () => {
  test('never exceeds a window, whenever the provider counts', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(allowance, { minLength: 1, maxLength: 3 }), callers, async (windows, all) => {
        const { counted, told } = await play(new Budget(windows), all)
        expect(told).toHaveLength(all.length)
        for (const window of windows) expect(isExceeded(counted, window)).toBe(false)
      }),
      { numRuns: 150 },
    )
  })

  test('serves in order of arrival, and lets nobody wait beyond its time', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(allowance, { minLength: 1, maxLength: 3 }), callers, async (windows, all) => {
        const { told } = await play(new Budget(windows), all)
        const served = told.filter(({ turn }) => turn).map(({ caller }) => caller)
        expect(served).toEqual(served.toSorted((a, b) => a - b))
        for (const { caller, cameAt, toldAt } of told)
          expect(toldAt - cameAt).toBeLessThanOrEqual((all[caller]?.patience ?? 0) + 1)
      }),
      { numRuns: 150 },
    )
  })

  test('lets everybody go who has the time, however many there are', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(allowance, { minLength: 1, maxLength: 3 }), callers, async (windows, all) => {
        const patient = all.map((caller) => ({ ...caller, patience: 3_600_000 }))
        const budget = new Budget(windows)
        const { told } = await play(budget, patient)
        expect(told.every(({ turn }) => turn)).toBe(true)
      }),
      { numRuns: 150 },
    )
  })

  test('says truly when there is room again: then it is there, and not before', async () => {
    await fc.assert(
      fc.asyncProperty(allowance, fc.integer({ min: 0, max: 30 }), async (window, more) => {
        const budget = new Budget([window])
        const atOnce = async () => {
          const turn = await budget.take(new Deadline(0))
          if (typeof turn === 'number') return turn
          turn.end(true)
          return undefined
        }
        for (let n = 0; n < window.requests; n++) {
          await pass(more)
          expect(await atOnce()).toBeUndefined()
        }
        const wait = await atOnce()
        await pass(Math.floor(Number(wait)) - 1)
        expect(await atOnce()).toBeGreaterThan(0)
        await pass(2)
        expect(await atOnce()).toBeUndefined()
      }),
      { numRuns: 50 },
    )
  })

  test('counts those who wait already, and refuses at once who would wait in vain', async () => {
    const budget = new Budget([{ requests: 1, seconds: 1 }])
    const done = (turn: Permit | number) => (typeof turn === 'number' ? turn : turn.end(true))
    done(await budget.take(new Deadline(0)))
    const waiting = [1, 2, 3].map(() => budget.take(new Deadline(60_000)).then(done))
    const came = now()
    expect(await budget.take(new Deadline(2000))).toBeCloseTo(4040)
    expect(now()).toBe(came)
    await pass(4000)
    await Promise.all(waiting)
  })

  test('lets go of whoever waited for one that does not end, and of its timer', async () => {
    const budget = new Budget([{ requests: 1, seconds: 1 }])
    const running = await budget.take(new Deadline(0))
    const waiting = budget.take(new Deadline(4000))
    await pass(3000)
    expect(await waiting).toBeCloseTo(1010)
    expect(vi.getTimerCount()).toBe(0)
    if (typeof running === 'object') running.end(true)
  })

  test('counts what an earlier process has sent', async () => {
    const budget = new Budget([{ requests: 3, seconds: 60 }])
    budget.restore([61_000, 59_000, 10_000, -500])
    expect(await budget.take(new Deadline(0))).toBeCloseTo(1600, 0)
  })

  test('counts what two earlier processes have sent in one order', async () => {
    const budget = new Budget([{ requests: 3, seconds: 60 }])
    budget.restore([10_000, 50_000])
    budget.restore([20_000, 30_000])
    expect(await budget.take(new Deadline(0))).toBeCloseTo(30_600, 0)
  })

  test('lets a bounded number wait, and tells the others at once', async () => {
    const budget = new Budget([])
    const first = await budget.take(new Deadline(0))
    if (typeof first === 'object') first.end(true, { room: [], waitMs: 1000 })
    const all = Array.from({ length: 600 }, () => budget.take(new Deadline(60_000)))
    const refused = Promise.all(all.slice(512))
    await pass(0)
    expect(new Set((await refused).map(Number))).toEqual(new Set([1000]))
    await pass(1000)
    expect((await Promise.all(all.slice(0, 512))).every((turn) => typeof turn === 'object')).toBe(true)
  })

  test('without windows lets everything go', async () => {
    const budget = new Budget([])
    for (let n = 0; n < 1000; n++) expect(typeof (await budget.take(new Deadline(0)))).toBe('object')
  })
})

describe('lookups', () => {
  const take = async (budget: Budget, isLookup: boolean, ms = 0) =>
    typeof (await budget.take(new Deadline(ms), isLookup)) === 'object'

  test('take their share of a window, and leave the rest to changes', async () => {
    const budget = new Budget([{ requests: 8, seconds: 60 }])
    const lookups = await Promise.all(Array.from({ length: 8 }, () => take(budget, true)))
    expect(lookups.filter(Boolean)).toHaveLength(6)
    const changes = await Promise.all(Array.from({ length: 8 }, () => take(budget, false)))
    expect(changes.filter(Boolean)).toHaveLength(2)
  })

  test('have a whole window where nothing of it can be kept', async () => {
    const budget = new Budget([{ requests: 1, seconds: 60 }])
    expect(await take(budget, true)).toBe(true)
  })

  test('wait behind changes that came later, in a line of their own', async () => {
    const budget = new Budget([{ requests: 4, seconds: 10 }])
    for (let n = 0; n < 4; n++) {
      const turn = await budget.take(new Deadline(0), n > 0)
      if (typeof turn === 'object') turn.end(true)
    }
    const order: string[] = []
    const wait = async (name: string, isLookup: boolean) => {
      const turn = await budget.take(new Deadline(60_000), isLookup)
      order.push(name)
      if (typeof turn === 'object') turn.end(true)
    }
    const all = [wait('lookup', true), wait('change', false), wait('change', false)]
    await pass(10_200)
    await Promise.all(all)
    expect(order).toEqual(['change', 'change', 'lookup'])
  })

  test('that fill their line do not fill that of changes', async () => {
    const budget = new Budget([])
    const first = await budget.take(new Deadline(0))
    if (typeof first === 'object') first.end(true, { room: [], waitMs: 1000 })
    const lookups = Array.from({ length: 600 }, () => take(budget, true, 60_000))
    const change = take(budget, false, 60_000)
    await pass(1000)
    expect(await change).toBe(true)
    expect((await Promise.all(lookups)).filter(Boolean)).toHaveLength(512)
  })

  test('leave a part of what the provider says is left', async () => {
    const budget = new Budget([])
    const first = await budget.take(new Deadline(0))
    if (typeof first === 'object') first.end(true, { room: [{ remaining: 8, resetSeconds: 30 }] })
    const lookups = await Promise.all(Array.from({ length: 8 }, () => take(budget, true)))
    expect(lookups.filter(Boolean)).toHaveLength(6)
    const changes = await Promise.all(Array.from({ length: 8 }, () => take(budget, false)))
    expect(changes.filter(Boolean)).toHaveLength(2)
  })
})

describe('what a provider tells', () => {
  const none: Pace = { room: [] }
  /** Sends one request that is told `pace`. */
  async function send(budget: Budget, pace: Pace): Promise<void> {
    const turn = await budget.take(new Deadline(0))
    if (typeof turn === 'number') throw new Error(`no turn for ${turn} ms`)
    turn.end(true, pace)
  }
  const wait = async (budget: Budget) => {
    const turn = await budget.take(new Deadline(0))
    if (typeof turn === 'number') return Math.round(turn)
    turn.end(false)
    return 0
  }

  test('with a 429 holds everybody back, no longer than the longest window', async () => {
    const budget = new Budget([], 20)
    await send(budget, { room: [], waitMs: 5000 })
    expect(await wait(budget)).toBe(5000)
    await pass(5000)
    await send(budget, { room: [], waitMs: 86_400_000 })
    expect(await wait(budget)).toBe(20_000)
    await pass(20_000)
    await send(budget, { room: [{ remaining: 0, resetSeconds: 86_400 }] })
    expect(await wait(budget)).toBe(20_000)
    await pass(20_000)
    expect(await wait(budget)).toBe(0)
  })

  test('is not undone by an answer to an older request', async () => {
    const budget = new Budget([])
    const older = await budget.take(new Deadline(0))
    await send(budget, { room: [], waitMs: 5000 })
    if (typeof older === 'object') older.end(true, { room: [{ remaining: 100, resetSeconds: 30 }] })
    expect(await wait(budget)).toBe(5000)
  })

  test('of what is left lowers the budget until the reset, and never raises it', async () => {
    const budget = new Budget([{ requests: 4, seconds: 60 }])
    await send(budget, { room: [{ remaining: 1, resetSeconds: 10 }] })
    await send(budget, none)
    expect(await wait(budget)).toBe(10_000)
    await pass(10_000)
    await send(budget, { room: [{ remaining: 500, resetSeconds: 1 }] })
    await send(budget, none)
    expect(await wait(budget)).toBeGreaterThan(40_000)
  })

  test('counts those that were under way', async () => {
    const budget = new Budget([])
    const turns = await Promise.all([1, 2, 3].map(() => budget.take(new Deadline(0))))
    const [first] = turns
    if (typeof first === 'object') first.end(true, { room: [{ remaining: 3, resetSeconds: 10 }] })
    await send(budget, none)
    expect(await wait(budget)).toBe(10_000)
  })

  test('counts those that had begun before and were under way', async () => {
    const budget = new Budget([])
    const [, , last] = await Promise.all([1, 2, 3].map(() => budget.take(new Deadline(0))))
    if (typeof last === 'object') last.end(true, { room: [{ remaining: 3, resetSeconds: 10 }] })
    await send(budget, none)
    expect(await wait(budget)).toBe(10_000)
  })

  test('counts those that ended meanwhile without a word, and not those that told', async () => {
    const room = (remaining: number): Pace => ({ room: [{ remaining, resetSeconds: 10 }] })
    const budget = new Budget([])
    const turns = await Promise.all([1, 2, 3].map(() => budget.take(new Deadline(0))))
    for (const [n, pace] of [room(9), none, room(2)].entries()) {
      const turn = turns[n]
      if (typeof turn === 'object') turn.end(true, pace)
    }
    await send(budget, none)
    expect(await wait(budget)).toBe(10_000)
  })

  test('is given back by what was not sent, whether it began before or after', async () => {
    const budget = new Budget([])
    const [before, told] = await Promise.all([1, 2].map(() => budget.take(new Deadline(0))))
    if (typeof told === 'object') told.end(true, { room: [{ remaining: 1, resetSeconds: 10 }] })
    expect(await wait(budget)).toBe(10_000)
    if (typeof before === 'object') before.end(false)
    // Each of these is begun and not sent.
    for (let n = 0; n < 3; n++) expect(await wait(budget)).toBe(0)
    await send(budget, none)
    expect(await wait(budget)).toBe(10_000)
  })

  test.each([
    ['the long one first', [0, 1]],
    ['the short one first', [1, 0]],
  ])('of several policies holds for each by itself, %s', async (_, order) => {
    const policies = [
      { remaining: 4, resetSeconds: 30 },
      { remaining: 2, resetSeconds: 1 },
    ]
    const budget = new Budget([])
    await send(budget, { room: order.flatMap((at) => policies[at] ?? []) })
    for (let n = 0; n < 2; n++) await send(budget, none)
    expect(await wait(budget)).toBe(1000)
    await pass(1000)
    for (let n = 0; n < 2; n++) await send(budget, none)
    expect(await wait(budget)).toBe(29_000)
  })

  test('of a window that is configured counts as sent by others', async () => {
    const budget = new Budget([{ requests: 4, seconds: 2 }])
    await send(budget, { room: [{ remaining: 0, windowSeconds: 2 }] })
    expect(await wait(budget)).toBe(2020)
    await pass(2020)
    await send(budget, { room: [{ remaining: 0, windowSeconds: 7 }] })
    expect(await wait(budget)).toBe(0)
  })
})

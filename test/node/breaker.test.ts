import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { openLog } from '../../src/lib/log.ts'
import { createBreaker } from '../../src/upstream/breaker-gate.ts'
import type { Answer, OutgoingRequest } from '../../src/upstream/send.ts'

// The clock is given: time passes only where a test says so.
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance', 'Date'] })
})
afterEach(() => {
  expect(vi.getTimerCount()).toBe(0)
  vi.useRealTimers()
})

const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms)
const request = {} as OutgoingRequest
const status = (status: number): Answer => ({ received: true, response: { status, headers: {}, body: null } })
const unreached: Answer = { received: false, sent: false, detail: 'no connection' }
const cut: Answer = { received: false, sent: true, detail: 'cut' }

/** A guarded way to a provider that answers what it is told to; `sent` counts what got there. */
function setUp() {
  const provider = { answer: (): Answer | Promise<Answer> => cut, sent: 0 }
  const breaker = createBreaker(
    'a',
    'changes',
    openLog('error', () => {}),
  )
  const send = breaker.guard(async () => {
    provider.sent += 1
    return provider.answer()
  })
  const times = async (count: number) => {
    const answers: Answer[] = []
    for (let n = 0; n < count; n++) answers.push(await send(request))
    return answers
  }
  return { provider, breaker, send: () => send(request), times }
}
const isHeld = (answer: Answer) => 'held' in answer

test.each([
  ['no connection', unreached],
  ['no answer', cut],
  ['500', status(500)],
  ['503', status(503)],
])('%s ten times in a row: nothing more is sent, and each answer stays what it was', async (_, answer) => {
  const { provider, breaker, times } = setUp()
  provider.answer = () => answer
  expect(breaker.refusal()).toBeUndefined()
  expect(await times(10)).toEqual(Array(10).fill(answer))
  expect(await times(50)).toEqual(Array(50).fill(breaker.refusal()))
  expect(breaker.refusal()).toMatchObject({
    sent: false,
    held: { problem: 'upstream-unavailable', ms: 1000 },
  })
  expect(provider.sent).toBe(10)
})

test.each([400, 401, 403, 404, 409, 422, 429])(
  '%d is the answer of a provider that is well',
  async (code) => {
    const { provider, times } = setUp()
    provider.answer = () => status(code)
    await times(100)
    expect(provider.sent).toBe(100)
  },
)

test('failures with a success among them are those of one resource, not of the provider', async () => {
  const { provider, times } = setUp()
  for (let round = 0; round < 20; round++) {
    provider.answer = () => cut
    await times(9)
    provider.answer = () => status(200)
    await times(1)
  }
  expect(provider.sent).toBe(200)
})

test('after a pause one tries again, each pause up to five seconds; a success opens the way to all', async () => {
  const { provider, send, times } = setUp()
  await times(10)
  const pauses: number[] = []
  for (let trial = 1; trial <= 5; trial++) {
    const before = provider.sent
    const since = performance.now()
    while (provider.sent === before) {
      await pass(100)
      // One of many at once is sent; the others do not wait for it.
      const all = await Promise.all([send(), send(), send()])
      expect(all.filter(isHeld).length).toBe(provider.sent === before ? 3 : 2)
    }
    pauses.push(performance.now() - since)
  }
  expect(pauses).toEqual([1000, 2000, 4000, 5000, 5000])
  provider.answer = () => status(200)
  await pass(5000)
  expect(await times(100)).toEqual(Array(100).fill(status(200)))
})

test('a trial that hangs is judged after five seconds, and its caller still gets its answer', async () => {
  const { provider, breaker, send, times } = setUp()
  await times(10)
  const { promise, resolve } = Promise.withResolvers<Answer>()
  provider.answer = () => promise
  await pass(1000)
  const hanging = send()
  await pass(4900)
  expect(isHeld(await send())).toBe(true)
  await pass(2100)
  provider.answer = () => status(200)
  expect(await send()).toEqual(status(200))
  expect(breaker.refusal()).toBeUndefined()
  resolve(cut)
  expect(await hanging).toEqual(cut)
})

test('what was sent before a break decides nothing after it', async () => {
  const { provider, breaker, send, times } = setUp()
  const late = Promise.withResolvers<Answer>()
  const trial = Promise.withResolvers<Answer>()
  provider.answer = () => late.promise
  const straggler = send()
  provider.answer = () => cut
  await times(10)
  await pass(1000)
  provider.answer = () => trial.promise
  const trying = send()
  late.resolve(cut)
  expect(await straggler).toEqual(cut)
  trial.resolve(status(200))
  expect(await trying).toEqual(status(200))
  expect(breaker.refusal()).toBeUndefined()
  provider.answer = () => status(200)
  expect(await times(100)).toEqual(Array(100).fill(status(200)))
})

test('a wall clock that is set back or ahead changes nothing', async () => {
  const { provider, send, times } = setUp()
  await times(10)
  vi.setSystemTime(Date.now() + 3_600_000)
  expect(isHeld(await send())).toBe(true)
  vi.setSystemTime(Date.now() - 7_200_000)
  await pass(1000)
  provider.answer = () => status(200)
  expect(await send()).toEqual(status(200))
})

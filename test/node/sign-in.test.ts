import { afterEach, beforeEach, describe, expect, inject, test, vi } from 'vitest'
import { Semaphore } from 'async-mutex'
import { registry } from '../../adapters/index.ts'
import { boundSend } from '../../src/bounded-send.ts'
import { readConfig } from '../../src/config.ts'
import { Deadline } from '../../src/deadline.ts'
import { createTokens, type SignIn } from '../../src/token.ts'
import { type Answer, heldBack, type Send } from '../../src/upstream.ts'
import { configuration, environment } from '../configuration.ts'

// The clock is given: time passes only where a test says so.
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance', 'Date'] })
})
afterEach(() => {
  expect(vi.getTimerCount()).toBe(0)
  vi.useRealTimers()
})

const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms)
const DAY = 86_400_000

const config = readConfig(JSON.stringify(configuration(inject('sandbox'))), environment, registry)
if (!config.ok) throw new Error(JSON.stringify(config.faults))
const { connections } = config.value

const answer = (status: number, body: unknown, headers = {}): Answer => ({
  received: true,
  response: { status, headers, body },
})

/** An account whose token endpoint answers what it is told to. */
function setUp(name = 'commerce-layer', slots = new Semaphore(1000)) {
  const connection = connections.get(name)
  if (!connection) throw new Error(name)
  const endpoint = {
    asked: 0,
    answer: (): Answer | Promise<Answer> => endpoint.token(7200),
    token: (expires_in: number) => answer(200, { access_token: `token-${endpoint.asked}`, expires_in }),
  }
  const send: Send = async () => {
    endpoint.asked += 1
    return endpoint.answer()
  }
  const tokens = createTokens(connection, boundSend(send, slots))
  const signIn = (ms = 10_000) => tokens.signIn(new Deadline(ms), '00-1-2-01')
  /** What an exchange does; whether the provider took a token. */
  async function exchange(takes: (token: string | undefined) => boolean): Promise<boolean> {
    for (let renewed = false; ; renewed = true) {
      const signedIn = await signIn()
      if (!signedIn.ok) return false
      if (takes(tokenOf(signedIn))) return true
      if (!tokens.discard(signedIn.headers, renewed || signedIn.isNew)) return false
    }
  }
  return { endpoint, tokens, signIn: () => signIn(), signInWithin: signIn, exchange }
}
const tokenOf = (signIn: SignIn) =>
  signIn.ok ? signIn.headers['Authorization']?.expose() : Object.keys(signIn).join()

const unready: SignIn = { ok: false, unanswered: { received: false, sent: false, detail: 'not yet' } }

test('any number of waiters share one request', async () => {
  const { endpoint, signIn } = setUp()
  endpoint.answer = async () => {
    await new Promise((resolve) => setTimeout(resolve, 300))
    return endpoint.token(7200)
  }
  const waiting = Promise.all(Array.from({ length: 200 }, signIn))
  await pass(300)
  expect(new Set((await waiting).map(tokenOf))).toEqual(new Set(['Bearer token-1']))
  expect(endpoint.asked).toBe(1)
})

test.each([
  ['commerce-layer', 7200, 7_170_000],
  ['commerce-layer', 60, 54_000],
  ['commerce-layer', 1, 900],
  ['apinizer-login', 3600, 3_570_000],
])('%s: a token for %d seconds is renewed before its end', async (name, seconds, renewedAt) => {
  const { endpoint, signIn } = setUp(name)
  endpoint.answer = () => endpoint.token(seconds)
  await signIn()
  await pass(renewedAt - 1)
  await signIn()
  expect(endpoint.asked).toBe(1)
  await pass(2)
  expect(tokenOf(await signIn())).toBe('Bearer token-2')
})

test('Apinizer’s other meaning: the moment of the end in milliseconds', async () => {
  const { endpoint, signIn } = setUp('apinizer-login')
  endpoint.answer = () => endpoint.token(Date.now() + 3_600_000)
  await signIn()
  await pass(3_569_000)
  await signIn()
  expect(endpoint.asked).toBe(1)
  await pass(2000)
  await signIn()
  expect(endpoint.asked).toBe(2)
})

test('a moment that is over when it comes was told by another clock: no request for each change', async () => {
  const { endpoint, signIn } = setUp('apinizer-login')
  endpoint.answer = () => endpoint.token(Date.now() - DAY)
  for (let n = 0; n < 100; n++) expect(tokenOf(await signIn())).toBe('Bearer token-1')
})

test('a wall clock that jumps neither ends a token nor keeps it alive', async () => {
  const { endpoint, signIn } = setUp()
  await signIn()
  for (const jump of [DAY, -2 * DAY]) {
    vi.setSystemTime(Date.now() + jump)
    await signIn()
  }
  expect(endpoint.asked).toBe(1)
  await pass(7_200_000)
  await signIn()
  expect(endpoint.asked).toBe(2)
})

describe('an endpoint that fails', () => {
  const failing: [string, () => Answer][] = [
    ['without an answer', () => ({ received: false, sent: true, detail: 'cut' })],
    ['with 500', () => answer(500, undefined)],
    ['with 429', () => answer(429, undefined)],
  ]

  test.each(failing)('%s is asked seldom, however many ask', async (_, fail) => {
    const { endpoint, signIn } = setUp()
    endpoint.answer = fail
    // A minute of ten sign-ins a second.
    const all: Promise<SignIn>[] = []
    for (let n = 0; n < 600; n++) {
      all.push(signIn())
      await pass(100)
    }
    await pass(10_000)
    // Half a second, doubled to thirty, half of each at random.
    expect(endpoint.asked).toBeLessThanOrEqual(12)
    expect(endpoint.asked).toBeGreaterThan(4)
    const held = (await Promise.all(all)).flatMap((signIn) =>
      'unanswered' in signIn && 'held' in signIn.unanswered ? [signIn.unanswered.held] : [],
    )
    expect(held.length).toBeGreaterThan(500)
    for (const { problem, ms } of held) {
      expect(problem).toBe('upstream-unavailable')
      expect(ms).toBeGreaterThan(0)
      expect(ms).toBeLessThanOrEqual(30_000)
    }
    endpoint.answer = () => endpoint.token(7200)
    await pass(30_000)
    expect((await signIn()).ok).toBe(true)
  })

  test('once is waited for: nobody is refused', async () => {
    const { endpoint, signIn } = setUp()
    endpoint.answer = () => {
      endpoint.answer = () => endpoint.token(7200)
      return answer(503, undefined)
    }
    expect((await signIn()).ok).toBe(false)
    const waiting = Promise.all(Array.from({ length: 50 }, signIn))
    await pass(600)
    expect(new Set((await waiting).map(tokenOf))).toEqual(new Set(['Bearer token-2']))
  })

  test('when a token is renewed early leaves the old one in use until its end', async () => {
    const { endpoint, signIn } = setUp()
    await signIn()
    endpoint.answer = () => answer(500, undefined)
    await pass(7_175_000)
    for (let n = 0; n < 20; n++) {
      expect(tokenOf(await signIn())).toBe('Bearer token-1')
      await pass(1000)
    }
    expect(endpoint.asked).toBeLessThanOrEqual(8)
    await pass(10_000)
    const waiting = signIn()
    // It may wait for the end of a cool-down.
    await pass(1100)
    expect((await waiting).ok).toBe(false)
  })

  test('by refusing is believed for a while', async () => {
    const { endpoint, signIn } = setUp()
    endpoint.answer = () => answer(401, { errors: [] })
    for (let n = 0; n < 100; n++) expect(tokenOf(await signIn())).toContain('refusal')
    expect(endpoint.asked).toBe(1)
    await pass(500)
    await signIn()
    expect(endpoint.asked).toBe(2)
  })
})

test('what the budget holds back was no failure', async () => {
  const { endpoint, signIn } = setUp()
  const held = heldBack('upstream-rate-limited', 30_000, true, 'no room')
  endpoint.answer = () => held
  expect(await signIn()).toEqual({ ok: false, unanswered: held })
  endpoint.answer = () => endpoint.token(7200)
  expect((await signIn()).ok).toBe(true)
})

test('waiting for a slot in vain was no failure either', async () => {
  const slots = new Semaphore(1)
  const { endpoint, signIn } = setUp('commerce-layer', slots)
  const release = await slots.acquire()
  const waiting = Promise.all(Array.from({ length: 20 }, signIn))
  await pass(10_000)
  for (const signedIn of await waiting) {
    expect(signedIn).toMatchObject({ unanswered: { held: { problem: 'upstream-unavailable', ms: 1000 } } })
  }
  expect(endpoint.asked).toBe(0)
  release[1]()
  // At once: nothing has to cool down.
  expect(tokenOf(await signIn())).toBe('Bearer token-1')
})

test('while an endpoint hangs, the token that is still good serves, however little time there is', async () => {
  const { endpoint, signIn, signInWithin } = setUp()
  await signIn()
  await pass(7_171_000)
  const { promise, resolve } = Promise.withResolvers<Answer>()
  endpoint.answer = () => promise
  const waiting = signInWithin(1000)
  await pass(100)
  expect(tokenOf(await Promise.race([waiting, unready]))).toBe('Bearer token-1')
  resolve(endpoint.token(7200))
  await pass(0)
  expect(tokenOf(await signIn())).toBe('Bearer token-2')
})

test('a token that was fetched for the request that is refused is not worth another one, one that was there is', async () => {
  const { endpoint, exchange } = setUp()
  expect(await exchange(() => false)).toBe(false)
  expect(endpoint.asked).toBe(1)
  await pass(60_000)
  const tried: (string | undefined)[] = []
  expect(await exchange((token) => tried.push(token) > 1)).toBe(true)
  expect(tried).toEqual(['Bearer token-1', 'Bearer token-2'])
  expect(endpoint.asked).toBe(2)
})

test('a provider that takes no token at all is not sent one after the other', async () => {
  const { endpoint, exchange } = setUp()
  let tried = 0
  const all: Promise<boolean>[] = []
  for (let n = 0; n < 300; n++) {
    all.push(exchange(() => (tried += 1) === 0))
    await pass(100)
  }
  await pass(10_000)
  expect(new Set(await Promise.all(all))).toEqual(new Set([false]))
  expect(tried).toBeGreaterThan(300)
  expect(endpoint.asked).toBeLessThanOrEqual(24)
  expect(endpoint.asked).toBeGreaterThan(4)
})

test('one resource that takes no token does not take it from the others', async () => {
  const { endpoint, exchange } = setUp()
  for (let n = 0; n < 300; n++) {
    const refused = exchange(() => false)
    const taken = exchange(() => true)
    await pass(0)
    expect(await Promise.race([taken, unready])).toBe(true)
    expect(await refused).toBe(false)
    await pass(100)
  }
  expect(endpoint.asked).toBeLessThanOrEqual(24)
})

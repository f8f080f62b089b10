import { Semaphore } from 'async-mutex'
import { afterEach, beforeEach, describe, expect, inject, test, vi } from 'vitest'
import { registry } from '../../adapters/index.ts'
import { type ConnectionConfig } from '../../src/config/document.ts'
import { readConfig } from '../../src/config/read.ts'
import { Deadline } from '../../src/lib/deadline.ts'
import { type Adapter, type Registry, type UpstreamResponse } from '../../src/model/adapter.ts'
import { refusalByStatus } from '../../src/model/upstream-refusal.ts'
import { limitConcurrency } from '../../src/upstream/concurrency-gate.ts'
import { createExchange } from '../../src/upstream/exchange.ts'
import { type Answer, heldBack, type Send } from '../../src/upstream/send.ts'
import { createTokens, type SignIn } from '../../src/upstream/sign-in.ts'
import { configuration, environment } from '../harness/configuration.ts'

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
  const adapter = (registry as Registry)[connection?.provider ?? '']
  if (!connection || !adapter) throw new Error(name)
  const endpoint = {
    asked: 0,
    answer: (): Answer | Promise<Answer> => endpoint.token(7200),
    token: (expires_in?: unknown) => answer(200, { access_token: `token-${endpoint.asked}`, expires_in }),
  }
  const send: Send = async () => {
    endpoint.asked += 1
    return endpoint.answer()
  }
  const tokens = createTokens(connection, limitConcurrency(send, slots))
  const signIn = (ms = 10_000) => tokens.signIn(new Deadline(ms), '00-1-2-01')
  /** One request of the gateway's to a provider that takes some tokens. */
  function attempt(takes: (token: string | undefined) => boolean) {
    const provider: Send = async ({ credentials }) =>
      answer(takes(credentials['Authorization']?.expose()) ? 200 : 401, {})
    const exchange = createExchange(
      connection as ConnectionConfig,
      adapter as Adapter,
      tokens,
      limitConcurrency(provider, slots),
    )
    const request = { method: 'GET' as const, template: '/thing', ref: {}, headers: {} }
    const stale = { ...refusalByStatus(401), staleToken: true }
    const parse = ({ status }: UpstreamResponse) => (status === 401 ? { refusal: stale } : { told: true })
    return exchange(request, parse, new Deadline(10_000), '00-1-2-01')
  }
  /** Whether the provider took a token. */
  async function exchange(takes: (token: string | undefined) => boolean): Promise<boolean> {
    const verdict = await attempt(takes)
    return verdict.kind === 'answered' && 'told' in verdict.parsed
  }
  return { endpoint, tokens, signIn: () => signIn(), signInWithin: signIn, attempt, exchange }
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

test.each([undefined, null])(
  'Apinizer: a token that says %s of its end is renewed after an hour',
  async (told) => {
    const { endpoint, signIn, exchange } = setUp('apinizer-login')
    endpoint.answer = () => endpoint.token(told)
    await signIn()
    await pass(3_569_000)
    await signIn()
    expect(endpoint.asked).toBe(1)
    // A refusal renews it before.
    expect(await exchange((token) => token === 'Bearer token-2')).toBe(true)
    await pass(3_571_000)
    expect(tokenOf(await signIn())).toBe('Bearer token-3')
  },
)

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
  expect(endpoint.asked).toBeLessThanOrEqual(9)
  expect(endpoint.asked).toBeGreaterThan(4)
})

describe('one resource that takes no token', () => {
  const no = () => false
  const yes = () => true

  test('does not take it from the others, and costs a few token requests a minute', async () => {
    const { endpoint, exchange } = setUp()
    for (let minute = 0; minute < 10; minute++) {
      const before = endpoint.asked
      for (let n = 0; n < 300; n++) {
        const refused = exchange(no)
        const taken = exchange(yes)
        await pass(0)
        expect(await Promise.race([taken, unready])).toBe(true)
        expect(await refused).toBe(false)
        await pass(200)
      }
      // Half a second of rest, doubled to thirty, half of each at random; the provider allows thirty requests a minute.
      expect(endpoint.asked - before).toBeLessThanOrEqual(minute === 0 ? 11 : 5)
    }
  })

  test.each<[string, () => Answer, string]>([
    ['gives no token', () => answer(500, undefined), 'not_sent'],
    ['refuses', () => answer(401, { errors: [] }), 'refused'],
  ])('does not take it from the others while the endpoint %s', async (_, fail, kind) => {
    const { endpoint, signIn, attempt, exchange } = setUp()
    await signIn()
    endpoint.answer = fail
    for (let n = 0; n < 300; n++) {
      const refused = attempt(no)
      const taken = exchange(yes)
      await pass(0)
      expect(await Promise.race([taken, unready])).toBe(true)
      await pass(1100)
      // It is told what signing in anew met, and not that the account may not do this.
      expect(await refused).toMatchObject({ kind })
    }
    expect(endpoint.asked).toBeLessThanOrEqual(30)
    endpoint.answer = () => endpoint.token(7200)
    await pass(30_000)
    expect(await exchange((token) => token !== 'Bearer token-1')).toBe(true)
  })

  test('lets the others go on while the endpoint hangs', async () => {
    const { endpoint, signIn, exchange } = setUp()
    await signIn()
    const { promise, resolve } = Promise.withResolvers<Answer>()
    endpoint.answer = () => promise
    const refused = exchange(no)
    await pass(0)
    const taken = exchange(yes)
    await pass(1000)
    expect(await Promise.race([taken, unready])).toBe(true)
    resolve(endpoint.token(7200))
    await pass(0)
    expect(await refused).toBe(false)
    expect(tokenOf(await signIn())).toBe('Bearer token-2')
  })
})

test('a token that was withdrawn is renewed once for all who meet that, and nobody is refused', async () => {
  const { endpoint, signIn, exchange } = setUp()
  await signIn()
  const all = Promise.all(Array.from({ length: 50 }, () => exchange((token) => token !== 'Bearer token-1')))
  await pass(0)
  expect(new Set(await all)).toEqual(new Set([true]))
  expect(endpoint.asked).toBe(2)
})

test.each(['discue', 'apinizer'])('%s: a header that stays is sent once', async (name) => {
  const { endpoint, exchange } = setUp(name)
  for (let sent = 0, n = 0; n < 5; n++, sent = 0) {
    expect(await exchange(() => (sent += 1) === 0)).toBe(false)
    expect(sent).toBe(1)
  }
  expect(endpoint.asked).toBe(0)
})

import { useGateway } from '#gateway'
import { describe, expect, test, vi } from 'vitest'
import { keys } from '../harness/configuration.ts'
import {
  type Answer,
  call,
  freshId,
  get,
  mintApinizer,
  mintCommerceLayer,
  mintDiscue,
  put,
} from '../harness/gateway-calls.ts'
import type { Json } from '../harness/sandbox-calls.ts'

useGateway()

/** The refused attempts in the audit, oldest first. */
const refusals = async (query = ''): Promise<Json[]> =>
  (await get(`/audit?type=refused&limit=1000${query}`)).body.data.toReversed()

describe('a refused attempt of a known caller', () => {
  test('is in the audit of its connection at once, and many more are folded', async () => {
    const id = `discue:${await mintDiscue()}`
    for (let n = 0; n < 20; n++) {
      const reply = await put(`/credentials/${id}`, { name: 'x' }, { key: keys.reader })
      expect(reply.status).toBe(403)
    }
    const events = await refusals(`&actor=reader&connection=discue`)
    expect(events).toHaveLength(1)
    expect(events[0]).toMatchObject({
      connection: 'discue',
      type: 'refused',
      actor: { caller: 'reader', key: 'reader' },
      kind: 'credential',
      resource: id,
      changeId: null,
      outcome: null,
      refusal: { problem: 'forbidden', count: 1 },
    })
  })

  test('for what is hidden from it is kept under what it asked for, through an alias too', async () => {
    const { id } = await mintApinizer()
    expect((await get(`/credentials/${id}`, { key: keys.narrow })).status).toBe(404)
    expect((await get('/credentials/billing-worker', { key: keys.narrow })).status).toBe(404)
    expect((await get('/credentials/seed-credential', { key: keys.narrow })).status).toBe(404)
    expect(await refusals('&actor=narrow&connection=apinizer')).toMatchObject([
      { resource: id, alias: null, refusal: { problem: 'not-found', count: 1 } },
    ])
    expect(await refusals('&actor=narrow&connection=commerce-layer')).toMatchObject([
      { resource: 'commerce-layer:xYZkjABcde', alias: 'seed-credential' },
    ])
  })

  test('where there is no connection is kept by the gateway itself', async () => {
    expect((await get(`/credentials/no-connection:${freshId()}`, { key: keys.narrow })).status).toBe(404)
    expect((await get('/audit', { key: keys.planner })).status).toBe(403)
    const own = await refusals('&connection=_gateway')
    expect(own.map(({ actor, refusal, kind }) => [actor.caller, refusal.problem, kind])).toEqual([
      ['narrow', 'not-found', 'credential'],
      ['planner', 'forbidden', null],
    ])
    // What belongs to no resource is shown to those who may see all of them.
    const seen = await get('/audit?connection=_gateway', { key: keys.auditor })
    expect([seen.status, seen.body.data]).toEqual([200, []])
  })

  test('on a change, by hand or to read it, is kept too', async () => {
    const id = `discue:${await mintDiscue()}`
    const { body } = await put(`/credentials/${id}`, { name: 'x' })
    const resolution = { outcome: 'applied', reason: 'seen' }
    const path = `/changes/${body.changeId}`
    expect((await call('POST', `${path}/resolve`, resolution, { key: keys.blind })).status).toBe(403)
    expect((await get(path, { key: keys.auditor })).status).toBe(403)
    // The rules of this one touch nothing of the connection.
    expect((await get(path, { key: keys.narrow })).status).toBe(404)
    expect((await refusals(`&resource=${id}`)).map(({ actor, refusal }) => [actor.caller, refusal])).toEqual([
      ['blind', { problem: 'forbidden', count: 1 }],
      ['auditor', { problem: 'forbidden', count: 1 }],
    ])
  })

  test('is not what a bad request, an absent resource or an unknown caller leaves behind', async () => {
    const before = (await get('/audit?limit=1000')).body.data.length
    expect((await put(`/credentials/discue:${freshId()}`, { nonsense: 1 })).status).toBe(422)
    expect((await get(`/credentials/commerce-layer:${freshId()}`)).status).toBe(404)
    expect((await get('/audit?order=asc')).status).toBe(400)
    for (const key of [null, 'nonsense', keys.admin.replace('cgw_admin', 'cgw_nobody')]) {
      expect((await get('/audit', { key })).status).toBe(401)
    }
    expect((await get('/audit?limit=1000')).body.data).toHaveLength(before)
  })
})

describe('the limit of a caller', () => {
  const limits = ({ headers }: Answer) => [headers.get('ratelimit-policy'), headers.get('ratelimit')]

  test('counts every request, says what is left, and ends in 429', async () => {
    const path = `/credentials/commerce-layer:${await mintCommerceLayer('api_credentials')}`
    const answers: Answer[] = []
    // A request that is refused for another reason counts as well.
    for (const target of [path, `${path}?nonsense=1`, '/providers', path, '/providers'])
      answers.push(await get(target, { key: keys.limited }))
    expect(answers.map(({ status }) => status)).toEqual([200, 400, 200, 429, 429])
    for (const [index, answer] of answers.entries()) {
      const [policy, left] = limits(answer)
      expect(policy).toBe('"caller";q=3;w=3600')
      expect(left).toMatch(new RegExp(`^"caller";r=${Math.max(0, 2 - index)};t=(3600|35\\d\\d)$`))
    }
    const refused = answers[3] as Answer
    expect(refused.body.type).toBe('/problems/rate-limited')
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(3500)
    const events = await refusals('&actor=limited')
    expect(events.map(({ connection, refusal }) => [connection, refusal.problem, refusal.count])).toEqual([
      ['_gateway', 'rate-limited', 1],
    ])
  })

  test('ends with its window', async () => {
    const ask = () => get('/providers', { key: keys.brief })
    await expect.poll(async () => (await ask()).status, { interval: 0 }).toBe(429)
    const { headers } = await ask()
    expect(headers.get('retry-after')).toBe('1')
    await expect.poll(async () => (await ask()).status, { timeout: 5000, interval: 100 }).toBe(200)
  })

  test('slides: what came late in a window still counts in the next', async () => {
    const ask = async () => (await get('/providers', { key: keys.brief })).status
    vi.useFakeTimers({ toFake: ['Date'] })
    try {
      const start = Date.now() + 60_000
      const asked: [number, number][] = [
        [0, 200],
        [950, 200],
        [1050, 200],
        [1100, 429],
        [1940, 429],
        [1980, 200],
      ]
      for (const [ms, status] of asked) {
        vi.setSystemTime(start + ms)
        expect([ms, await ask()]).toEqual([ms, status])
      }
    } finally {
      vi.useRealTimers()
    }
  })

  test('is nobody’s who has none', async () => {
    for (let n = 0; n < 30; n++) {
      const answer = await get('/providers')
      expect([answer.status, ...limits(answer)]).toEqual([200, null, null])
    }
  })
})

test('every answer carries the headers that keep browsers from doing harm', async () => {
  for (const path of [
    '/providers',
    '/audit?nonsense=1',
    '/nowhere',
    '/health/live',
    '/problems/forbidden',
    '/docs',
  ]) {
    const { headers } = await call('GET', path)
    expect(headers.get('x-content-type-options')).toBe('nosniff')
    expect(headers.get('content-security-policy')).toContain("default-src 'none'")
    expect(headers.get('content-security-policy')).toContain("frame-ancestors 'none'")
    expect(headers.get('content-security-policy')).not.toMatch(/script-src[^;]*unsafe/)
    expect(headers.get('cross-origin-resource-policy')).toBe('same-origin')
    expect(headers.get('referrer-policy')).toBe('no-referrer')
    expect(headers.get('cache-control')).toBe('no-store, no-transform')
    for (const banner of ['server', 'x-powered-by', 'access-control-allow-origin']) {
      expect(headers.get(banner)).toBeNull()
    }
  }
  const preflight = await call('OPTIONS', '/providers', undefined, {
    headers: { origin: 'https://elsewhere.example', 'access-control-request-method': 'PUT' },
  })
  expect(preflight.status).toBe(405)
  expect(preflight.headers.get('access-control-allow-origin')).toBeNull()
})

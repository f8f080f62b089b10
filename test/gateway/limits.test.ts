import { runtime, useGateway } from '#gateway'
import { beforeAll, describe, expect, inject, test } from 'vitest'
import { limits } from '../harness/configuration.ts'
import { eventsOf, freshId, mintDiscue, providers, put } from '../harness/gateway-calls.ts'
import { controlOf, type Control } from '../harness/sandbox-calls.ts'

useGateway()

let provider: Control
beforeAll(() => {
  provider = controlOf(inject('limited')[runtime])
})

async function mintRole(): Promise<string> {
  const key = freshId()
  await provider.mint('roles', key, { attributes: { name: 'Before' } })
  return key
}

/** What the provider saw of a resource's writes: the status of each answer. */
async function writesOf(...keys: string[]): Promise<number[]> {
  const seen = await provider.requests()
  const own = seen.filter(({ method, path }) => method === 'PATCH' && keys.some((key) => path.includes(key)))
  return own.map(({ status }) => status)
}

test('what does not fit into its deadline is refused at once, with the time after which it would', async () => {
  const keys = [await mintDiscue(), await mintDiscue(), await mintDiscue()]
  const [first, second, third] = keys.map((key) => `discue-tight:${key}`)
  const change = (id?: string) => put(`/credentials/${id}`, { name: `${id}.example` })
  for (const id of [first, second]) expect((await change(id)).status).toBe(200)
  const reply = await change(third)
  expect([reply.status, reply.body.type, reply.body.outcome]).toEqual([
    503,
    '/problems/upstream-rate-limited',
    'not_sent',
  ])
  const seconds = Number(reply.headers.get('retry-after'))
  expect(seconds).toBeGreaterThan(30)
  expect(seconds).toBeLessThanOrEqual(61)
  const seen = await providers().discue.requests()
  expect(seen.filter(({ path }) => keys.some((key) => path.includes(key)))).toHaveLength(2)
  const events = await eventsOf(String(third))
  expect(events.map(({ type, outcome }) => [type, outcome])).toEqual([
    ['intent', null],
    ['outcome', 'not_sent'],
  ])
})

test('twice what the provider lets through at once: everything is done, and nothing is refused', async () => {
  const atOnce = 2 * (limits.writes[0]?.requests ?? 0)
  const keys = await Promise.all(Array.from({ length: atOnce }, mintRole))
  const replies = await Promise.all(keys.map((key) => put(`/roles/cl-limited:${key}`, { name: 'After' })))
  expect(replies.map(({ status }) => status)).toEqual(Array(atOnce).fill(200))
  expect(await writesOf(...keys)).toEqual(Array(atOnce).fill(200))
})

describe('a 429 all the same, as strangers at the same address cause it', () => {
  test('holds back the others of its connection as well, for as long as it says', async () => {
    const { discue } = providers()
    const keys = [await mintDiscue(), await mintDiscue()]
    const [spent, other] = keys
    await discue.fault({ status: 429, retryAfter: '30' }, { match: { method: 'PUT', path: String(spent) } })
    for (const key of keys) {
      const reply = await put(`/credentials/discue-spent:${key}`, { name: `example.com/${key}` })
      expect([reply.status, reply.body.type]).toEqual([503, '/problems/upstream-rate-limited'])
      const seconds = Number(reply.headers.get('retry-after'))
      expect(seconds).toBeGreaterThan(15)
      expect(seconds).toBeLessThanOrEqual(30)
    }
    const seen = (await discue.requests()).map(({ path }) => path)
    expect(seen.filter((path) => path.includes(spent))).toHaveLength(1)
    expect(seen.filter((path) => path.includes(other))).toHaveLength(0)
    // On another connection it would be.
    const reply = await put(`/credentials/discue:${other}`, { name: `example.com/${other}` })
    expect(reply.status).toBe(200)
  })
})

import { useGateway } from '#gateway'
import { afterEach, expect, test, vi } from 'vitest'
import { call, eventsOf, mintDiscue, providers, put } from '../harness/gateway-calls.ts'

useGateway()

afterEach(() => void vi.useRealTimers())

test.each(['1970-01-01T00:00:10Z', '2300-01-01T00:00:00Z'])(
  'while the clock says %s nothing is changed, and it is not ready; once it is right everything goes on',
  async (time) => {
    const key = await mintDiscue()
    const change = (name: string) => put(`/credentials/discue:${key}`, { name: `${name}.${key}` })
    expect((await change('before')).status).toBe(200)
    vi.useFakeTimers({ toFake: ['Date'] })
    vi.setSystemTime(Date.parse(time))
    const refused = await change('meanwhile')
    expect([refused.status, refused.body.type]).toEqual([503, '/problems/audit-unavailable'])
    await expect.poll(async () => (await call('GET', '/health/ready')).status, { timeout: 10_000 }).toBe(503)
    const ready = await call('GET', '/health/ready')
    expect(ready.body.reasons.join()).toContain(`the clock says ${time.slice(0, 10)}`)
    vi.useRealTimers()
    expect((await change('after')).status).toBe(200)
    await expect.poll(async () => (await call('GET', '/health/ready')).status, { timeout: 10_000 }).toBe(200)
    expect((await eventsOf(`discue:${key}`)).map(({ type }) => type)).toEqual([
      'intent',
      'outcome',
      'intent',
      'outcome',
    ])
    const sent = (await providers().discue.requests()).filter(
      ({ method, path }) => method === 'PUT' && path.includes(key),
    )
    expect(sent).toHaveLength(2)
  },
)

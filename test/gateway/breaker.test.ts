import { setTimeout as pause } from 'node:timers/promises'
import { useGateway } from '#gateway'
import { expect, test } from 'vitest'
import { eventsOf, mintDiscue, providers, put } from '../harness/gateway-calls.ts'

useGateway()

test('a provider that is down is asked seldom, and soon after it is up again everything goes', async () => {
  const { discue } = providers()
  const key = await mintDiscue()
  const id = `discue-failing:${key}`
  const change = (name: string) => put(`/credentials/${id}`, { name: `${name}.${key}` })
  const seen = async () => (await discue.requests()).filter(({ path }) => path.includes(key)).length
  await discue.fault({ status: 500 }, { match: { method: 'PUT', path: key }, times: null })

  // Each of them may have been applied: it is never told otherwise.
  for (let n = 0; n < 5; n++) expect((await change('down')).body.outcome).toBe('unknown')
  expect(await seen()).toBe(10)

  // Where the test itself is slow, it is a trial that is made instead, and the next pause is longer.
  let refused = await change('refused')
  for (let n = 0; n < 10 && refused.body.outcome === 'unknown'; n++) refused = await change('refused')
  const before = await seen()
  expect([refused.status, refused.body.type, refused.body.outcome]).toEqual([
    503,
    '/problems/upstream-unavailable',
    'not_sent',
  ])
  expect(refused.headers.get('retry-after')).toMatch(/^[1-5]$/)
  const events = await eventsOf(id)
  expect(events.at(-1)).toMatchObject({ type: 'outcome', outcome: 'not_sent', upstream: { attempts: 1 } })

  // The other connections to the same provider are not concerned.
  const other = await mintDiscue()
  expect((await put(`/credentials/discue:${other}`, { name: `other.${other}` })).status).toBe(200)

  await discue.send('DELETE', '/faults')
  let reply = await change('up')
  for (let n = 0; n < 100 && reply.status !== 200; n++) {
    expect(reply.body.outcome).toBe('not_sent')
    await pause(100)
    reply = await change('up')
  }
  expect(reply.status).toBe(200)
  expect((await change('further')).status).toBe(200)
  expect(await seen()).toBe(before + 2)
})

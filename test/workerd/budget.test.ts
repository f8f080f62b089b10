import { abortAllDurableObjects } from 'cloudflare:test'
import { expect, test } from 'vitest'
import { mintDiscue, put } from '../harness/gateway-calls.ts'

const change = async () => {
  const key = await mintDiscue()
  return put(`/credentials/discue-tight:${key}`, { name: `example.com/${key}` })
}

test('an object that is made anew knows what the one before it has sent', async () => {
  for (let n = 0; n < 2; n++) expect((await change()).status).toBe(200)
  await abortAllDurableObjects()
  const reply = await change()
  expect([reply.status, reply.body.type]).toEqual([503, '/problems/upstream-rate-limited'])
  expect(Number(reply.headers.get('retry-after'))).toBeGreaterThan(30)
})

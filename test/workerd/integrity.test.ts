import { useGateway } from '#gateway'
import { abortAllDurableObjects, runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import { TRIGGERS } from '../../src/ledger/integrity.ts'
import { eventsOf, get, mintDiscue, providers, put } from '../harness/gateway-calls.ts'

useGateway()

const within = (connection: string, statements: string[]) =>
  runInDurableObject(env.CONNECTIONS.getByName(connection), (_, { storage: { sql } }) => {
    for (const statement of statements) sql.exec(statement)
  })
const drops = Object.keys(TRIGGERS).map((name) => `DROP TRIGGER ${name}`)

test('an object whose audit was tampered with changes nothing; others go on', async () => {
  const [one, other] = [await mintDiscue(), await mintDiscue()]
  expect((await put(`/credentials/discue-short:${one}`, { name: `a.${one}` })).status).toBe(200)
  const last = '(SELECT max(position) FROM audit)'
  await within('discue-short', [...drops, `UPDATE audit SET reason = 'forged' WHERE position = ${last}`])
  await abortAllDurableObjects()
  const refused = await put(`/credentials/discue-short:${one}`, { name: `b.${one}` })
  expect([refused.status, refused.body.type]).toEqual([503, '/problems/audit-unavailable'])
  expect((await put(`/credentials/discue:${other}`, { name: `a.${other}` })).status).toBe(200)
  const sent = (await providers().discue.requests()).filter(
    ({ method, path }) => method === 'PUT' && path.includes(one),
  )
  expect(sent).toHaveLength(1)
})

test('an object whose audit is not append-only any more makes it so, and says so', async () => {
  const key = await mintDiscue()
  expect((await put(`/credentials/discue-tight:${key}`, { name: `a.${key}` })).status).toBe(200)
  await within('discue-tight', drops)
  await abortAllDurableObjects()
  expect((await put(`/credentials/discue-tight:${key}`, { name: `b.${key}` })).status).toBe(200)
  await expect(within('discue-tight', ["UPDATE audit SET reason = 'forged'"])).rejects.toThrow('append-only')
  const { body } = await get('/audit?connection=discue-tight&type=repaired')
  expect(body.data).toHaveLength(1)
  expect(body.data[0].reason).toContain('audit_no_update')
  expect(await eventsOf(`discue-tight:${key}`)).toHaveLength(4)
})

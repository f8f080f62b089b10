import { useGateway } from '#gateway'
import { describe, expect, test } from 'vitest'
import { eventsOf, get, mintCommerceLayer, providers, put } from '../harness/gateway-calls.ts'
import type { Json } from '../harness/sandbox-calls.ts'

useGateway()

const roleWith = async (characters: number): Promise<string> =>
  `commerce-layer:${await mintCommerceLayer('roles', { metadata: { note: 'x'.repeat(characters) } })}`

const writes = async (id: string): Promise<Json[]> =>
  (await providers().commerceLayer.ledger()).filter(({ path }) => path.endsWith(id.split(':')[1] ?? ''))

describe('a resource', () => {
  test('that is too large to be recorded with its change is read, and not changed', async () => {
    const id = await roleWith(300_000)
    expect((await get(`/roles/${id}`)).body.metadata.note).toHaveLength(300_000)
    const refused = await put(`/roles/${id}`, { metadata: { more: 1 } })
    expect([refused.status, refused.body.type, refused.body.retryable]).toEqual([
      422,
      '/problems/resource-too-large',
      false,
    ])
    expect(await eventsOf(id)).toEqual([])
    expect(await writes(id)).toEqual([])
    expect((await put(`/roles/${id}`, { name: 'New' })).status).toBe(200)
  })

  test('that is too large to be read is not changed either', async () => {
    const id = await roleWith(1 << 20)
    for (const refused of [await get(`/roles/${id}`), await put(`/roles/${id}`, { name: 'New' })]) {
      expect([refused.status, refused.body.type]).toEqual([502, '/problems/upstream-failed'])
    }
    expect(await writes(id)).toEqual([])
  })
})

test('a page of large events ends before its limit, and the next one goes on', async () => {
  const id = await roleWith(150_000)
  for (let n = 0; n < 16; n++) expect((await put(`/roles/${id}`, { metadata: { n } })).status).toBe(200)
  const ids: string[] = []
  const pages: number[] = []
  for (let cursor = ''; ;) {
    const { status, body } = await get(`/audit?limit=1000&resource=${id}${cursor}`)
    expect(status).toBe(200)
    pages.push(body.data.length)
    ids.push(...body.data.map((event: Json) => event.id))
    expect(JSON.stringify(body).length).toBeLessThan(10 * 1024 * 1024)
    if (body.nextCursor === null) break
    cursor = `&cursor=${body.nextCursor}`
  }
  expect(pages.length).toBeGreaterThan(1)
  expect(ids).toHaveLength(32)
  expect(ids).toEqual([...new Set(ids)].toSorted().toReversed())
})

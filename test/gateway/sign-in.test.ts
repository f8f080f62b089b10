import { useGateway } from '#gateway'
import { describe, expect, test } from 'vitest'
import {
  freshId,
  get,
  mintApinizer,
  mintCommerceLayer,
  mintDiscue,
  providers,
  put,
} from '../harness/gateway-calls.ts'
import type { Json } from '../harness/sandbox-calls.ts'

useGateway()

describe('a 401 to a token that was there before the request', () => {
  const { commerceLayer } = providers()

  test.each(['INVALID_TOKEN', 'UNAUTHORIZED'])('%s is worth another token, once', async (code) => {
    const key = await mintCommerceLayer('roles')
    const path = `/roles/commerce-layer:${key}`
    expect((await get(path)).status).toBe(200)
    for (const method of ['GET', 'PATCH']) {
      await commerceLayer.fault({ status: 401, code }, { match: { method, path: key } })
      const reply = await put(path, { name: `After ${method} ${freshId()}` })
      expect({ method, status: reply.status }).toEqual({ method, status: 200 })
    }
  })

  test('that goes on is told as what it is, and the account’s other resources go on', async () => {
    const [key, other] = [await mintCommerceLayer('roles'), await mintCommerceLayer('roles')]
    await commerceLayer.fault({ status: 401, code: 'UNAUTHORIZED' }, { match: { path: key }, times: null })
    const before = (await commerceLayer.requests()).filter(({ path }: Json) => path.includes(key)).length
    for (let n = 0; n < 20; n++) {
      const refused = await put(`/roles/commerce-layer:${key}`, { name: 'Refused' })
      expect([refused.status, refused.body.type]).toEqual([502, '/problems/upstream-unauthorized'])
      const taken = await put(`/roles/commerce-layer:${other}`, { name: `Taken ${n}` })
      expect(taken.status).toBe(200)
    }
    const asked =
      (await commerceLayer.requests()).filter(({ path }: Json) => path.includes(key)).length - before
    // One each, and a second one where a token had been there long enough to be suspected.
    expect(asked).toBeGreaterThanOrEqual(20)
    expect(asked).toBeLessThan(40)
  })
})

describe('an answer that is coded though nobody asked for it', () => {
  const subjects: [
    string,
    () => Promise<[string, object, string, ReturnType<typeof providers>['apinizer']]>,
  ][] = [
    [
      'Commerce Layer',
      async () => {
        const key = await mintCommerceLayer('roles')
        return [`/roles/commerce-layer:${key}`, { name: 'Coded' }, key, providers().commerceLayer]
      },
    ],
    [
      'Apinizer',
      async () => {
        const { id, project } = await mintApinizer()
        return [`/credentials/${id}`, { secret: 's', name: 'Coded' }, project, providers().apinizer]
      },
    ],
    [
      'Discue',
      async () => {
        const key = await mintDiscue()
        return [`/credentials/discue:${key}`, { name: `coded.${key}` }, key, providers().discue]
      },
    ],
  ]

  test.each(
    ['gzip', 'br', 'deflate'].flatMap((coding) => subjects.map(([name, mint]) => ({ coding, name, mint }))),
  )('with $coding by $name is understood', async ({ coding, mint }) => {
    const [path, body, key, control] = await mint()
    await control.fault({ coding }, { match: { path: key }, times: null })
    const reply = await put(path, body)
    expect([reply.status, reply.body.outcome]).toEqual([200, 'applied'])
    expect((await get(path)).status).toBe(200)
  })

  test.each(subjects)('with what nobody knows, by %s, proves nothing', async (name, mint) => {
    const [path, body, key, control] = await mint()
    const { id } = await control.fault(
      { coding: 'unknown' },
      { match: { method: 'GET', path: key }, times: null },
    )
    if (name !== 'Discue') expect((await put(path, body)).body.type).toBe('/problems/upstream-failed')
    await control.send('DELETE', `/faults/${id}`)
    const method = name === 'Commerce Layer' ? 'PATCH' : 'PUT'
    await control.fault({ coding: 'unknown' }, { match: { method, path: key }, times: null })
    const reply = await put(path, body)
    expect([200, 504]).toContain(reply.status)
  })

  test('is bounded by what comes out of it', async () => {
    const key = await mintCommerceLayer('roles')
    await providers().commerceLayer.fault(
      { coding: 'gzip', oversize: 100 << 20 },
      { match: { method: 'GET', path: key }, times: null },
    )
    const reply = await get(`/roles/commerce-layer:${key}`)
    expect([reply.status, reply.body.type]).toEqual([502, '/problems/upstream-failed'])
  })
})

import { useGateway } from '#gateway'
import { describe, expect, test } from 'vitest'
import { keys } from '../harness/configuration.ts'
import {
  type Answer,
  freshId,
  get,
  mintApinizer,
  mintCommerceLayer,
  providers,
  put,
} from '../harness/gateway-calls.ts'

// Whoever may only read, or only plan, never keeps anybody from changing something.

useGateway()

const looking = [
  ['reads', (path: string) => get(path, { key: keys.viewer })],
  ['plans', (path: string) => put(`${path}?dryRun=true`, { name: 'Plan' }, { key: keys.planner })],
] as const

const problem = ({ status, body }: Answer) => [status, body.type]

describe.each(looking)('%s', (_, look) => {
  test('that fail stop no change, and are stopped themselves', async () => {
    const [broken, whole] = [await mintCommerceLayer('roles'), await mintCommerceLayer('roles')]
    const { commerceLayer } = providers()
    const { id } = await commerceLayer.fault(
      { status: 500 },
      { match: { method: 'GET', path: broken }, times: null },
    )
    await Promise.all(Array.from({ length: 5 }, () => look(`/roles/cl-spent:${broken}`)))
    expect(problem(await look(`/roles/cl-spent:${whole}`))).toEqual([503, '/problems/upstream-unavailable'])
    const changed = await put(`/roles/cl-spent:${whole}`, { name: `New ${freshId()}` })
    expect([changed.status, changed.body.changed]).toEqual([200, true])
    await commerceLayer.send('DELETE', `/faults/${id}`)
    // The breaker of those who look lets one through again in its time.
    await expect
      .poll(async () => (await look(`/roles/cl-spent:${whole}`)).status, { timeout: 10_000, interval: 250 })
      .toBe(200)
  })

  test('that are slow leave slots for changes', async () => {
    const [slow, other] = [await mintCommerceLayer('roles'), await mintCommerceLayer('roles')]
    const { commerceLayer } = providers()
    const { id } = await commerceLayer.fault(
      { delayBeforeMs: 8000 },
      { match: { method: 'GET', path: slow }, times: null },
    )
    let answered = 0
    const slowly = Array.from({ length: 100 }, async () => {
      await look(`/roles/commerce-layer:${slow}`)
      answered += 1
    })
    const seen = async () => (await commerceLayer.requests()).filter(({ path }) => path.includes(slow)).length
    // As many as there is room for are under way, and the rest wait.
    await expect.poll(seen, { timeout: 10_000 }).toBeGreaterThanOrEqual(4)
    const changed = await put(`/roles/commerce-layer:${other}`, { name: `New ${freshId()}` })
    expect([changed.status, answered]).toEqual([200, 0])
    await commerceLayer.send('DELETE', `/faults/${id}`)
    await Promise.all(slowly)
  })
})

test('reads that spend their budget leave some for changes', async () => {
  const made = await Promise.all([mintApinizer(), mintApinizer()])
  const [looked, changing] = made.map(({ project, username }) => `apinizer-tight:${project}:${username}`)
  const reads = await Promise.all(
    Array.from({ length: 20 }, () => get(`/credentials/${looked}`, { key: keys.viewer })),
  )
  const refused = reads.filter(({ status }) => status !== 200)
  expect(refused).toHaveLength(14)
  for (const one of refused) expect(problem(one)).toEqual([503, '/problems/upstream-rate-limited'])
  const body = { name: `New ${freshId()}`, secret: 'new' }
  expect((await put(`/credentials/${changing}`, body)).status).toBe(200)
})

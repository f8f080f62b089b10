import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Sandbox, startSandbox } from '../../sandbox/server.ts'
import { at, configuration, keys } from '../harness/configuration.ts'
import { startTestGateway } from '../harness/gateway.node.ts'
import { type Control, controlOf, type Json } from '../harness/sandbox-calls.ts'

let sandbox: Sandbox
let provider: Control
beforeAll(async () => {
  sandbox = await startSandbox({ limits: 'off' })
  provider = controlOf(sandbox.urls.commerceLayer)
})
afterAll(() => sandbox.close())

let minted = 0
async function mintRole(): Promise<string> {
  const key = `discipline${(minted += 1)}`
  await provider.mint('roles', key, { attributes: { name: 'Before' } })
  return key
}

async function rename(url: string, id: string): Promise<{ status: number; body: Json; retryAfter: number }> {
  const response = await fetch(`${url}/roles/${id}`, {
    method: 'PUT',
    headers: { 'x-api-key': keys.admin, 'content-type': 'application/json' },
    body: JSON.stringify({ name: 'After' }),
  })
  const retryAfter = Number(response.headers.get('retry-after'))
  return { status: response.status, body: await response.json(), retryAfter }
}

/** The test configuration with one connection's limits, on a host that no other connection leads to. */
function withLimits(more: Record<string, object>): object {
  const { connections, ...rest } = configuration(sandbox.urls) as Json
  const { limits: _, ...plain } = connections['commerce-layer']
  const baseUrl = plain.baseUrl.replace('127.0.0.1', 'localhost')
  const made = Object.entries(more).map(([name, limits]) => [
    name,
    { ...at(name, { ...plain, baseUrl }), limits },
  ])
  const { 'cl-spent': __, ...others } = connections
  return { ...rest, connections: { ...others, ...Object.fromEntries(made) } }
}

test('200 changes at once on a token that has expired: one token is asked for, and none fails', async () => {
  const gateway = await startTestGateway(configuration(sandbox.urls))
  try {
    const ids: string[] = []
    for (let n = 0; n < 200; n++) ids.push(`commerce-layer:${await mintRole()}`)
    expect((await rename(gateway.url, `commerce-layer:${await mintRole()}`)).status).toBe(200)
    const tokens = async () =>
      (await provider.requests()).filter(({ path }) => path === '/oauth/token').length
    const before = await tokens()
    await provider.send('POST', '/tokens/expire')
    const replies = await Promise.all(ids.map((id) => rename(gateway.url, id)))
    expect(replies.map(({ status }) => status)).toEqual(Array(200).fill(200))
    expect((await tokens()) - before).toBe(1)
  } finally {
    await gateway.close()
  }
})

test('connections to one host share what it lets through, also after a restart', async () => {
  const tight = { writes: [{ requests: 3, seconds: 60 }], tokens: [] }
  const document = withLimits({ one: tight, other: tight })
  const folder = mkdtempSync(join(tmpdir(), 'discipline-'))
  const database = join(folder, 'gateway.db')
  const first = await startTestGateway(document, { database })
  const changes = ['one', 'other', 'one'].map(async (name) =>
    rename(first.url, `${name}:${await mintRole()}`),
  )
  for (const change of changes) expect((await change).status).toBe(200)
  const refused = await rename(first.url, `other:${await mintRole()}`)
  expect([refused.status, refused.body.type]).toEqual([503, '/problems/upstream-rate-limited'])
  await first.close()
  const second = await startTestGateway(document, { database })
  try {
    const again = await rename(second.url, `other:${await mintRole()}`)
    expect([again.status, again.body.outcome]).toEqual([503, 'not_sent'])
    expect(again.retryAfter).toBeGreaterThan(30)
    expect(again.retryAfter).toBeLessThanOrEqual(61)
  } finally {
    await second.close()
    rmSync(folder, { recursive: true, force: true })
  }
})

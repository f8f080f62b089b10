import { gatewayFetch } from '#gateway'
import { abortAllDurableObjects, runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { afterEach, describe, expect, test, vi } from 'vitest'
import migrations from '../../migrations/migrations.js'
import worker from '../../src/worker.ts'
import { keys } from '../configuration.ts'
import { eventsOf, get, mintCommerceLayer, mintDiscue, providers, put } from '../gateway-calls.ts'

afterEach(() => vi.restoreAllMocks())

const variables = env as unknown as Record<string, string>
const config = variables['GATEWAY_CONFIG'] ?? ''

/** One request to the Worker in another environment. Its objects keep the environment of wrangler.toml. */
const fetchWith = (changed: Record<string, unknown>, path: string, init?: RequestInit): Promise<Response> =>
  worker.fetch(new Request(new URL(path, 'https://gateway.example'), init), { ...env, ...changed })

describe('an environment at fault', () => {
  const secret = 'a-secret-that-nobody-may-see'
  test.each<[string, Record<string, unknown>, string[]]>([
    ['no configuration', { GATEWAY_CONFIG: undefined }, ['GATEWAY_CONFIG']],
    ['a configuration that is no JSON', { GATEWAY_CONFIG: `{"${secret}` }, ['#: is not JSON']],
    [
      'a configuration that is a table of wrangler.toml',
      { GATEWAY_CONFIG: { connections: {} } },
      ['GATEWAY_CONFIG'],
    ],
    ['a secret that is not set', { APINIZER_TOKEN: undefined }, ['names APINIZER_TOKEN, which is not set']],
    ['a bad audit key and a bad level', { AUDIT_KEY: secret, LOG_LEVEL: secret }, ['AUDIT_KEY', 'LOG_LEVEL']],
  ])('%s: nothing is served but health, and only the log says why', async (_, changed, faults) => {
    const log = vi.spyOn(console, 'log').mockImplementation(() => {})
    const seen: string[] = []
    for (const path of ['/credentials/discue:abc', '/providers', '/openapi.json', '/nowhere']) {
      const response = await fetchWith(changed, path, { headers: { 'x-api-key': keys.admin } })
      expect(response.status).toBe(503)
      expect(response.headers.get('content-type')).toBe('application/problem+json')
      expect(response.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/)
      const text = await response.text()
      expect(JSON.parse(text).type).toBe('/problems/not-ready')
      seen.push(text)
    }
    expect((await fetchWith(changed, '/health/live')).status).toBe(200)
    const ready = await fetchWith(changed, '/health/ready')
    expect(ready.status).toBe(503)
    seen.push(await ready.text())
    const logged = log.mock.calls.join('\n')
    for (const fault of faults) {
      expect(logged).toContain(fault)
      expect(seen.join()).not.toContain(fault)
    }
    expect(logged + seen.join()).not.toContain(secret)
  })
})

test('a configuration may go on in further variables', async () => {
  const [first, second] = [config.slice(0, 4000), config.slice(4000)]
  const split = {
    GATEWAY_CONFIG: first,
    GATEWAY_CONFIG_2: second.slice(0, 10),
    GATEWAY_CONFIG_3: second.slice(10),
  }
  const init = { headers: { 'x-api-key': keys.admin } }
  const whole = await (await gatewayFetch('/connections', init)).json()
  expect(await (await fetchWith(split, '/connections', init)).json()).toEqual(whole)
})

describe('an object', () => {
  const stored = (name: string, query: string) =>
    runInDurableObject(env.CONNECTIONS.getByName(name), (_, { storage }) => storage.sql.exec(query).toArray())

  test('is migrated once, however many ask first', async () => {
    const replies = await Promise.all(Array.from({ length: 50 }, () => get('/audit?connection=cl-careful')))
    expect(new Set(replies.map(({ status }) => status))).toEqual(new Set([200]))
    const { length } = migrations.journal.entries
    expect(await stored('cl-careful', 'SELECT 1 FROM __drizzle_migrations')).toHaveLength(length)
    await abortAllDurableObjects()
    expect((await get('/audit?connection=cl-careful')).status).toBe(200)
    expect(await stored('cl-careful', 'SELECT 1 FROM __drizzle_migrations')).toHaveLength(length)
  })

  test('takes no change of what is in its audit', async () => {
    const key = await mintDiscue()
    expect((await put(`/credentials/discue:${key}`, { name: `a.${key}` })).status).toBe(200)
    for (const query of [
      "UPDATE audit SET actor = 'nobody'",
      'DELETE FROM audit',
      'INSERT OR REPLACE INTO audit SELECT * FROM audit WHERE seq = 1',
    ]) {
      await expect(stored('discue', query), query).rejects.toThrow('append-only')
    }
  })

  test('that is lost in the middle of a change leaves an unknown one, and its successor settles it', async () => {
    const key = await mintCommerceLayer('roles', { name: 'Before' })
    const { commerceLayer } = providers()
    await commerceLayer.fault({ delayAfterMs: 2000 }, { match: { method: 'PATCH', path: key } })
    const reply = put(`/roles/commerce-layer:${key}`, { name: 'After' })
    const applied = async () => (await commerceLayer.state('roles', key)).attributes.name
    await expect.poll(applied).toBe('After')
    await abortAllDurableObjects()
    const { status, body } = await reply
    expect([status, body.type, body.outcome]).toEqual([504, '/problems/outcome-unknown', 'unknown'])
    const told = async () =>
      (await eventsOf(`commerce-layer:${key}`)).map(({ type, outcome }) => [type, outcome])
    await expect.poll(told).toEqual([
      ['intent', null],
      ['settled', 'applied'],
    ])
  })

  test('that does not answer fails the whole audit instead of leaving a gap', async () => {
    await stored('cl-hiding', 'DROP TABLE audit')
    expect((await get('/audit')).status).toBe(500)
    expect((await get('/audit?connection=discue')).status).toBe(200)
  })

  test('whose audit was written with another key takes no change', async () => {
    const path = `/credentials/discue-short:${await mintDiscue()}`
    expect((await put(path, { name: 'a.b' })).status).toBe(200)
    expect((await gatewayFetch('/health/ready')).status).toBe(200)
    for (const name of ['discue-short', '_gateway']) {
      await stored(name, "UPDATE audit_keys SET check_value = 'another'")
    }
    await abortAllDurableObjects()
    const reply = await put(path, { name: 'a.c' })
    expect([reply.status, reply.body.type]).toEqual([503, '/problems/not-ready'])
    expect((await get('/audit?connection=discue-short')).body.data).toHaveLength(2)
    const ready = await gatewayFetch('/health/ready')
    expect(ready.status).toBe(503)
    expect(await ready.json()).toMatchObject({ reasons: [expect.stringContaining('AUDIT_KEY')] })
  })
})

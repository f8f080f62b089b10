import { abortAllDurableObjects, runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { describe, expect, test } from 'vitest'
import { keys } from '../harness/configuration.ts'
import { call, mintCommerceLayer, mintDiscue, providers, put } from '../harness/gateway-calls.ts'

/** How far ahead an alarm is set, and how long a provider takes that a test does not wait for. Milliseconds. */
const RECOVER_EVERY = 5000
const SLOW = 2000

// Every test has a connection of its own, so that no alarm but its own is seen.
const objectOf = (connection: string) => env.CONNECTIONS.getByName(connection)
const fire = (connection: string) => runDurableObjectAlarm(objectOf(connection))
const alarmOf = (connection: string) =>
  runInDurableObject(objectOf(connection), (_, { storage }) => storage.getAlarm())

/** The story of the only resource of a connection, out of its storage: a request to the gateway might settle it. */
const storyOf = (connection: string) =>
  runInDurableObject(objectOf(connection), (_, { storage }) =>
    storage.sql
      .exec('SELECT type, outcome FROM audit ORDER BY seq')
      .toArray()
      .map(({ type, outcome }) => [type, outcome]),
  )

const INTENT = ['intent', null]

/** A change of a role whose provider applies it at once and answers late; it resolves when it is applied. */
async function slowChange(connection: string) {
  const { commerceLayer } = providers()
  const key = await mintCommerceLayer('roles', { name: 'Before' })
  await commerceLayer.fault({ delayAfterMs: SLOW }, { match: { method: 'PATCH', path: key } })
  const reply = put(`/roles/${connection}:${key}`, { name: 'After' }, { headers: { 'if-match': '*' } })
  const name = async () => (await commerceLayer.state('roles', key)).attributes.name
  await expect.poll(name).toBe('After')
  return { key, reply }
}

describe('an alarm', () => {
  test('is set before the provider is called', async () => {
    const { discue } = providers()
    const key = await mintDiscue()
    expect(await alarmOf('discue')).toBeNull()
    await discue.fault({ delayBeforeMs: SLOW }, { match: { method: 'PUT', path: key } })
    const from = Date.now()
    const reply = put(`/credentials/discue:${key}`, { name: `a.${key}` })
    await expect.poll(async () => (await discue.requests()).some(({ path }) => path.includes(key))).toBe(true)
    const alarm = await alarmOf('discue')
    expect(await storyOf('discue')).toEqual([INTENT])
    expect(alarm).toBeGreaterThanOrEqual(from)
    expect(alarm).toBeLessThanOrEqual(Date.now() + RECOVER_EVERY)
    expect((await reply).status).toBe(200)
  })

  test('settles what an instance left behind that was lost, without a request', async () => {
    const { reply } = await slowChange('commerce-layer')
    await abortAllDurableObjects()
    expect((await reply).body.outcome).toBe('unknown')
    expect(await fire('commerce-layer')).toBe(true)
    expect(await storyOf('commerce-layer')).toEqual([INTENT, ['settled', 'applied']])
    expect(await alarmOf('commerce-layer')).toBeNull()
  })

  test('wakes the object by itself', async () => {
    const { key, reply } = await slowChange('cl-careful')
    await abortAllDurableObjects()
    expect((await reply).body.outcome).toBe('unknown')
    // Nothing but the alarm makes another instance: all that this test looks at is what the provider is asked.
    const { commerceLayer } = providers()
    const asked = async () =>
      (await commerceLayer.requests()).filter(({ path }) => path.includes(key)).map(({ method }) => method)
    expect(await asked()).toEqual(['GET', 'PATCH'])
    await expect.poll(asked, { timeout: 20_000, interval: 250 }).toEqual(['GET', 'PATCH', 'GET'])
    await expect.poll(() => storyOf('cl-careful')).toEqual([INTENT, ['settled', 'applied']])
  })

  test('that fires while a change is alive leaves it alone, and comes again', async () => {
    const { reply } = await slowChange('cl-hiding')
    const first = await Promise.race([reply.then(() => 'reply'), fire('cl-hiding')])
    expect(first).toBe(true)
    expect(await storyOf('cl-hiding')).toEqual([INTENT])
    expect(await alarmOf('cl-hiding')).not.toBeNull()
    expect((await reply).status).toBe(200)
    expect(await storyOf('cl-hiding')).toEqual([INTENT, ['outcome', 'applied']])
  })

  test('is not renewed when nothing is open any more', async () => {
    const key = await mintDiscue()
    const path = `/credentials/discue-short:${key}`
    expect((await put(`${path}?dryRun=true`, { name: `a.${key}` })).status).toBe(200)
    expect(await alarmOf('discue-short')).toBeNull()
    expect((await put(path, { name: `a.${key}` })).status).toBe(200)
    expect(await fire('discue-short')).toBe(true)
    expect(await alarmOf('discue-short')).toBeNull()
  })

  test('is renewed as long as a change is unknown', async () => {
    const key = await mintDiscue()
    await providers().discue.fault({ reset: 'before' }, { match: { method: 'PUT', path: key }, times: 2 })
    const { body } = await put(`/credentials/discue-limited:${key}`, { name: `b.${key}` })
    expect(body.outcome).toBe('unknown')
    expect(await fire('discue-limited')).toBe(true)
    expect(await alarmOf('discue-limited')).not.toBeNull()
    const word = { outcome: 'applied', reason: 'seen in the console' }
    expect((await call('POST', `/changes/${body.changeId}/resolve`, word)).status).toBe(200)
    expect(await fire('discue-limited')).toBe(true)
    expect(await alarmOf('discue-limited')).toBeNull()
  })

  test('tells of refused attempts that were counted, and is set for no longer than there are any', async () => {
    const connection = 'apinizer-readonly'
    const told = () =>
      runInDurableObject(objectOf(connection), (_, { storage }) =>
        storage.sql
          .exec('SELECT refusal FROM audit ORDER BY seq')
          .toArray()
          .map(({ refusal }) => JSON.parse(String(refusal)).count),
      )
    const aMinuteLater = () =>
      runInDurableObject(objectOf(connection), (_, { storage }) => {
        storage.sql.exec('UPDATE refusals SET since = since - 60000')
      })
    for (let n = 0; n < 4; n++) {
      const reply = await put(`/credentials/${connection}:P:u${n}`, { name: 'x' }, { key: keys.reader })
      expect(reply.status).toBe(403)
    }
    expect(await told()).toEqual([1])
    const alarm = await alarmOf(connection)
    expect(alarm).toBeGreaterThan(Date.now() + 30_000)
    expect(alarm).toBeLessThanOrEqual(Date.now() + 60_000)
    await aMinuteLater()
    expect(await fire(connection)).toBe(true)
    expect(await told()).toEqual([1, 3])
    await aMinuteLater()
    expect(await fire(connection)).toBe(true)
    expect(await told()).toEqual([1, 3])
    expect(await alarmOf(connection)).toBeNull()
  })

  test('comes again while the configuration is at fault, and settles when it is repaired', async () => {
    const before = (await storyOf('cl-hiding')).length
    const since = async () => (await storyOf('cl-hiding')).slice(before)
    const { reply } = await slowChange('cl-hiding')
    const withKey = (value: string) =>
      runInDurableObject(objectOf('cl-hiding'), (_, { storage }) =>
        storage.sql.exec(`UPDATE audit_keys SET check_value = ${value}`).toArray(),
      )
    await withKey(`'not ' || check_value`)
    await abortAllDurableObjects()
    expect((await reply).body.outcome).toBe('unknown')
    await fire('cl-hiding')
    expect(await since()).toEqual([INTENT])
    expect(await alarmOf('cl-hiding')).not.toBeNull()
    await withKey('substr(check_value, 5)')
    await abortAllDurableObjects()
    expect(await fire('cl-hiding')).toBe(true)
    expect(await since()).toEqual([INTENT, ['settled', 'applied']])
  })
})

import { useGateway } from '#gateway'
import { describe, expect, test } from 'vitest'
import { keys } from '../harness/configuration.ts'
import {
  call,
  eventsOf,
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

/** A change of a Discue client that nobody knows the end of. */
async function unknownChange(): Promise<{ id: string; changeId: string; name: string }> {
  const key = await mintDiscue()
  const name = `a.${key}`
  await providers().discue.fault({ reset: 'before' }, { match: { method: 'PUT', path: key }, times: 2 })
  const reply = await put(`/credentials/discue:${key}`, { name })
  expect(reply.body.outcome).toBe('unknown')
  return { id: `discue:${key}`, changeId: reply.body.changeId, name }
}

const resolve = (changeId: string, body: unknown, key = keys.admin) =>
  call('POST', `/changes/${changeId}/resolve`, body, { key })

describe('a change', () => {
  test('tells its state and its events', async () => {
    const key = await mintCommerceLayer('roles')
    const reply = await put(`/roles/commerce-layer:${key}`, { name: 'Told' })
    const { body, status } = await get(`/changes/${reply.body.changeId}`)
    expect(status).toBe(200)
    expect(body).toMatchObject({
      id: reply.body.changeId,
      connection: 'commerce-layer',
      kind: 'role',
      resource: `commerce-layer:${key}`,
      actor: 'admin',
      state: 'applied',
    })
    expect(body.events.map(({ type }: Json) => type)).toEqual(['intent', 'outcome'])
    expect(body.since).toBe(body.events[1].at)
  })

  test('is in flight between its intent and its outcome', async () => {
    const key = await mintDiscue()
    await providers().discue.fault({ delayBeforeMs: 500 }, { match: { method: 'PUT', path: key } })
    const reply = put(`/credentials/discue:${key}`, { name: `a.${key}` })
    await expect
      .poll(async () => (await get(`/changes?resource=discue:${key}&outcome=in_flight`)).body.data.length)
      .toBe(1)
    expect((await reply).status).toBe(200)
    expect((await get(`/changes?resource=discue:${key}&outcome=applied`)).body.data).toHaveLength(1)
  })

  test('is seen by those who may read its resource, and hides what they may not', async () => {
    const name = `n${freshId()}`
    await providers().apinizer.mint('credential', `Narrow/${name}`, { email: 'hidden@example.com' })
    const id = `apinizer:Narrow:${name}`
    const reply = await put(`/credentials/${id}`, { secret: 's', email: 'shown@example.com', name: 'Seen' })
    const seen = await get(`/changes/${reply.body.changeId}`, { key: keys.narrow })
    expect(seen.body.events[0].fields).toMatchObject({
      name: { to: 'Seen' },
      email: { action: 'set', from: '[hidden]', to: '[hidden]' },
    })
    const { id: other } = await mintApinizer()
    const unseen = await put(`/credentials/${other}`, { secret: 's' })
    expect((await get(`/changes/${unseen.body.changeId}`, { key: keys.narrow })).status).toBe(404)
    const listed = (await get('/changes?limit=1000', { key: keys.narrow })).body.data
    expect(listed.map(({ resource }: Json) => resource)).toContain(id)
    for (const { resource } of listed) expect(resource).toMatch(/^apinizer:Narrow:/)
  })

  test('that is not there is 404', async () => {
    expect((await get('/changes/01979d3e-5b1a-7c3e-9f00-0123456789ab')).status).toBe(404)
    expect((await get('/changes/nonsense')).status).toBe(404)
  })
})

describe('a newer change', () => {
  test('supersedes an unsettled older one of the same resource only', async () => {
    const [one, two] = [await unknownChange(), await unknownChange()]
    expect((await put(`/credentials/${one.id}`, { name: `b.${freshId()}` })).status).toBe(200)
    expect((await get(`/changes/${one.changeId}`)).body.state).toBe('superseded')
    expect((await get(`/changes/${two.changeId}`)).body.state).toBe('unknown')
    const events = (await eventsOf(one.id)).filter(({ changeId }) => changeId === one.changeId)
    expect(events.at(-1)).toMatchObject({ type: 'settled', outcome: 'superseded' })
  })
})

describe('settling by hand', () => {
  test('needs no right to read, and shows nothing without it', async () => {
    const { changeId, name } = await unknownChange()
    const reply = await resolve(changeId, { outcome: 'applied', reason: 'called them' }, keys.resolver)
    expect([reply.status, reply.body.state]).toEqual([200, 'applied'])
    expect(JSON.stringify(reply.body)).not.toContain(name)
    expect((await get(`/changes/${changeId}`, { key: keys.resolver })).status).toBe(403)
  })

  test('takes a person’s word, with the reason and the person', async () => {
    const { changeId, id, name } = await unknownChange()
    const reply = await resolve(changeId, { outcome: 'applied', reason: 'seen in the console' })
    expect([reply.status, reply.body.state]).toEqual([200, 'applied'])
    expect(reply.body.events.at(-1)).toMatchObject({
      type: 'resolved',
      outcome: 'applied',
      reason: 'seen in the console',
      actor: { caller: 'admin' },
    })
    // What cannot be read shows what is now known to be in force.
    expect((await get(`/credentials/${id}`)).body.name).toBe(name)
    expect((await resolve(changeId, { outcome: 'applied', reason: 'again' })).status).toBe(200)
    const other = await resolve(changeId, { outcome: 'rejected', reason: 'no' })
    expect([other.status, other.body.type]).toEqual([409, '/problems/superseded'])
  })

  test('as rejected leaves what was there', async () => {
    const { changeId, id } = await unknownChange()
    expect((await resolve(changeId, { outcome: 'rejected', reason: 'not there' })).body.state).toBe(
      'rejected',
    )
    expect((await get(`/credentials/${id}`)).body).not.toHaveProperty('name')
  })

  test('is refused without a reason, without the right, and for what is settled', async () => {
    const { changeId } = await unknownChange()
    for (const body of [
      {},
      { outcome: 'applied' },
      { outcome: 'unknown', reason: 'x' },
      { outcome: 'applied', reason: '' },
      { outcome: 'applied', reason: 'a\0b' },
    ]) {
      expect((await resolve(changeId, body)).status).toBe(422)
    }
    const misplaced = await resolve(changeId, { outcome: 'applied', reason: 'x', 'hunter2 is a secret': 1 })
    expect(misplaced.body.errors).toEqual([
      { pointer: '#', code: 'unrecognized-keys', detail: 'has a member that is not known' },
    ])
    expect(JSON.stringify(misplaced.body)).not.toContain('hunter2')
    expect((await resolve(changeId, { outcome: 'applied', reason: 'x' }, keys.reader)).status).toBe(403)
    expect((await resolve(changeId, { outcome: 'applied', reason: 'x' }, keys.narrow)).status).toBe(404)
    expect((await get(`/changes/${changeId}`)).body.state).toBe('unknown')
    const key = await mintDiscue()
    const { body } = await put(`/credentials/discue:${key}`, { name: `a.${key}` })
    expect((await resolve(body.changeId, { outcome: 'rejected', reason: 'x' })).status).toBe(409)
  })
})

describe('an unknown change that turns out to be in force', () => {
  test('is settled by reading back, without being asked', async () => {
    const key = await mintCommerceLayer('roles', { name: 'Before' })
    const { commerceLayer } = providers()
    // The write lands long after the deadline, and so does every repeat.
    await commerceLayer.fault({ delayBeforeMs: 3000 }, { match: { method: 'PATCH', path: key }, times: 3 })
    const reply = await put(`/roles/cl-short:${key}`, { name: 'After' })
    expect(reply.body.outcome).toBe('unknown')
    const state = async () => (await get(`/changes/${reply.body.changeId}`)).body.state
    await expect.poll(state, { timeout: 20_000, interval: 250 }).toBe('applied')
    expect((await eventsOf(`cl-short:${key}`)).at(-1)).toMatchObject({
      type: 'settled',
      outcome: 'applied',
      actor: null,
    })
  })
})

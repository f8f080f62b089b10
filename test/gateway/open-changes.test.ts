import { useGateway } from '#gateway'
import { describe, expect, test } from 'vitest'
import {
  type Answer,
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

// A change that nobody knows the end of stays in sight until it is settled, whatever comes after it.

useGateway()

const problem = ({ status, body }: Answer) => [status, body.type]
const keyed = (key: string) => ({ headers: { 'idempotency-key': key } })
const stateOf = async (changeId: string): Promise<string> => (await get(`/changes/${changeId}`)).body.state
const resolve = (changeId: string, outcome: string) =>
  call('POST', `/changes/${changeId}/resolve`, { outcome, reason: 'looked it up' })
const openOnes = async (id: string): Promise<string[]> => {
  const states = ['in_flight', 'unknown', 'partial', 'needs_attention']
  const pages = await Promise.all(states.map((state) => get(`/changes?resource=${id}&outcome=${state}`)))
  return pages.flatMap(({ body }) => body.data.map((change: Json) => change.id))
}

/** A role, and changes of it that lose their answers. */
async function role(attributes: object = { name: 'Before', reference: 'before' }) {
  const key = await mintCommerceLayer('roles', attributes)
  const control = providers().commerceLayer
  const fault = (method: string, what: object, times = 1) =>
    control.fault(what, { match: { method, path: key }, times })
  const path = `/roles/commerce-layer:${key}`
  return {
    path,
    id: `commerce-layer:${key}`,
    fault,
    state: async () => (await control.state('roles', key)).attributes as Json,
    /** The answer is lost, before or after the change was applied, and so is the read that could settle it. */
    async loses(body: object, when: 'before' | 'after', idempotencyKey = freshId()) {
      await fault('PATCH', { reset: when })
      await fault('GET', {})
      await fault('GET', { status: 403 })
      const reply = await put(path, body, keyed(idempotencyKey))
      expect(reply.body.outcome).toBe('unknown')
      return { changeId: reply.body.changeId as string, again: () => put(path, body, keyed(idempotencyKey)) }
    },
  }
}

/** An Apinizer user; without an answer, nobody knows which password is in force. */
async function user() {
  const { id, project, state } = await mintApinizer()
  const control = providers().apinizer
  const path = `/credentials/${id}`
  const fault = (method: string, what: object, times = 1) =>
    control.fault(what, { match: { method, path: project }, times })
  return {
    path,
    id,
    state,
    fault,
    opens: async (password: string): Promise<boolean> =>
      (await control.send('POST', '/login', { project, username: `user-${project}`, password })).success,
    async loses(body: object, when: 'before' | 'after', key = freshId()) {
      await fault(Object.keys(body).length > 1 ? 'PUT' : 'PATCH', { reset: when }, 2)
      const reply = await put(path, body, keyed(key))
      expect(reply.body.outcome).toBe('unknown')
      return { changeId: reply.body.changeId as string, again: () => put(path, body, keyed(key)) }
    },
  }
}

describe('a change that did nothing hides no open one', () => {
  test('when the provider refuses it, and the older one can be settled by hand', async () => {
    const { path, id, loses, fault, opens } = await user()
    const { changeId } = await loses({ secret: 'password-a' }, 'after')
    await fault('PATCH', { status: 422 })
    expect((await put(path, { secret: 'password-b' })).body.outcome).toBe('rejected')
    expect(await opens('password-a')).toBe(true)
    expect(await openOnes(id)).toEqual([changeId])
    expect((await resolve(changeId, 'applied')).body.state).toBe('applied')
    expect(await openOnes(id)).toEqual([])
  })

  test('when it was never sent, and the older one goes on under its key', async () => {
    const { path, id, loses, fault, opens } = await user()
    const { changeId, again } = await loses({ secret: 'password-a' }, 'before')
    // What Cloudflare's edge answers when it does not reach the origin.
    await fault('PATCH', { status: 523 }, 3)
    expect((await put(path, { secret: 'password-b' })).body.outcome).toBe('not_sent')
    expect(await openOnes(id)).toEqual([changeId])
    expect([(await again()).status, await opens('password-a')]).toEqual([200, true])
  })

  test('when there was nothing to change; the older one is not sent again all the same', async () => {
    const { path, loses, state } = await role()
    const { changeId, again } = await loses({ name: 'Lost' }, 'before')
    const newer = await put(path, { name: 'Before' })
    expect([newer.status, newer.body.changed]).toEqual([200, false])
    expect(await stateOf(changeId)).toBe('unknown')
    // Somebody was told that the name is in force: a late repeat must not undo it.
    const late = await again()
    expect(problem(late)).toEqual([409, '/problems/superseded'])
    expect([late.body.changeId, late.body.outcome]).toEqual([changeId, 'unknown'])
    expect((await state()).name).toBe('Before')
    expect(await stateOf(changeId)).toBe('unknown')
    expect((await resolve(changeId, 'rejected')).body.state).toBe('rejected')
  })

  test('when it ended unknown too: both are open, and the older one is not sent again', async () => {
    const { id, loses, opens } = await user()
    const older = await loses({ secret: 'password-a' }, 'before')
    const newer = await loses({ secret: 'password-b' }, 'after')
    expect(problem(await older.again())).toEqual([409, '/problems/superseded'])
    expect((await openOnes(id)).toSorted()).toEqual([older.changeId, newer.changeId].toSorted())
    expect(await opens('password-b')).toBe(true)
    // The newest may go on, and then takes the place of the other.
    expect((await newer.again()).status).toBe(200)
    expect(await stateOf(older.changeId)).toBe('superseded')
  })
})

describe('a newer change that was applied', () => {
  test('takes the place of an older one of the same fields, and no old secret comes back', async () => {
    const { path, loses, opens, id } = await user()
    const older = await loses({ secret: 'password-a' }, 'after')
    expect((await put(path, { secret: 'password-b' })).status).toBe(200)
    expect(await stateOf(older.changeId)).toBe('superseded')
    const late = await older.again()
    expect(problem(late)).toEqual([409, '/problems/superseded'])
    expect(await opens('password-b')).toBe(true)
    const { changeId: newer } = (await eventsOf(id)).findLast(({ type }) => type === 'intent')
    const superseded = (await eventsOf(id)).find(({ outcome }) => outcome === 'superseded')
    expect(superseded).toMatchObject({ changeId: older.changeId, upstream: { supersededBy: newer } })
  })

  test('leaves one open that asked for more, and its key sends nothing', async () => {
    const { path, loses, opens, id, state } = await user()
    const older = await loses({ secret: 'password-a', description: 'older' }, 'before')
    expect((await put(path, { secret: 'password-b' })).status).toBe(200)
    expect(await openOnes(id)).toEqual([older.changeId])
    expect(problem(await older.again())).toEqual([409, '/problems/superseded'])
    expect([await opens('password-b'), (await state()).description]).toEqual([true, 'made by a test'])
    expect(await openOnes(id)).toEqual([older.changeId])
  })

  test('counts what it carried over as written', async () => {
    const { path, loses } = await user()
    const older = await loses({ secret: 'password-a', description: 'older' }, 'before')
    const newer = await put(path, { secret: 'password-b', email: 'newer@example.com' })
    expect(newer.status).toBe(200)
    expect(await stateOf(older.changeId)).toBe('superseded')
  })

  test('leaves one alone that asked for other fields, which may be sent again', async () => {
    const { path, loses, state } = await role()
    const older = await loses({ name: 'Older' }, 'before')
    expect((await put(path, { reference: 'newer' })).status).toBe(200)
    expect(await stateOf(older.changeId)).toBe('unknown')
    expect((await older.again()).status).toBe(200)
    expect(await state()).toMatchObject({ name: 'Older', reference: 'newer' })
  })

  test('of which the older one shares a field keeps it from being sent, and reading may prove it', async () => {
    const { path, loses, state } = await role()
    const older = await loses({ name: 'Older', reference: 'older' }, 'before')
    expect((await put(path, { name: 'Newer' })).status).toBe(200)
    expect(problem(await older.again())).toEqual([409, '/problems/superseded'])
    expect(await state()).toMatchObject({ name: 'Newer', reference: 'before' })
    expect(await stateOf(older.changeId)).toBe('unknown')
    // Somebody else makes it true: the key reads, and settles.
    expect((await put(path, { name: 'Older' })).status).toBe(200)
    expect((await put(path, { reference: 'older' })).status).toBe(200)
    const proven = await older.again()
    expect([proven.status, proven.body.changeId]).toEqual([200, older.changeId])
  })
})

describe('a key that goes on', () => {
  test('alters only what its change was to alter, not what has changed since', async () => {
    const { path, loses, state } = await role()
    // The reference is as asked for already, so that only the name was to change.
    const older = await loses({ name: 'Older', reference: 'before' }, 'before')
    expect((await put(path, { reference: 'newer' })).status).toBe(200)
    const late = await older.again()
    expect([late.status, late.body.changeId]).toEqual([200, older.changeId])
    expect(await state()).toMatchObject({ name: 'Older', reference: 'newer' })
  })

  test('takes the place of others only by what it sends itself', async () => {
    const { id, loses, fault, state } = await user()
    const other = await loses({ secret: 'password-x', enabled: false, description: 'from x' }, 'before')
    const resumed = await loses({ secret: 'password-a', enabled: false }, 'before')
    // Somebody else makes one field true, so that the password alone is left.
    const [, project = ''] = id.split(':')
    await providers().apinizer.mint('credential', `${project}/user-${project}`, { enabled: false })
    await fault('GET', {})
    const reply = await resumed.again()
    expect([reply.status, reply.body.upstream?.method]).toEqual([200, 'PATCH'])
    expect((await state()).description).not.toBe('from x')
    expect(await stateOf(other.changeId)).toBe('unknown')
  })

  test('is not sent over what a newer one was found to have put in force, whatever a person said of that', async () => {
    const { path, loses, fault, state } = await role()
    const older = await loses({ name: 'Older' }, 'before')
    await fault('PATCH', { keep: ['reference'] })
    const newer = await put(path, { name: 'Newer', reference: 'newer' })
    expect(newer.body.outcome).toBe('partial')
    expect((await resolve(newer.body.changeId, 'rejected')).body.state).toBe('rejected')
    expect(problem(await older.again())).toEqual([409, '/problems/superseded'])
    expect((await state()).name).toBe('Newer')
  })

  test('and finds nothing left to do says what its change has done', async () => {
    const { path, loses } = await role()
    const older = await loses({ name: 'Older' }, 'after')
    const settled = await older.again()
    expect(settled.body).toMatchObject({ changed: true, fields: { name: { from: 'Before', to: 'Older' } } })
    const again = await older.again()
    expect(again.headers.get('idempotency-replayed')).toBe('true')
    expect(again.body.fields).toEqual(settled.body.fields)
    expect((await get(path)).body.name).toBe('Older')
  })

  test('with a part that was not taken, and whose answer is lost, is what a read finds', async () => {
    const { path, fault } = await role()
    const key = freshId()
    const body = { name: 'After', reference: 'after' }
    await fault('PATCH', { keep: ['reference'] })
    const first = await put(path, body, keyed(key))
    expect(first.body.outcome).toBe('partial')
    await fault('PATCH', { reset: 'after' })
    const second = await put(path, body, keyed(key))
    expect([second.status, second.body.changeId]).toEqual([200, first.body.changeId])
  })

  test('with a part that was not taken, and is refused, is as partial as before, and settled by a read', async () => {
    const { path, id, fault } = await role()
    const key = freshId()
    const body = { name: 'After', reference: 'after' }
    await fault('PATCH', { keep: ['reference'] })
    const first = await put(path, body, keyed(key))
    await fault('PATCH', { status: 422 })
    const second = await put(path, body, keyed(key))
    for (const reply of [first, second]) {
      expect([...problem(reply), reply.body.outcome]).toEqual([502, '/problems/not-taken', 'partial'])
      expect(reply.body.errors).toMatchObject([{ pointer: '#/reference' }])
    }
    const outcome = (await eventsOf(id)).findLast(({ type }) => type === 'outcome')
    expect(outcome.upstream.notTaken).toEqual(['reference'])
    expect((await put(path, { reference: 'after' })).status).toBe(200)
    await put(path, { name: 'After' })
    expect(await stateOf(first.body.changeId)).toBe('applied')
  })
})

describe('a read that was made for a newer change', () => {
  test('settles an older one that it proves', async () => {
    const { path, loses, id, state } = await role()
    const older = await loses({ name: 'Older' }, 'after')
    expect((await state()).name).toBe('Older')
    const newer = await put(path, { reference: 'newer' })
    expect(newer.status).toBe(200)
    expect(await stateOf(older.changeId)).toBe('applied')
    const events = await eventsOf(id)
    const settled = events.findIndex(({ type }) => type === 'settled')
    const intent = events.findIndex(
      ({ type, changeId }) => type === 'intent' && changeId === newer.body.changeId,
    )
    expect(settled).toBeGreaterThan(0)
    expect(settled).toBeLessThan(intent)
  })

  test('settles one that is found partial once the rest of it is there', async () => {
    const { path, fault } = await role()
    await fault('PATCH', { keep: ['reference'] })
    const partial = await put(path, { name: 'After', reference: 'after' })
    expect(partial.body.outcome).toBe('partial')
    expect((await put(path, { reference: 'after' })).status).toBe(200)
    await put(path, { name: 'After' })
    expect(await stateOf(partial.body.changeId)).toBe('applied')
  })

  test('does not settle what it cannot prove', async () => {
    const { path, loses } = await role()
    const older = await loses({ name: 'Older' }, 'before')
    await put(path, { reference: 'newer' })
    expect(await stateOf(older.changeId)).toBe('unknown')
  })
})

describe('a key whose change is partial', () => {
  test('goes on with what is missing, and no refusal makes less of it', async () => {
    const { path, fault, state } = await role()
    const key = freshId()
    const body = { name: 'After', reference: 'after' }
    await fault('PATCH', { keep: ['reference'] }, 2)
    const first = await put(path, body, keyed(key))
    expect(first.body.outcome).toBe('partial')
    const second = await put(path, body, keyed(key))
    expect([second.body.outcome, second.body.changeId]).toEqual(['partial', first.body.changeId])
    await fault('PATCH', { status: 422 })
    expect((await put(path, body, keyed(key))).body.outcome).toBe('partial')
    const last = await put(path, body, keyed(key))
    expect([last.status, last.body.changeId]).toEqual([200, first.body.changeId])
    expect(await state()).toMatchObject(body)
  })
})

test('a word of a person puts no older value over a newer one', async () => {
  const key = await mintDiscue()
  const path = `/credentials/discue:${key}`
  const control = providers().discue
  await control.fault({ reset: 'before' }, { match: { method: 'PUT', path: key }, times: 2 })
  const older = await put(path, { name: `older.${key}` })
  expect(older.body.outcome).toBe('unknown')
  const other = `other.${key}`
  await control.fault({ store: { name: other } }, { match: { method: 'PUT', path: key } })
  expect((await put(path, { name: `newer.${key}` })).body.outcome).toBe('unknown')
  expect((await get(path)).body.name).toBe(other)
  expect((await resolve(older.body.changeId, 'applied')).body.state).toBe('applied')
  expect((await get(path)).body.name).toBe(other)
})

test('what a provider that cannot be read told last is shown, whichever change it answered', async () => {
  const key = await mintDiscue()
  const path = `/credentials/discue:${key}`
  const fault = (what: object, times = 1) =>
    providers().discue.fault(what, { match: { method: 'PUT', path: key }, times })
  const older = { name: `older.${key}` }
  const headers = { 'idempotency-key': freshId() }
  await fault({ reset: 'before' }, 2)
  expect((await put(path, older, { headers })).body.outcome).toBe('unknown')
  await fault({ store: { name: `other.${key}` } })
  const newer = await put(path, { name: `newer.${key}` })
  expect(newer.body.outcome).toBe('unknown')
  expect((await resolve(newer.body.changeId, 'rejected')).body.state).toBe('rejected')
  expect((await put(path, older, { headers })).status).toBe(200)
  expect((await get(path)).body.name).toBe(older.name)
})

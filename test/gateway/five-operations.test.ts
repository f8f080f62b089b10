import { useGateway } from '#gateway'
import { describe, expect, test } from 'vitest'
import { sha256 } from '../harness/configuration.ts'
import {
  eventsOf,
  get,
  mintApinizer,
  mintCommerceLayer,
  mintDiscue,
  providers,
  put,
} from '../harness/gateway-calls.ts'

useGateway()

/** The sandbox's entries for one resource: what a provider really applied. */
const applied = async (control: ReturnType<typeof providers>['discue'], id: string) =>
  (await control.ledger()).filter((entry) => entry.id === id)

/** Intent before outcome, one change, both of the caller. */
async function expectRecorded(resource: string) {
  const events = await eventsOf(resource)
  expect(events.map((event) => [event.type, event.outcome])).toEqual([
    ['intent', null],
    ['outcome', 'applied'],
  ])
  expect(events[0].changeId).toBe(events[1].changeId)
  for (const event of events)
    expect(event).toMatchObject({ actor: { caller: 'admin', key: 'admin' }, resource })
}

describe('the five upstream operations', () => {
  test.each([
    [
      'credentials',
      'api_credentials',
      { reference: 'vault:1', roles: ['ABCRtyUpBa'] },
      { reference: 'vault:1' },
    ],
    ['roles', 'roles', { name: 'Catalog editors' }, { name: 'Catalog editors' }],
    ['permissions', 'permissions', { canRead: true, reference: null }, { can_read: true, reference: null }],
  ] as const)('commerce layer, %s', async (route, type, body, attributes) => {
    const key = await mintCommerceLayer(type, { reference: 'before', metadata: { kept: 1 } })
    const id = `commerce-layer:${key}`
    const reply = await put(`/${route}/${id}`, body)
    expect(reply.status).toBe(200)
    expect(reply.body).toMatchObject({
      outcome: 'applied',
      changed: true,
      upstream: { method: 'PATCH', status: 200, attempts: 1 },
    })
    const [entry, ...more] = await applied(providers().commerceLayer, key)
    expect(more).toEqual([])
    expect(entry.body).toEqual({
      data: {
        type,
        id: key,
        attributes,
        ...('roles' in body && { relationships: { role: { data: { type: 'roles', id: 'ABCRtyUpBa' } } } }),
      },
    })
    // Nothing but what was asked for, and the provider's own time stamp, is different afterwards.
    const { updated_at: _now, ...after } = entry.after.attributes
    const { updated_at: _then, ...before } = entry.before.attributes
    expect(after).toEqual({ ...before, ...attributes })
    await expectRecorded(id)
  })

  test('discue', async () => {
    const key = await mintDiscue()
    const name = `example.com/${key}`
    const reply = await put(`/credentials/discue:${key}`, { name })
    expect(reply.status).toBe(200)
    expect(reply.body.credential).toEqual({
      id: `discue:${key}`,
      connection: 'discue',
      provider: 'discue',
      readable: false,
      name,
    })
    const [entry] = await applied(providers().discue, key)
    expect(entry.body).toEqual({ id: key, name })
    expect(reply.body.fields).toEqual({ name: { action: 'set', to: name } })
    await expectRecorded(`discue:${key}`)
    const read = await get(`/credentials/discue:${key}`)
    expect(read.body).toMatchObject({ readable: false, name })
    expect(read.headers.get('etag')).toBeNull()
  })

  test('apinizer', async () => {
    const { id, state, project } = await mintApinizer()
    const before = await state()
    const reply = await put(`/credentials/${id}`, { secret: 'second-password', description: 'rotated' })
    expect(reply.status).toBe(200)
    expect(reply.body.deployment).toEqual({
      success: true,
      environments: [
        { name: 'production', success: true },
        { name: 'staging', success: true },
      ],
    })
    expect(await state()).toEqual({
      ...before,
      description: 'rotated',
      passwordSha256: sha256('second-password'),
    })
    const login = (password: string) =>
      providers().apinizer.send('POST', '/login', { project, username: `user-${project}`, password })
    expect(await login('second-password')).toEqual({ success: true })
    expect(await login('first-password')).toEqual({ success: false })
    await expectRecorded(id)
  })

  test('apinizer without a secret is refused before any upstream write', async () => {
    const { id, state, project } = await mintApinizer()
    const before = await state()
    const reply = await put(`/credentials/${id}`, { enabled: false })
    expect(reply.status).toBe(422)
    expect(reply.body).toMatchObject({
      type: '/problems/secret-required-by-provider',
      errors: [{ pointer: '#/secret' }],
    })
    expect(await state()).toEqual(before)
    const requests = (await providers().apinizer.requests()).filter(({ path }) => path.includes(project))
    expect(requests.map(({ method }) => method)).toEqual(['GET'])
    expect(await eventsOf(id)).toEqual([])
  })

  test('an apinizer secret alone goes by the password-only PATCH', async () => {
    const { id, state } = await mintApinizer({ metadata: [{ key: 'k', value: 'v', secret: true }] })
    const before = await state()
    const reply = await put(`/credentials/${id}`, { secret: 'third-password', enabled: true })
    expect(reply.status).toBe(200)
    expect(reply.body.upstream.method).toBe('PATCH')
    expect(reply.body.fields).toEqual({
      secret: { action: 'set', fingerprint: expect.stringMatching(/^hmac-sha256:1:[0-9a-f]{64}$/) },
    })
    expect(await state()).toEqual({ ...before, passwordSha256: sha256('third-password') })
  })
})

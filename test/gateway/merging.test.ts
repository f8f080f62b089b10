import { useGateway } from '#gateway'
import { describe, expect, test } from 'vitest'
import {
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

const attributesOf = async (type: string, key: string): Promise<Json> =>
  (await providers().commerceLayer.state(type, key)).attributes

describe('absent keeps, null clears, a value sets', () => {
  test('metadata is merged member by member, and null removes one', async () => {
    const key = await mintCommerceLayer('roles', { metadata: { kept: { deep: [1] }, gone: 1, changed: 1 } })
    const reply = await put(`/roles/commerce-layer:${key}`, {
      metadata: { gone: null, changed: 2, added: null, made: 3 },
    })
    expect(reply.status).toBe(200)
    const metadata = { kept: { deep: [1] }, changed: 2, made: 3 }
    expect((await attributesOf('roles', key)).metadata).toEqual(metadata)
    expect(reply.body.role.metadata).toEqual(metadata)
    expect(reply.body.fields.metadata).toEqual({
      action: 'set',
      from: { kept: { deep: [1] }, gone: 1, changed: 1 },
      to: metadata,
    })
  })

  test('replacing takes metadata whole', async () => {
    const key = await mintCommerceLayer('roles', {
      metadata: { gone: 1 },
      reference: 'a',
      reference_origin: 'b',
    })
    const body = { name: 'Whole', reference: 'a', referenceOrigin: null, metadata: { only: 1 } }
    const reply = await put(`/roles/commerce-layer:${key}?mode=replace`, body)
    expect(reply.status).toBe(200)
    expect(Object.keys(reply.body.fields).toSorted()).toEqual(['metadata', 'name', 'referenceOrigin'])
    expect(await attributesOf('roles', key)).toMatchObject({
      name: 'Whole',
      reference: 'a',
      reference_origin: null,
      metadata: { only: 1 },
    })
  })

  test('null clears, and says so', async () => {
    const key = await mintCommerceLayer('api_credentials', {
      reference: 'before',
      redirect_uri: 'https://a.example/',
    })
    const reply = await put(`/credentials/commerce-layer:${key}`, { reference: null, redirectUri: null })
    expect(reply.status).toBe(200)
    expect(reply.body.fields).toEqual({
      reference: { action: 'clear', from: 'before', to: null },
      redirectUri: { action: 'clear', from: 'https://a.example/', to: null },
    })
    expect(reply.body.widens).toBe(false)
    expect(await attributesOf('api_credentials', key)).toMatchObject({ reference: null, redirect_uri: null })
  })

  test('fields that are what they were are not sent', async () => {
    const key = await mintCommerceLayer('roles', { name: 'Same', reference: 'before' })
    const reply = await put(`/roles/commerce-layer:${key}`, { name: 'Same', reference: 'after' })
    expect(Object.keys(reply.body.fields)).toEqual(['reference'])
    const [entry] = (await providers().commerceLayer.ledger()).filter(({ id }) => id === key)
    expect(entry.body.data.attributes).toEqual({ reference: 'after' })
  })

  test('nothing left is 200 without a write, and one audited event', async () => {
    const { id, project } = await mintApinizer({ roleNameList: ['API_USER', 'DEVELOPER'] })
    const body = {
      roles: ['DEVELOPER', 'API_USER'],
      expiresAt: '2030-12-31T23:59:59+00:00',
      name: 'API User',
    }
    const reply = await put(`/credentials/${id}`, body, { headers: { 'x-change-reason': 'just%20looking' } })
    expect(reply.status).toBe(200)
    expect(reply.body).toMatchObject({ outcome: 'applied', changed: false, widens: false, fields: {} })
    expect(reply.body).not.toHaveProperty('upstream')
    const writes = (await providers().apinizer.requests()).filter(
      ({ method, path }) => method !== 'GET' && path.includes(project),
    )
    expect(writes).toEqual([])
    const events = await eventsOf(id)
    expect(events).toMatchObject([
      {
        type: 'outcome',
        outcome: 'applied',
        changeId: reply.body.changeId,
        fields: {},
        reason: 'just looking',
      },
    ])
  })

  test('what cannot be read is never taken for unchanged', async () => {
    const name = `example.com/${freshId()}`
    const key = await mintDiscue(name)
    const once = await put(`/credentials/discue:${key}`, { name })
    const twice = await put(`/credentials/discue:${key}`, { name })
    expect([once.body.changed, twice.body.changed]).toEqual([true, true])
    expect(twice.body.fields).toEqual({ name: { action: 'set', to: name } })
    expect((await providers().discue.ledger()).filter(({ id }) => id === key)).toHaveLength(2)
  })

  test('before any change an unreadable resource shows only what it is', async () => {
    const read = await get(`/credentials/discue:${await mintDiscue()}`)
    expect(Object.keys(read.body).toSorted()).toEqual(['connection', 'id', 'provider', 'readable'])
  })
})

describe('a change that widens access', () => {
  test.each<[string, object, object, boolean]>([
    ['an address more', { ipList: ['10.0.0.1'] }, { allowedIps: ['10.0.0.1', '10.0.0.2'] }, true],
    ['a range around the address', { ipList: ['10.0.0.1'] }, { allowedIps: ['10.0.0.0/24'] }, true],
    [
      'an address within the range',
      { ipList: ['10.0.0.0/24'] },
      { allowedIps: ['10.0.0.7', '10.0.0.128/25'] },
      false,
    ],
    [
      'two halves of the range',
      { ipList: ['10.0.0.0/24'] },
      { allowedIps: ['10.0.0.0/25', '10.0.0.128/25'] },
      false,
    ],
    ['the empty list', { ipList: ['10.0.0.1'] }, { allowedIps: [] }, true],
    ['out of the empty list', { ipList: [] }, { allowedIps: ['0.0.0.0/0'] }, false],
    ['another family', { ipList: ['10.0.0.0/8'] }, { allowedIps: ['10.0.0.0/8', '2001:db8::/32'] }, true],
    ['enabled', { enabled: false }, { enabled: true }, true],
    ['disabled', { enabled: true }, { enabled: false }, false],
    ['a later end', { expireDate: '2030-01-01T00:00:00.000Z' }, { expiresAt: '2031-01-01T00:00:00Z' }, true],
    [
      'an earlier end',
      { expireDate: '2030-01-01T00:00:00.000Z' },
      { expiresAt: '2029-01-01T00:00:00Z' },
      false,
    ],
    ['no end', { expireDate: '2030-01-01T00:00:00.000Z' }, { expiresAt: null }, true],
    ['an end at all', { expireDate: null }, { expiresAt: '2029-01-01T00:00:00Z' }, false],
    ['another role', { roleNameList: ['API_USER'] }, { roles: ['DEVELOPER'] }, true],
    ['a role less', { roleNameList: ['API_USER', 'DEVELOPER'] }, { roles: ['API_USER'] }, false],
    ['a name', {}, { name: 'Another' }, false],
  ])('apinizer: %s', async (_, before, change, widens) => {
    const { id } = await mintApinizer(before)
    const planned = await put(`/credentials/${id}?dryRun=true`, { ...change, secret: 's' })
    expect(planned.body.plan.widens).toBe(widens)
    const reply = await put(`/credentials/${id}`, { ...change, secret: 's' })
    expect(reply.status).toBe(200)
    expect(reply.body.widens).toBe(widens)
    for (const event of await eventsOf(id)) expect(event.widens).toBe(widens)
  })

  test.each<[string, 'api_credentials' | 'permissions', object, object, boolean]>([
    ['a longer token lifetime', 'api_credentials', { expires_in: 7200 }, { tokenLifetime: 7201 }, true],
    ['a shorter token lifetime', 'api_credentials', { expires_in: 14400 }, { tokenLifetime: 7200 }, false],
    [
      'a short lifetime given up for the default',
      'api_credentials',
      { expires_in: 7200 },
      { tokenLifetime: null },
      true,
    ],
    [
      'a new redirect URI',
      'api_credentials',
      { redirect_uri: 'https://a.example/' },
      { redirectUri: 'https://b.example/' },
      true,
    ],
    ['another role', 'api_credentials', {}, { roles: ['rEaDoNlYrO'] }, true],
    ['a verb switched on', 'permissions', { can_destroy: false }, { canDestroy: true }, true],
    ['a verb switched off', 'permissions', { can_destroy: true }, { canDestroy: false }, false],
  ])('commerce layer: %s', async (_, type, before, change, widens) => {
    const key = await mintCommerceLayer(type, before)
    const reply = await put(`/${type === 'permissions' ? type : 'credentials'}/commerce-layer:${key}`, change)
    expect(reply.status).toBe(200)
    expect(reply.body.widens).toBe(widens)
  })
})

describe('a dry run', () => {
  test('shows the request and writes nothing', async () => {
    const { id, project, state } = await mintApinizer()
    const before = await state()
    const reply = await put(`/credentials/${id}?dryRun=true`, {
      secret: 'planned-secret',
      description: 'new',
    })
    expect(reply.status).toBe(200)
    expect(reply.body.plan).toEqual({
      request: {
        method: 'PUT',
        path: `/apiops/projects/${project}/credentials/`,
        headers: { 'content-type': 'application/json', authorization: '[secret]' },
        body: {
          email: 'user@example.com',
          fullName: 'API User',
          description: 'new',
          username: `user-${project}`,
          password: '[secret]',
          roleNameList: ['API_USER'],
          enabled: true,
          ipList: ['192.168.1.100'],
          expireDate: '2030-12-31T23:59:59.000Z',
          metadata: [],
        },
      },
      fields: {
        description: { action: 'set', from: 'made by a test', to: 'new' },
        secret: { action: 'set' },
      },
      changed: true,
      widens: false,
      warnings: [],
    })
    expect(await state()).toEqual(before)
    expect(await eventsOf(id)).toEqual([])
  })

  test('of what is already so plans no request', async () => {
    const key = await mintCommerceLayer('roles', { name: 'Same' })
    const reply = await put(`/roles/commerce-layer:${key}?dryRun=true`, { name: 'Same' })
    expect(reply.body.plan).toMatchObject({ request: null, changed: false, fields: {} })
  })
})

describe('entity tags', () => {
  test.each([
    [
      'commerce-layer',
      async () => [`/roles/commerce-layer:${await mintCommerceLayer('roles')}`, { name: 'Tagged' }] as const,
    ],
    [
      'apinizer',
      async () => [`/credentials/${(await mintApinizer()).id}`, { secret: 's', name: 'Tagged' }] as const,
    ],
  ])('%s: the tag of a reply is the tag of the next read, and holds once', async (_, mint) => {
    const [path, body] = await mint()
    const tag = (await get(path)).headers.get('etag') ?? ''
    const reply = await put(path, body, { headers: { 'if-match': tag } })
    expect(reply.status).toBe(200)
    expect(reply.headers.get('etag')).toBeNull()
    const next = await get(path)
    const resource = reply.body.role ?? reply.body.credential
    expect(next.headers.get('etag')).toBe(resource.etag)
    expect(resource.etag).not.toBe(tag)
    const late = await put(path, { ...body, name: 'Late' }, { headers: { 'if-match': tag } })
    expect(late.status).toBe(412)
    const matched = await put(
      path,
      { ...body, name: 'Any' },
      { headers: { 'if-match': `"other", ${resource.etag}` } },
    )
    expect(matched.status).toBe(200)
    const unchanged = await get(path, {
      headers: { 'if-none-match': (await get(path)).headers.get('etag') ?? '' },
    })
    expect(unchanged.status).toBe(304)
  })

  /** A tag as what stands between makes it: weak, with a suffix, or both. */
  const spellings: [string, (tag: string) => string][] = [
    ['a proxy that weakens it', (tag) => `W/${tag}`],
    ...[
      '-gzip',
      '--gzip',
      ';gzip',
      '-br',
      '-zstd',
      '-deflate',
      ':dtagent10267',
      '+gzip',
      '-gzip-gzip',
    ].flatMap((suffix): [string, (tag: string) => string][] => [
      [`one that appends ${suffix}`, (tag) => tag.replace(/"$/, `${suffix}"`)],
      [`one that appends ${suffix} and weakens it`, (tag) => `W/${tag.replace(/"$/, `${suffix}"`)}`],
    ]),
    ['one that appends -gzip behind it', (tag) => `${tag}-gzip`],
    ['one of several, of which one has a comma', (tag) => `"a,b", W/${tag}, "c"`],
    ['one of a list with empty members', (tag) => `, ,"a",\t ${tag} ,,`],
  ]
  test.each(spellings)('holds in the spelling of %s', async (_, spell) => {
    const path = `/roles/commerce-layer:${await mintCommerceLayer('roles')}`
    const tag = (await get(path)).headers.get('etag') ?? ''
    expect((await get(path, { headers: { 'if-none-match': spell(tag) } })).status).toBe(304)
    expect((await put(path, { name: 'Tagged' }, { headers: { 'if-match': spell(tag) } })).status).toBe(200)
    const late = await put(path, { name: 'Late' }, { headers: { 'if-match': spell(tag) } })
    expect([late.status, (await get(path)).body.name]).toEqual([412, 'Tagged'])
    expect((await get(path, { headers: { 'if-none-match': spell(tag) } })).status).toBe(200)
  })

  test('a tag of something else is none of the present state, and nobody says that anything has changed', async () => {
    const path = `/roles/commerce-layer:${await mintCommerceLayer('roles')}`
    const tag = (await get(path)).headers.get('etag') ?? ''
    const other =
      (await get(`/roles/commerce-layer:${await mintCommerceLayer('roles')}`)).headers.get('etag') ?? ''
    const foreign = [
      '"another"',
      'W/"1-gzip"',
      other,
      tag.replace(/"$/, 'x"'),
      tag.replace(/.-?"$/, '"'),
      tag.replace('"', '"x'),
      tag.replace('"', '"-gzip'),
      `"${'-gzip'.repeat(9)}"`,
    ]
    for (const one of foreign) {
      const { status, body } = await put(path, { name: 'Late' }, { headers: { 'if-match': one } })
      expect({ one, status, type: body.type }).toEqual({
        one,
        status: 412,
        type: '/problems/precondition-failed',
      })
      expect(body.detail).toBe(
        'If-Match does not name the present state of the resource; read it for the tag that does',
      )
    }
    expect((await get(path)).body.name).not.toBe('Late')
  })

  test('the order of a set does not change the tag', async () => {
    const { id, project, state } = await mintApinizer({ roleNameList: ['API_USER', 'DEVELOPER'] })
    const before = (await get(`/credentials/${id}`)).headers.get('etag')
    await providers().apinizer.mint('credential', `${project}/user-${project}`, {
      roleNameList: ['DEVELOPER', 'API_USER'],
    })
    expect((await state()).roleNameList).toEqual(['DEVELOPER', 'API_USER'])
    expect((await get(`/credentials/${id}`)).headers.get('etag')).toBe(before)
  })

  test('a secret alone changes the tag', async () => {
    const path = `/credentials/${(await mintApinizer()).id}`
    const before = (await get(path)).headers.get('etag')
    await put(path, { secret: 'another' })
    expect((await get(path)).headers.get('etag')).not.toBe(before)
  })

  test('what cannot be read cannot be compared', async () => {
    const reply = await put(
      `/credentials/discue:${await mintDiscue()}`,
      { name: 'a.b' },
      { headers: { 'if-match': '*' } },
    )
    expect(reply.status).toBe(412)
    expect(reply.body.detail).toContain('cannot be read')
  })

  test('a connection may require one', async () => {
    const key = await mintCommerceLayer('roles')
    const path = `/roles/cl-careful:${key}`
    expect((await put(path, { name: 'Blind' })).status).toBe(428)
    const tag = (await get(path)).headers.get('etag') ?? ''
    expect((await put(path, { name: 'Seen' }, { headers: { 'if-match': tag } })).status).toBe(200)
  })
})

describe('an alias', () => {
  test('stands for its id, and the audit keeps both', async () => {
    const reply = await put('/credentials/seed-credential', { reference: freshId() })
    expect(reply.status).toBe(200)
    expect(reply.body.credential.id).toBe('commerce-layer:xYZkjABcde')
    const events = (await eventsOf('commerce-layer:xYZkjABcde')).filter(
      ({ changeId }) => changeId === reply.body.changeId,
    )
    expect(events.map(({ alias }) => alias)).toEqual(['seed-credential', 'seed-credential'])
  })
})

describe('what the gateway itself signs in with', () => {
  test('is not changed by accident', async () => {
    const path = '/credentials/commerce-layer:gAtEwAyOwn'
    const refused = await put(path, { reference: freshId() })
    expect(refused.status).toBe(409)
    expect(refused.body.type).toBe('/problems/self-lockout')
    expect((await put(`${path}?allowSelf=true`, { reference: freshId() })).status).toBe(200)
  })

  test('includes what the operator listed', async () => {
    await providers().apinizer.mint('credential', 'MyProject/gateway-itself', { password: 'p' })
    const reply = await put('/credentials/apinizer:MyProject:gateway-itself', { secret: 's' })
    expect(reply.body.type).toBe('/problems/self-lockout')
  })
})

describe('metadata of a connection that hides it', () => {
  test('is neither shown nor stored', async () => {
    const key = await mintCommerceLayer('roles', { metadata: { private: 'hush-hush' } })
    const path = `/roles/cl-hiding:${key}`
    const reply = await put(path, { metadata: { added: 'hush-too' } })
    expect(reply.status).toBe(200)
    expect((await attributesOf('roles', key)).metadata).toEqual({ private: 'hush-hush', added: 'hush-too' })
    const audit = await get(`/audit?resource=cl-hiding:${key}`)
    const seen = JSON.stringify([reply.body, (await get(path)).body, audit.body])
    expect(seen).not.toContain('hush')
    expect(reply.body.fields.metadata).toEqual({ action: 'set', from: '[hidden]', to: '[hidden]' })
  })
})

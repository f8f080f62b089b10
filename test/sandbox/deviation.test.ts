import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Sandbox, startSandbox } from '../../sandbox/server.ts'
import {
  apinizerHeaders,
  call,
  commerceLayerAs,
  type Control,
  controlOf,
  credential,
  discueHeaders,
  type Json,
  patch,
} from '../harness/sandbox-calls.ts'

let sandbox: Sandbox

beforeAll(async () => {
  sandbox = await startSandbox()
})
afterAll(() => sandbox.close())

const only = async (control: Control) => {
  const entries = await control.ledger()
  expect(entries).toHaveLength(1)
  return entries[0]
}

describe('Discue', () => {
  const id = '5bc2be68-7498-4853-aa64-4be0ca62934e'
  const before = { id, name: 'example.com/dev', organization: 'sandbox' }
  let control: Control
  beforeEach(async () => {
    control = controlOf(sandbox.urls.discue)
    await control.reset()
  })

  const update = async (name = 'example.com/asked', query = '') => {
    const url = `${sandbox.urls.discue}/api_clients/${id}${query}`
    const reply = await call('PUT', url, { headers: discueHeaders, body: { id, name } })
    expect(reply.status).toBe(200)
    return reply
  }
  const stored = () => control.state('api_clients', id)

  test.each([['name'], ['*']])('keep %s: success, and nothing has changed', async (name) => {
    await control.fault({ keep: [name] })
    expect((await update()).json.api_client).toEqual({ id, name: before.name })
    expect(await stored()).toEqual(before)
    expect(await only(control)).toMatchObject({
      operation: 'PUT api_clients',
      id,
      body: { id, name: 'example.com/asked' },
      before,
      after: before,
    })
  })

  test('store: another value, also one that the provider itself would refuse', async () => {
    await control.fault({ store: { name: '' } })
    expect((await update()).json.api_client).toEqual({ id, name: '' })
    expect(await stored()).toEqual({ ...before, name: '' })
    expect(await only(control)).toMatchObject({
      body: { name: 'example.com/asked' },
      before,
      after: { ...before, name: '' },
    })
  })

  test('store and keep: what is stored goes before what is kept', async () => {
    await control.fault({ keep: ['*'], store: { name: 'example.com/other' } })
    await update()
    expect((await stored()).name).toBe('example.com/other')
  })

  test('store an id: the client stands under that one alone', async () => {
    await control.fault({ store: { id: 'moved' } })
    expect((await update()).json.api_client.id).toBe('moved')
    await expect(stored()).rejects.toThrow('404')
    expect(await control.state('api_clients', 'moved')).toMatchObject({ id: 'moved' })
    expect((await only(control)).id).toBe(id)
  })

  test('a create stores what it is told to, and has nothing to keep', async () => {
    await control.fault({ keep: ['*'], store: { id: 'normal', name: 'example.com/normal' } })
    const url = `${sandbox.urls.discue}/api_clients`
    const { json } = await call('POST', url, { headers: discueHeaders, body: { name: 'Example.com/Normal' } })
    const after = { id: 'normal', name: 'example.com/normal' }
    expect(json.api_client).toEqual(after)
    expect(await control.state('api_clients', 'normal')).toMatchObject(after)
    expect(await only(control)).toMatchObject({ id: 'normal', before: null, after })
  })

  test('tell and omit: a lying answer, also in members it would not have, and what is stored is the truth', async () => {
    await control.fault({ tell: { id: 'foreign', alias: 'example.com/told' }, omit: ['name'] })
    const { json } = await update()
    expect(json.api_client).toEqual({ id: 'foreign', alias: 'example.com/told' })
    expect(json).toHaveProperty('_links')
    expect(await stored()).toEqual({ ...before, name: 'example.com/asked' })
    expect((await only(control)).after.name).toBe('example.com/asked')
    expect((await update()).json.api_client).toEqual({ id, name: 'example.com/asked' })
  })

  test('a kept write may tell that it was not, in the form that was asked for', async () => {
    await control.fault({ keep: ['name'], tell: { name: 'example.com/asked' } })
    expect((await update(undefined, '?pretty=true')).text).toContain('\n    "name": "example.com/asked"')
    expect(await stored()).toEqual(before)
  })

  test('times: 1 is one write, and the next one is obeyed', async () => {
    await control.fault({ keep: ['name'] }, { match: { method: 'PUT' } })
    await update('example.com/first')
    expect((await control.send('GET', '/faults')).faults).toEqual([])
    expect((await update('example.com/second')).json.api_client.name).toBe('example.com/second')
    expect((await control.ledger()).map(({ after }) => after.name)).toEqual([
      'example.com/dev',
      'example.com/second',
    ])
  })

  test('with a cut connection, a delay, an error and a body of numbers', async () => {
    await control.fault({ keep: ['name'], reset: 'after', delayAfterMs: 20 })
    await expect(update()).rejects.toThrow()
    expect(await only(control)).toMatchObject({ before, after: before })

    await control.fault({ store: { name: 'stored' }, tell: { name: 'told' }, status: 502, applied: true })
    const url = `${sandbox.urls.discue}/api_clients/${id}`
    const failed = await call('PUT', url, { headers: discueHeaders, body: {} })
    expect(failed.json).toEqual({ title: 'Bad Gateway', status: 502 })
    expect((await stored()).name).toBe('stored')

    await control.fault({ tell: { name: 'four' }, wrongType: 'numbers' })
    expect((await update()).json.api_client.name).toBe(4)
  })

  test.each([
    [{ keep: ['nmae'] }, 'nmae'],
    [{ store: { nmae: 'x' } }, 'nmae'],
    [{ store: { '*': 'x' } }, '*'],
    [{ store: { organization: 'foreign' } }, 'organization'],
  ])('the order of %j is refused', async (fault, name) => {
    await expect(control.fault(fault)).rejects.toThrow(`has a member ${name}`)
  })
})

describe('Commerce Layer', () => {
  const own = '/api/api_credentials/xYZkjABcde'
  let control: Control
  let as: Awaited<ReturnType<typeof commerceLayerAs>>
  beforeEach(async () => {
    control = controlOf(sandbox.urls.commerceLayer)
    await control.reset()
    as = await commerceLayerAs(sandbox)
  })

  const link = (id: string | null) => ({ data: id === null ? null : { type: 'roles', id } })
  const asked = { name: 'Asked', reference: 'asked', metadata: { asked: true } }
  const update = async (query = '?include=role') => {
    const document = patch('api_credentials', 'xYZkjABcde', asked, { role: link('ABCRtyUpBa') })
    const reply = await as('PATCH', own + query, document)
    expect(reply.status).toBe(200)
    return reply.json.data
  }
  const stored = () => control.state('api_credentials', 'xYZkjABcde')
  const unstamped = ({ attributes: { updated_at: _, ...attributes }, ...rest }: Json) => ({
    ...rest,
    attributes,
  })

  test('keep attributes, and take the rest', async () => {
    await control.fault({ keep: ['name', 'metadata'] })
    const shown = await update()
    expect(shown.attributes).toMatchObject({ name: 'My app', reference: 'asked', metadata: { foo: 'bar' } })
    expect(shown.relationships.role.data.id).toBe('ABCRtyUpBa')
    const { attributes, relationships } = await stored()
    expect(attributes).toMatchObject({ name: 'My app', reference: 'asked', metadata: { foo: 'bar' } })
    expect(relationships.role).toEqual(link('ABCRtyUpBa'))
  })

  test('keep the role', async () => {
    await control.fault({ keep: ['role'] })
    const shown = await update()
    expect(shown.relationships.role.data).toEqual({ type: 'roles', id: 'aDmInRoLeX' })
    expect(shown.attributes.name).toBe('Asked')
    const entry = await only(control)
    expect(entry.body.data.relationships.role).toEqual(link('ABCRtyUpBa'))
    expect(entry.after.relationships).toEqual(entry.before.relationships)
    expect(entry.after).toEqual(await stored())
  })

  test('keep *: the stamp alone is new, unless it is kept by its name', async () => {
    const before = await stored()
    await control.fault({ keep: ['*'] })
    const shown = await update()
    const entry = await only(control)
    expect(entry.before).toEqual(before)
    expect(unstamped(entry.after)).toEqual(unstamped(before))
    expect(entry.after.attributes.updated_at).not.toBe(before.attributes.updated_at)
    expect(shown.attributes).toEqual(entry.after.attributes)
    await control.fault({ keep: ['*', 'updated_at'] })
    await update()
    expect(await stored()).toEqual(entry.after)
  })

  test('keep *: a trigger does nothing either', async () => {
    const trigger = patch('roles', 'xYZkjABcde', { _add_missing_base_permissions: true })
    const permissions = async () =>
      (await as('GET', '/api/roles/xYZkjABcde/permissions')).json.meta.record_count
    const before = await permissions()
    await control.fault({ keep: ['*'] })
    expect((await as('PATCH', '/api/roles/xYZkjABcde', trigger)).status).toBe(200)
    expect(await permissions()).toBe(before)
    await as('PATCH', '/api/roles/xYZkjABcde', trigger)
    expect(await permissions()).toBeGreaterThan(before)
  })

  test('store attributes and the role', async () => {
    const store = { name: 'asked', expires_in: 1, updated_at: '2001-01-01T00:00:00.000Z' }
    await control.fault({ store: { ...store, role: 'rEaDoNlYrO' } })
    const shown = await update()
    expect(shown.attributes).toMatchObject({ ...store, reference: 'asked' })
    expect(shown.relationships.role.data.id).toBe('rEaDoNlYrO')
    const { after } = await only(control)
    expect(after.attributes).toMatchObject(store)
    expect(after.relationships.role).toEqual(link('rEaDoNlYrO'))
    expect(await stored()).toEqual(after)
    await control.fault({ store: { role: null } })
    expect((await update()).relationships.role.data).toBeNull()
    expect((await stored()).relationships.role).toEqual(link(null))
  })

  test('store: what was asked for is validated all the same', async () => {
    await control.fault({ store: { name: 'Stored' } })
    const reply = await as('PATCH', own, patch('api_credentials', 'xYZkjABcde', { name: null }))
    expect(reply.status).toBe(422)
    expect(await control.ledger()).toEqual([])
  })

  test('permissions, and a create', async () => {
    await control.fault({ keep: ['can_update'], store: { can_read: false } })
    const flags = { can_update: true, can_read: true, can_create: true }
    const changed = await as(
      'PATCH',
      '/api/permissions/xYZkjABcde',
      patch('permissions', 'xYZkjABcde', flags),
    )
    const disobeyed = { can_update: false, can_read: false, can_create: true }
    expect(changed.json.data.attributes).toMatchObject(disobeyed)
    expect((await only(control)).after.attributes).toMatchObject(disobeyed)

    await control.fault({ keep: ['*'], store: { name: 'stored', can_update: true } })
    const relationships = { organization: { data: { type: 'organizations', id: 'oRgAnIzAtN' } } }
    const created = await as('POST', '/api/roles', {
      data: { type: 'roles', attributes: { name: 'Asked' }, relationships },
    })
    expect([created.status, created.json.data.attributes.name]).toEqual([201, 'stored'])
    const role = await control.state('roles', created.json.data.id)
    expect(role.attributes).toMatchObject({ name: 'stored', kind: 'custom' })
    expect(role.attributes).not.toHaveProperty('can_update')
    expect(role.relationships).not.toHaveProperty('role')
  })

  test('tell and omit in the answer to a write', async () => {
    await control.fault({ tell: { name: 'Told', role: null, extra: 1 }, omit: ['reference', 'metadata'] })
    const { attributes, relationships } = await update()
    expect(attributes).toMatchObject({ name: 'Told', extra: 1, kind: 'integration' })
    expect(Object.keys(attributes)).not.toContain('reference')
    expect(Object.keys(attributes)).not.toContain('metadata')
    expect(relationships.role.data).toBeNull()
    const truth = await stored()
    expect(truth.attributes).toMatchObject(asked)
    expect(truth.attributes).not.toHaveProperty('extra')
    expect(truth.relationships.role).toEqual(link('ABCRtyUpBa'))
    expect((await only(control)).after).toEqual(truth)
  })

  test('tell and omit the role in the answer to a read, where its linkage stands', async () => {
    const read = async (query: string) => (await as('GET', own + query)).json.data
    const plain = await read('?include=role')
    await control.fault({ tell: { role: 'rEaDoNlYrO' } }, { times: 2 })
    expect((await read('?include=role')).relationships.role).toEqual({
      ...plain.relationships.role,
      ...link('rEaDoNlYrO'),
    })
    expect((await read('')).relationships.role).toEqual({ links: plain.relationships.role.links })
    await control.fault({ omit: ['role'] })
    expect((await read('?include=role')).relationships.role).toEqual({
      links: plain.relationships.role.links,
    })
    expect(await read('?include=role')).toEqual(plain)
  })

  test('tell another identity', async () => {
    await control.fault({ tell: { id: 'fOrEiGnIdX' }, omit: ['type'] })
    const { data } = (await as('GET', own)).json
    expect(data.id).toBe('fOrEiGnIdX')
    expect(data).not.toHaveProperty('type')
    expect(data.attributes).not.toHaveProperty('id')
  })

  test('tell in every resource of a list, and in nothing that was included', async () => {
    await control.fault({ tell: { name: 'Told' } })
    const { json } = await as('GET', '/api/api_credentials?include=role')
    expect(new Set(json.data.map(({ attributes }: Json) => attributes.name))).toEqual(new Set(['Told']))
    expect(json.included.map(({ attributes }: Json) => attributes.name)).toEqual(['Admin'])
    const [again] = (await as('GET', '/api/api_credentials')).json.data
    expect(again.attributes.name).toBe('My app')
  })

  test('tell nothing in an error, a token or an empty answer', async () => {
    const tell = { name: 'Told', access_token: 'told', id: 'told' }
    await control.fault({ tell }, { times: null })
    expect(Object.keys((await as('GET', '/api/roles/nowhere')).json)).toEqual(['errors'])
    expect((await commerceLayerAs(sandbox)).token).not.toBe('told')
    expect((await as('DELETE', own)).status).toBe(204)
  })

  test('with a cut connection after it', async () => {
    await control.fault({ keep: ['role'], store: { name: 'Stored' }, reset: 'after' })
    await expect(update()).rejects.toThrow()
    const { before, after } = await only(control)
    expect(after.relationships).toEqual(before.relationships)
    expect(after.attributes).toMatchObject({ name: 'Stored', reference: 'asked' })
  })

  test('a name that no resource has is refused, one that another type has does nothing', async () => {
    await expect(control.fault({ keep: ['roles'] })).rejects.toThrow('has a member roles')
    await control.fault({ keep: ['can_update'], store: { can_read: true } })
    await update()
    const { attributes } = await stored()
    expect(attributes.name).toBe('Asked')
    expect(attributes).not.toHaveProperty('can_read')
  })
})

describe('Apinizer', () => {
  const project = '/apiops/projects/MyProject/credentials/'
  const [old, fresh] = ['OldSecurePassword123!', 'NewSecurePassword123!']
  let control: Control
  beforeEach(async () => {
    control = controlOf(sandbox.urls.apinizer)
    await control.reset()
  })

  const send = async (method: string, path = project, body?: unknown) => {
    const reply = await call(method, `${sandbox.urls.apinizer}${path}`, {
      headers: apinizerHeaders,
      ...(body !== undefined && { body }),
    })
    expect([reply.status, reply.json.status]).toEqual([200, 'SUCCESS'])
    return reply.json
  }
  const update = (change: object = {}) => send('PUT', project, credential('api-user', change))
  const list = async (): Promise<Json[]> => (await send('GET')).resultList
  const stored = (username = 'api-user') => control.state('credential', `MyProject/${username}`)
  const login = async (password: string, username = 'api-user') =>
    (await control.send('POST', '/login', { project: 'MyProject', username, password })).success as boolean

  test('keep members, and take the rest', async () => {
    await control.fault({ keep: ['fullName', 'roleNameList', 'expireDate'] })
    expect((await update({ roleNameList: ['READER'] })).deploymentResult.success).toBe(true)
    const truth = {
      fullName: 'API User',
      roleNameList: ['API_USER'],
      expireDate: '2030-12-31T23:59:59.000Z',
      email: 'updated@example.com',
      ipList: [],
    }
    expect(await stored()).toMatchObject(truth)
    expect(await only(control)).toMatchObject({ body: { fullName: 'Updated User' }, after: truth })
    expect((await list())[0]).toMatchObject(truth)
  })

  test.each(['PUT', 'PATCH'])('keep the password: %s, and the old one still opens', async (method) => {
    await control.fault({ keep: ['password'] })
    await (method === 'PUT' ? update() : send('PATCH', `${project}api-user/`, { password: fresh }))
    expect([await login(old), await login(fresh)]).toEqual([true, false])
    const { before, after, body } = await only(control)
    expect(after.passwordSha256).toBe(before.passwordSha256)
    expect(body.passwordSha256).not.toBe(before.passwordSha256)
  })

  test('keep *: everything is as it was, password included', async () => {
    const before = await stored()
    await control.fault({ keep: ['*'] })
    await update({ metadata: [{ key: 'asked' }] })
    expect(await stored()).toEqual(before)
    expect(await only(control)).toMatchObject({ before, after: before })
    expect(await login(old)).toBe(true)
  })

  test('store members, the password as its digest', async () => {
    await control.fault({ store: { email: 'UPPER@EXAMPLE.COM', password: 'St0red!', metadata: null } })
    await update()
    expect([await login(old), await login(fresh), await login('St0red!')]).toEqual([false, false, true])
    const { after } = await only(control)
    expect(after).toMatchObject({ email: 'UPPER@EXAMPLE.COM', metadata: null, fullName: 'Updated User' })
    expect(after).not.toHaveProperty('password')
    expect(await stored()).toEqual(after)
    expect((await list())[0]).toMatchObject({ email: 'UPPER@EXAMPLE.COM', metadata: null, password: null })
  })

  test('store a username: the credential stands under that one alone', async () => {
    await control.fault({ store: { username: 'API-USER' } })
    await update()
    expect((await list()).map(({ username }) => username)).toEqual(['other user', 'API-USER'])
    expect(await login(fresh, 'API-USER')).toBe(true)
    expect(await only(control)).toMatchObject({
      id: 'MyProject/api-user',
      before: { username: 'api-user' },
      after: { username: 'API-USER' },
    })
  })

  test('a create stores what it is told to, and has nothing to keep', async () => {
    await control.fault({ keep: ['*'], store: { username: 'fresh', description: 'stored' } })
    await send('POST', project, credential('Fresh'))
    expect(await stored('fresh')).toMatchObject({ description: 'stored', fullName: 'Updated User' })
    expect(await only(control)).toMatchObject({ id: 'MyProject/fresh', before: null })
  })

  test('tell and omit in every row of the list', async () => {
    const truth = await list()
    const tell = { fullName: 'Told', enabled: false, password: 'told', extra: [] }
    await control.fault({ tell, omit: ['metadata', 'ipList'] })
    const rows = await list()
    expect(rows).toHaveLength(truth.length)
    for (const [at, row] of rows.entries()) {
      const { metadata: _, ipList: __, ...rest } = truth[at]
      expect(row).toEqual({ ...rest, ...tell })
    }
    expect(await list()).toEqual(truth)
    expect(await stored()).toMatchObject({ fullName: 'API User', enabled: true })
    expect(await control.ledger()).toEqual([])
  })

  test('a write tells nothing of the credential, whatever it is told to', async () => {
    await control.fault({ tell: { fullName: 'Told', status: 'FAILURE' }, omit: ['deploymentResult'] })
    expect(Object.keys(await update())).toEqual(['status', 'deploymentResult'])
  })

  test('with a deployment that failed in part, and a cut connection', async () => {
    await control.fault({ keep: ['email'], partialDeployment: { level: 'top' } })
    expect((await update()).deploymentResult.success).toBe(false)
    expect((await stored()).email).toBe('user@example.com')
    await control.fault({ keep: ['password'], store: { email: 'stored@example.com' }, reset: 'after' })
    await expect(update({ password: 'Br4nd-new!' })).rejects.toThrow()
    const [, { before, after }] = await control.ledger()
    expect(after).toEqual({ ...before, email: 'stored@example.com' })
    expect(await login(fresh)).toBe(true)
  })

  test('a name that no credential has is refused', async () => {
    await expect(control.fault({ store: { name: 'x' } })).rejects.toThrow('has a member name')
    await expect(control.fault({ keep: ['passwordSha256'] })).rejects.toThrow('has a member passwordSha256')
  })
})

import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { request as httpRequest } from 'node:http'
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
  patch,
} from '../harness/sandbox-calls.ts'

let sandbox: Sandbox
let commerceLayer: Control
let discue: Control
let apinizer: Control

beforeAll(async () => {
  sandbox = await startSandbox()
  commerceLayer = controlOf(sandbox.urls.commerceLayer)
  discue = controlOf(sandbox.urls.discue)
  apinizer = controlOf(sandbox.urls.apinizer)
})
afterAll(() => sandbox.close())
beforeEach(() => Promise.all([commerceLayer.reset(), discue.reset(), apinizer.reset()]))

const keys = (value: object) => Object.keys(value)
const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')
const links = { links: { self: expect.any(String), related: expect.any(String) } }

describe("the examples of the providers' documentation", () => {
  test('update an API credential', async () => {
    const as = await commerceLayerAs(sandbox)
    const { status, json, headers } = await as(
      'PATCH',
      '/api/api_credentials/xYZkjABcde',
      patch(
        'api_credentials',
        'xYZkjABcde',
        { reference: 'ANY-EXTERNAL-REFEFERNCE' },
        { role: { data: { type: 'roles', id: 'ABCRtyUpBa' } } },
      ),
    )
    expect(status).toBe(200)
    expect(headers.get('content-type')).toBe('application/vnd.api+json')
    expect(keys(json)).toEqual(['data'])
    expect(keys(json.data)).toEqual(['id', 'type', 'links', 'attributes', 'relationships'])
    expect(json.data.links).toEqual({
      self: 'https://provisioning.commercelayer.io/api/api_credentials/xYZkjABcde',
    })
    expect(keys(json.data.attributes)).toEqual([
      'name',
      'kind',
      'confidential',
      'redirect_uri',
      'client_id',
      'client_secret',
      'scopes',
      'expires_in',
      'mode',
      'custom',
      'created_at',
      'updated_at',
      'reference',
      'reference_origin',
      'metadata',
    ])
    expect(json.data.relationships).toEqual({ organization: links, role: links })
    expect(json.data.relationships.role.links.related).toBe(
      'https://provisioning.commercelayer.io/api/api_credentials/xYZkjABcde/role',
    )
    expect(json.data.attributes).toMatchObject({ name: 'My app', reference: 'ANY-EXTERNAL-REFEFERNCE' })
    expect((await commerceLayer.state('api_credentials', 'xYZkjABcde')).relationships.role).toEqual({
      data: { type: 'roles', id: 'ABCRtyUpBa' },
    })
  })

  test('update a role', async () => {
    const as = await commerceLayerAs(sandbox)
    const body = patch('roles', 'xYZkjABcde', { reference: 'ANY-EXTERNAL-REFEFERNCE' })
    const { status, json } = await as('PATCH', '/api/roles/xYZkjABcde', body)
    expect(status).toBe(200)
    expect(keys(json.data.attributes)).toEqual([
      'name',
      'kind',
      'created_at',
      'updated_at',
      'reference',
      'reference_origin',
      'metadata',
    ])
    expect(json.data.relationships).toEqual({
      organization: links,
      permissions: links,
      memberships: links,
      api_credentials: links,
      versions: links,
    })
    expect(json.data.attributes).toMatchObject({ name: 'Custom role', kind: 'custom' })
  })

  test('update a permission', async () => {
    const as = await commerceLayerAs(sandbox)
    const body = patch('permissions', 'xYZkjABcde', { reference: 'ANY-EXTERNAL-REFEFERNCE' })
    const { status, json } = await as('PATCH', '/api/permissions/xYZkjABcde', body)
    expect(status).toBe(200)
    expect(keys(json.data.attributes)).toEqual([
      'can_create',
      'can_read',
      'can_update',
      'can_destroy',
      'subject',
      'restrictions',
      'created_at',
      'updated_at',
      'reference',
      'reference_origin',
      'metadata',
    ])
    expect(json.data.relationships).toEqual({ organization: links, role: links, versions: links })
  })

  test('update an api client', async () => {
    const id = '5bc2be68-7498-4853-aa64-4be0ca62934e'
    const body = { id, name: 'example.com/dev' }
    const { status, json } = await call('PUT', `${sandbox.urls.discue}/api_clients/${id}`, {
      headers: discueHeaders,
      body,
    })
    expect(status).toBe(200)
    expect(json).toEqual({
      api_client: body,
      _links: { self: { href: `https://api.discue.io/api_clients/${id}` } },
    })
  })

  test.each([
    { description: 'Updated description', roleNameList: ['API_USER'], ipList: [], expireDate: null },
    {
      description: 'Updated credential description',
      roleNameList: ['API_USER', 'DEVELOPER'],
      ipList: ['192.168.1.100'],
      expireDate: '2025-12-31T23:59:59.000Z',
    },
  ])('update a credential: $description', async (more) => {
    const { status, json } = await call(
      'PUT',
      `${sandbox.urls.apinizer}/apiops/projects/MyProject/credentials/`,
      { headers: apinizerHeaders, body: credential('api-user', more) },
    )
    expect(status).toBe(200)
    expect(keys(json)).toEqual(['status', 'deploymentResult'])
    expect(json.status).toBe('SUCCESS')
    expect(json.deploymentResult.success).toBe(true)
    expect(await apinizer.state('credential', 'MyProject/api-user')).toMatchObject({
      email: 'updated@example.com',
      fullName: 'Updated User',
      ...more,
      passwordSha256: sha256('NewSecurePassword123!'),
    })
  })
})

describe('the ledger', () => {
  const putClient = (id: string, name: string, headers: Record<string, string> = {}) =>
    call('PUT', `${sandbox.urls.discue}/api_clients/${id}`, {
      headers: { ...discueHeaders, ...headers },
      body: { name },
    })
  const staging = 'V1StGXR8_Z5jdHi6B-myT'

  test('shows what was applied, in order, with before and after', async () => {
    await putClient(staging, 'one', { 'x-request-id': 'request-1', traceparent: '00-1-2-01' })
    await putClient('unknown-client', 'two')
    await putClient(staging, 'three')
    const entries = await discue.ledger()
    expect(entries).toEqual([
      {
        seq: 1,
        at: expect.any(String),
        operation: 'PUT api_clients',
        id: staging,
        path: `/v1/api_clients/${staging}`,
        body: { name: 'one' },
        before: expect.objectContaining({ name: 'example.com/staging' }),
        after: expect.objectContaining({ name: 'one' }),
        overlapped: false,
        requestId: 'request-1',
        traceparent: '00-1-2-01',
      },
      expect.objectContaining({ seq: 2, body: { name: 'three' } }),
    ])
    expect((await discue.requests()).map(({ seq, status, applied }) => ({ seq, status, applied }))).toEqual([
      { seq: 1, status: 200, applied: true },
      { seq: 2, status: 404, applied: false },
      { seq: 3, status: 200, applied: true },
    ])
  })

  test('marks both of two writes for one resource that were in flight together, and no others', async () => {
    await discue.fault({ delayAfterMs: 150 }, { match: { method: 'PUT' } })
    const slow = putClient(staging, 'slow')
    await expect.poll(async () => (await discue.ledger()).length).toBe(1)
    await putClient(staging, 'meanwhile')
    await putClient('_A36cABAOqhBdNeZeXB0l', 'elsewhere')
    await slow
    await putClient(staging, 'afterwards')
    expect((await discue.ledger()).map(({ body, overlapped }) => [body.name, overlapped])).toEqual([
      ['slow', true],
      ['meanwhile', true],
      ['elsewhere', false],
      ['afterwards', false],
    ])
  })

  test('a write that was refused overlaps as well', async () => {
    await discue.fault({ delayBeforeMs: 200, status: 500 }, { match: { method: 'PUT' } })
    const refused = putClient(staging, 'never')
    await expect.poll(async () => (await discue.requests()).length).toBe(1)
    await new Promise((resolve) => setTimeout(resolve, 20))
    await putClient(staging, 'meanwhile')
    expect((await refused).status).toBe(500)
    expect((await discue.ledger()).map(({ overlapped }) => overlapped)).toEqual([true])
  })

  test('never holds a password or a secret metadata value in clear', async () => {
    const password = 'Canary-Passw0rd!'
    const metadata = [
      { key: 'tier', value: 'gold' },
      { key: 'pin', value: 'canary-pin', secret: true },
    ]
    const project = `${sandbox.urls.apinizer}/apiops/projects/MyProject/credentials/`
    await call('PUT', project, {
      headers: apinizerHeaders,
      body: credential('api-user', { password, metadata }),
    })
    await call('PATCH', `${project}api-user/`, { headers: apinizerHeaders, body: { password } })
    const [put, patched] = await apinizer.ledger()
    expect(put.body.passwordSha256).toBe(sha256(password))
    expect(put.after).toMatchObject({
      passwordSha256: sha256(password),
      metadata: [{ value: 'gold' }, { valueSha256: sha256('canary-pin') }],
    })
    expect(put.before.passwordSha256).not.toBe(put.after.passwordSha256)
    expect(patched.body).toEqual({ passwordSha256: sha256(password) })
    const everything = JSON.stringify([
      await apinizer.ledger(),
      await apinizer.requests(),
      await apinizer.state('credential', 'MyProject/api-user'),
    ])
    expect(everything).not.toContain(password)
    expect(everything).not.toContain('canary-pin')
    expect(everything).not.toContain('sandbox-token')
    expect(everything).toContain('[masked]')
  })

  test('pages by sequence number and filters by id', async () => {
    for (const name of ['a', 'b', 'c']) await putClient(staging, name)
    expect((await discue.send('GET', '/ledger?after=2')).entries).toHaveLength(1)
    expect((await discue.send('GET', '/ledger?id=other')).entries).toHaveLength(0)
    expect(await discue.send('GET', '/ledger')).toMatchObject({ dropped: 0 })
    expect((await discue.send('GET', '/requests?after=1')).entries).toHaveLength(2)
  })
})

describe('the control API', () => {
  test('is out of reach for whoever presents provider credentials', async () => {
    const reply = await call('POST', `${new URL(sandbox.urls.discue).origin}/_sandbox/reset`, {
      headers: discueHeaders,
    })
    expect(reply.status).toBe(404)
    expect((await discue.requests()).map(({ path }) => path)).toEqual(['/_sandbox/reset'])
  })

  test('shows the request target exactly as it was received', async () => {
    const { hostname, port } = new URL(sandbox.urls.apinizer)
    const path = '/apiops/../_sandbox/..%2freset?a=%20b'
    const request = httpRequest({ hostname, port, path, method: 'PUT', headers: apinizerHeaders }).end('{}')
    const [response] = await once(request, 'response')
    response.resume()
    expect(response.statusCode).toBe(404)
    expect(await apinizer.requests()).toEqual([
      {
        seq: 1,
        at: expect.any(String),
        method: 'PUT',
        path,
        headers: expect.objectContaining({ authorization: '[masked]' }),
        status: 404,
        applied: false,
      },
    ])
  })

  test('mints, reads and overwrites resources', async () => {
    const minted = await commerceLayer.mint('api_credentials', 'mInTeDcReD', {
      attributes: { name: 'Minted' },
    })
    expect(minted).toEqual(await commerceLayer.state('api_credentials', 'mInTeDcReD'))
    expect(minted.attributes).toMatchObject({ name: 'Minted', kind: 'integration' })
    await discue.mint('api_clients', 'minted-client', { name: 'minted.example/one' })
    await apinizer.mint('credential', 'MyProject/minted user', { password: 'First1!', description: 'x' })
    await apinizer.mint('credential', 'MyProject/minted user', { enabled: false })
    expect(await apinizer.state('credential', 'MyProject/minted user')).toMatchObject({
      description: 'x',
      enabled: false,
      passwordSha256: sha256('First1!'),
    })
    expect(await discue.ledger()).toEqual([])
    await expect(discue.state('api_clients', 'nobody')).rejects.toThrow('404')
    await expect(apinizer.mint('credential', 'no-project')).rejects.toThrow('400')
  })

  test('a reset brings everything back and cuts what was still waiting', async () => {
    await discue.settings({ rateLimit: { perMinute: 3 } })
    await discue.fault({ delayBeforeMs: 100 })
    const waiting = call('PUT', `${sandbox.urls.discue}/api_clients/V1StGXR8_Z5jdHi6B-myT`, {
      headers: discueHeaders,
      body: { name: 'too late' },
    })
    const lost = expect(waiting).rejects.toThrow()
    await expect.poll(async () => (await discue.requests()).length).toBe(1)
    await discue.reset()
    await lost
    expect(await discue.ledger()).toEqual([])
    expect(await discue.requests()).toEqual([])
    expect(await discue.send('GET', '/settings')).toMatchObject({ rateLimit: null })
    expect(await discue.state('api_clients', 'V1StGXR8_Z5jdHi6B-myT')).toMatchObject({
      name: 'example.com/staging',
    })
  })

  test('refuses what it does not understand', async () => {
    await expect(discue.fault({ resett: 'before' })).rejects.toThrow('400')
    await expect(discue.fault({ failure: { resultMessage: 'x' } })).rejects.toThrow('400')
    await expect(apinizer.fault({ partialDeployment: { level: 'pod' } })).rejects.toThrow('400')
    await expect(discue.settings({ lockout: 3 })).rejects.toThrow('400')
    await expect(discue.send('POST', '/clock', {})).rejects.toThrow('400')
    await expect(discue.send('GET', '/nothing')).rejects.toThrow('404')
  })
})

describe('the command', () => {
  test('prints where the providers are and stops on SIGTERM', async () => {
    const env = {
      ...process.env,
      SANDBOX_COMMERCE_LAYER_PORT: '0',
      SANDBOX_DISCUE_PORT: '0',
      SANDBOX_APINIZER_PORT: '0',
    }
    const child = spawn(process.execPath, ['sandbox/main.ts'], { env, stdio: ['ignore', 'pipe', 'inherit'] })
    let printed = ''
    for await (const chunk of child.stdout) {
      printed += String(chunk)
      if (printed.includes('/apiops/projects/')) break
    }
    const url = /http:\/\/127\.0\.0\.1:\d+(?=\/v1)/.exec(printed)?.[0]
    expect((await call('GET', `${url}/_sandbox/ledger`)).json.entries).toEqual([])
    child.kill('SIGTERM')
    const [code] = await once(child, 'exit')
    expect(code).toBe(0)
  })
})

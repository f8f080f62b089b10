import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Sandbox, startSandbox } from '../../sandbox/server.ts'
import {
  apinizerHeaders,
  call,
  type Control,
  controlOf,
  credential,
  type Json,
} from '../harness/sandbox-calls.ts'

let sandbox: Sandbox
let control: Control

beforeAll(async () => {
  sandbox = await startSandbox()
  control = controlOf(sandbox.urls.apinizer)
})
afterAll(() => sandbox.close())
beforeEach(() => control.reset())

const project = '/apiops/projects/MyProject/credentials/'

const as = (token: string) => (method: string, path: string, body?: unknown) =>
  call(method, `${sandbox.urls.apinizer}${path}`, {
    headers: { ...apinizerHeaders, authorization: `Bearer ${token}` },
    ...(body !== undefined && { body }),
  })
const admin = as('sandbox-token')
const put = (body: unknown) => admin('PUT', project, body)
const login = async (username: string, password: string, of = 'MyProject') =>
  (await control.send('POST', '/login', { project: of, username, password })).success as boolean

/** The meaning of a 400 is in its text alone; these are the published texts' common parts. */
const missingPermission = /required permission|does not have privilege/i
const notFound = /^credential .*(was )?not found|\bproject\b.*(is|was) not found/i
const conflict = /already used|already a credential|already exist|unique across/i
const invalid = /can not be empty|must be|not valid|invalid/i

function meaning({ status, json }: { status: number; json: Json }): [number, string] {
  const message: string = json.resultMessage ?? json.error_description
  if (missingPermission.test(message) && !/not found/i.test(message)) return [status, 'forbidden']
  if (notFound.test(message)) return [status, 'absent']
  if (conflict.test(message)) return [status, 'conflict']
  return [status, invalid.test(message) ? 'invalid' : 'other']
}

describe('paths', () => {
  test.each([
    ['GET', '/apiops/projects/MyProject/credentials', 404],
    ['PUT', '/apiops/projects/MyProject/credentials', 404],
    ['PATCH', `${project}api-user`, 404],
    ['GET', '/apiops/auth/token/', 404],
    ['GET', `${project}api-user/`, 405],
    ['PUT', `${project}api-user/`, 405],
    ['DELETE', project, 405],
    ['PUT', '/apiops/projects//credentials/', 404],
    ['GET', '/other', 404],
  ])('%s %s answers %i', async (method, path, status) => {
    const reply = await admin(method, path, method === 'GET' ? undefined : {})
    expect(reply.status).toBe(status)
    expect(reply.json).toEqual({ status: 'FAILURE', resultMessage: expect.any(String) })
    expect(reply.headers.get('content-type')).toBe('application/json;charset=UTF-8')
  })

  test('the health check needs no token, the greeting does', async () => {
    const healthy = await call('GET', `${sandbox.urls.apinizer}/apiops/test/healthcheck`)
    expect([healthy.status, healthy.text]).toEqual([200, 'OK'])
    expect((await admin('GET', '/apiops/test/hello/world')).text).toContain('world')
    expect((await as('nobody')('GET', '/apiops/test/hello/world')).status).toBe(401)
  })
})

describe('access', () => {
  test('a missing, an unknown and an expired token have three texts', async () => {
    const anonymous = await call('GET', `${sandbox.urls.apinizer}${project}`)
    const replies = [
      anonymous,
      await as('nobody')('GET', project),
      await as('sandbox-token-expired')('GET', project),
    ]
    for (const reply of replies)
      expect([reply.status, reply.json]).toEqual([
        401,
        { status: 'FAILURE', resultMessage: expect.any(String) },
      ])
    expect(new Set(replies.map((reply) => reply.json.resultMessage)).size).toBe(3)
  })

  test('lacking a permission, a project or a credential all answer 400', async () => {
    const reader = as('sandbox-token-readonly')
    expect((await reader('GET', project)).status).toBe(200)
    expect(meaning(await reader('PUT', project, credential('api-user')))).toEqual([400, 'forbidden'])
    const elsewhere = await reader(
      'PUT',
      '/apiops/projects/OtherProject/credentials/',
      credential('elsewhere'),
    )
    expect(meaning(elsewhere)).toEqual([400, 'absent'])
    expect(elsewhere.json.resultMessage).toMatch(missingPermission)
    const nowhere = await admin('PUT', '/apiops/projects/myproject/credentials/', credential('api-user'))
    expect(meaning(nowhere)).toEqual([400, 'absent'])
    expect(meaning(await put(credential('nobody')))).toEqual([400, 'absent'])
    expect(meaning(await put(credential('elsewhere')))).toEqual([400, 'absent'])
    expect(meaning(await admin('PATCH', `${project}nobody/`, { password: 'x' }))).toEqual([400, 'absent'])
    expect(meaning(await admin('DELETE', `${project}nobody/`))).toEqual([400, 'absent'])
    expect(await control.ledger()).toEqual([])
  })

  test('a token without the right to deploy saves and deploys nothing, or fails, as configured', async () => {
    const saver = as('sandbox-token-no-deploy')
    const saved = await saver('PUT', project, credential('api-user'))
    expect(saved.status).toBe(200)
    expect(saved.json).toMatchObject({
      status: 'SUCCESS',
      deploymentResult: { success: false, detailList: [] },
    })
    expect(await control.ledger()).toHaveLength(1)
    await control.settings({ withoutDeployPermission: 'fails' })
    expect(meaning(await saver('PUT', project, credential('api-user')))).toEqual([400, 'forbidden'])
    expect(await control.ledger()).toHaveLength(1)
  })

  describe('the token endpoint', () => {
    const token = (form: Record<string, string>) =>
      call('POST', `${sandbox.urls.apinizer}/apiops/auth/token`, {
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: new URLSearchParams(form).toString(),
      })
    const grant = {
      grant_type: 'client_credentials',
      client_id: 'sandbox-user',
      client_secret: 'sandbox-password',
    }

    test('issues a token for an hour', async () => {
      const { json } = await token(grant)
      expect(json).toEqual({ access_token: expect.any(String), token_type: 'Bearer', expires_in: 3600 })
      const user = as(json.access_token)
      expect((await user('GET', project)).status).toBe(200)
      await control.advance(3_600_001)
      expect((await user('GET', project)).status).toBe(401)
      expect((await admin('GET', project)).status).toBe(200)
    })

    test('can answer as older pages show it', async () => {
      await control.settings({ expiresIn: 'epoch-milliseconds', tokenType: false })
      const { json } = await token(grant)
      expect(Object.keys(json)).toEqual(['access_token', 'expires_in'])
      expect(json.expires_in).toBeGreaterThan(10 ** 12)
    })

    test('refuses in the shape of OAuth', async () => {
      const wrong = await token({ ...grant, client_secret: 'x' })
      expect([wrong.status, wrong.json.error]).toEqual([401, 'unauthorized_client'])
      const other = await token({ ...grant, grant_type: 'password' })
      expect([other.status, other.json.error]).toEqual([400, 'unsupported_grant_type'])
    })
  })
})

describe('an update', () => {
  const fields = Object.keys(credential('api-user'))

  test.each(fields)('needs %s', async (name) => {
    const { [name]: _, ...rest } = credential('api-user') as Record<string, unknown>
    expect(meaning(await put(rest))).toEqual([400, 'invalid'])
    expect(await control.ledger()).toEqual([])
  })

  test.each([
    ...['username', 'password', 'email', 'fullName'].flatMap((name) => [{ [name]: '' }, { [name]: null }]),
    { roleNameList: null },
    { ipList: null },
    { enabled: null },
    { enabled: 'true' },
    { roleNameList: ['NO_SUCH_ROLE'] },
    { expireDate: 'tomorrow' },
    { expireDate: '' },
    { metadata: {} },
    { metadata: [{ key: 'x', jwtClaimName: 'sub' }] },
  ])('refuses %j', async (change) => {
    expect(meaning(await put(credential('api-user', change)))).toEqual([400, 'invalid'])
  })

  test.each([
    { description: null },
    { description: '' },
    { expireDate: null },
    { roleNameList: [] },
    { ipList: [] },
  ])('accepts %j', async (change) => {
    expect((await put(credential('api-user', change))).status).toBe(200)
    expect(await control.state('credential', 'MyProject/api-user')).toMatchObject(change)
  })

  test('replaces everything, shows neither credential nor password, and the new password works', async () => {
    expect(await login('api-user', 'OldSecurePassword123!')).toBe(true)
    const reply = await put(credential('api-user', { password: 'Br4nd-new!' }))
    expect(reply.text).not.toContain('Br4nd-new!')
    expect(reply.json).not.toHaveProperty('resultList')
    expect(await login('api-user', 'OldSecurePassword123!')).toBe(false)
    expect(await login('api-user', 'Br4nd-new!')).toBe(true)
    const { json } = await admin('GET', project)
    expect(json.resultList.find((one: Json) => one.username === 'api-user')).toEqual({
      ...credential('api-user'),
      password: null,
      metadata: [],
    })
  })

  test('clears metadata that was left out, and never lists a secret value', async () => {
    const metadata = [
      { key: 'tier', value: 'gold' },
      { key: 'pin', value: 'canary-pin', secret: true },
    ]
    await control.mint('credential', 'MyProject/with metadata', { metadata })
    const listed = await admin('GET', project)
    expect(listed.text).not.toContain('canary-pin')
    expect(listed.json.resultList.at(-1).metadata).toMatchObject([
      { key: 'tier', value: 'gold' },
      { key: 'pin', value: null, secret: true },
    ])
    await put(credential('with metadata'))
    expect((await control.state('credential', 'MyProject/with metadata')).metadata).toEqual([])
  })

  test('refuses what is not JSON', async () => {
    expect((await put('{')).status).toBe(400)
    const form = await call('PUT', `${sandbox.urls.apinizer}${project}`, {
      headers: { ...apinizerHeaders, 'content-type': 'text/plain' },
      body: '{}',
    })
    expect(form.status).toBe(415)
  })
})

test('a patch changes the password and nothing else', async () => {
  const before = await control.state('credential', 'MyProject/other user')
  const path = `${project}other%20user/`
  const reply = await admin('PATCH', path, { password: 'P4tched!', email: 'ignored@example.com' })
  expect(reply.json).toMatchObject({ status: 'SUCCESS', deploymentResult: { success: true } })
  const after = await control.state('credential', 'MyProject/other user')
  expect({ ...after, passwordSha256: '' }).toEqual({ ...before, passwordSha256: '' })
  expect(await login('other user', 'P4tched!')).toBe(true)
  expect(meaning(await admin('PATCH', path, { password: '' }))).toEqual([400, 'invalid'])
  expect((await control.ledger()).map(({ operation, id }) => [operation, id])).toEqual([
    ['PATCH credentials', 'MyProject/other user'],
  ])
})

test('create, log in, disable, expire, delete', async () => {
  const minimal = { username: 'fresh', password: 'Fr3sh!', email: 'f@example.com', fullName: 'Fresh' }
  const created = await admin('POST', project, minimal)
  expect([created.status, created.json.status]).toEqual([200, 'SUCCESS'])
  expect(await login('fresh', 'Fr3sh!')).toBe(true)
  expect(meaning(await admin('POST', '/apiops/projects/OtherProject/credentials/', minimal))).toEqual([
    400,
    'conflict',
  ])

  await put(credential('fresh', { password: 'Fr3sh!', enabled: false }))
  expect(await login('fresh', 'Fr3sh!')).toBe(false)
  await put(credential('fresh', { password: 'Fr3sh!', expireDate: '2001-01-01T00:00:00.000Z' }))
  expect(await login('fresh', 'Fr3sh!')).toBe(false)
  await put(credential('fresh', { password: 'Fr3sh!' }))
  expect(await login('fresh', 'Fr3sh!')).toBe(true)

  expect((await admin('DELETE', `${project}fresh/`)).json.status).toBe('SUCCESS')
  expect(await login('fresh', 'Fr3sh!')).toBe(false)
})

test('the project admin is the global scope', async () => {
  const { json } = await admin('GET', '/apiops/projects/admin/credentials/')
  expect(json.resultList.map((one: Json) => one.username)).toEqual([
    'api-user',
    'other user',
    'elsewhere',
    'global-user',
  ])
  expect(json.resultCount).toBe(4)
  expect((await admin('GET', project)).json.resultCount).toBe(2)
  expect((await admin('PUT', '/apiops/projects/admin/credentials/', credential('elsewhere'))).status).toBe(
    200,
  )
  expect((await control.ledger())[0].id).toBe('OtherProject/elsewhere')
})

describe('envelopes', () => {
  test('v1: success and error, and a real 404 for a project', async () => {
    await control.settings({ envelope: 'v1' })
    const done = await put(credential('api-user'))
    expect(Object.keys(done.json)).toEqual(['success', 'deploymentResult'])
    expect((await put(credential('nobody'))).json).toEqual({
      error: 'bad_request',
      error_description: expect.stringMatching(notFound),
    })
    const nowhere = await admin('GET', '/apiops/projects/nowhere/credentials/')
    expect([nowhere.status, nowhere.json.error]).toEqual([404, 'not_found'])
    expect((await as('x')('GET', project)).json.error).toBe('unauthorized_client')
  })

  test('v0: no word about a deployment, and no empty members', async () => {
    await control.settings({ envelope: 'v0' })
    expect((await put(credential('api-user'))).json).toEqual({ status: 'SUCCESS' })
    const [first] = (await admin('GET', project)).json.resultList
    expect(first).not.toHaveProperty('password')
    expect(first).not.toHaveProperty('expireDate')
    expect((await put(credential('nobody'))).json).toHaveProperty('error_description')
  })

  test('empty members can be left out of any read', async () => {
    await control.settings({ nulls: 'omit' })
    const [first] = (await admin('GET', project)).json.resultList
    expect(first).not.toHaveProperty('password')
  })

  test('a deployment is reported environment by environment, pod by pod', async () => {
    const { deploymentResult } = (await put(credential('api-user'))).json
    expect(deploymentResult).toEqual({
      success: true,
      responseTime: expect.any(Number),
      detailList: [
        {
          envName: 'production',
          success: true,
          responseTime: expect.any(Number),
          detailList: [
            expect.objectContaining({ podName: 'worker-7c9', success: true }),
            expect.objectContaining({ podName: 'worker-9d2', success: true }),
          ],
        },
        expect.objectContaining({ envName: 'staging', podName: 'worker-1aa', podIp: expect.any(String) }),
      ],
    })
    await control.settings({ deployment: 'environmentResults' })
    expect((await put(credential('api-user'))).json.deploymentResult).toEqual({
      success: true,
      message: expect.any(String),
      environmentResults: [
        { environmentName: 'production', success: true, message: expect.any(String) },
        { environmentName: 'staging', success: true, message: expect.any(String) },
      ],
    })
  })
})

describe('deployments that fail in part', () => {
  const degraded = async (partialDeployment: object) => {
    await control.fault({ partialDeployment }, { match: { method: 'PUT' } })
    const reply = await put(credential('api-user'))
    expect([reply.status, reply.json.status]).toEqual([200, 'SUCCESS'])
    expect(await control.ledger()).toHaveLength(1)
    return reply.json.deploymentResult
  }

  test('at the top', async () => {
    const result = await degraded({ environments: ['staging'], level: 'top' })
    expect(result.success).toBe(false)
    expect(result.detailList.map((one: Json) => [one.envName, one.success])).toEqual([
      ['production', true],
      ['staging', false],
    ])
  })

  test('at the top, with nothing deployed', async () => {
    expect(await degraded({ level: 'top' })).toMatchObject({ success: false, detailList: [] })
  })

  test('in an environment only', async () => {
    const result = await degraded({ environments: ['staging'], level: 'environment' })
    expect(result.success).toBe(true)
    expect(result.detailList[1].success).toBe(false)
  })

  test.each(['production', 'staging'])('in a pod of %s only', async (name) => {
    const result = await degraded({ environments: [name], level: 'pod' })
    const entry = result.detailList.find((one: Json) => one.envName === name)
    expect([result.success, entry.success, entry.detailList.at(-1).success]).toEqual([true, true, false])
  })

  test('in the other shape', async () => {
    await control.settings({ deployment: 'environmentResults' })
    const result = await degraded({ environments: ['production'], level: 'environment' })
    expect(result.environmentResults.map((one: Json) => one.success)).toEqual([false, true])
  })

  test('without a word', async () => {
    expect(await degraded({ missing: true })).toBeUndefined()
  })

  test('and FAILURE in any status', async () => {
    await control.fault({ failure: { resultMessage: 'Not today', status: 200 } })
    const reply = await put(credential('api-user'))
    expect([reply.status, reply.json]).toEqual([200, { status: 'FAILURE', resultMessage: 'Not today' }])
    expect(await control.ledger()).toEqual([])
  })
})

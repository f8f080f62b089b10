import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { apinizer } from '../../adapters/apinizer.ts'
import type { Json, JsonObject } from '../../src/lib/json.ts'
import type { UpstreamRequest } from '../../src/model/adapter.ts'
import type { AnyValues } from '../../src/model/fields.ts'
import { Unreadable } from '../../src/model/unreadable.ts'
import { pathOf, buildUrl } from '../../src/upstream/send.ts'
import { credentialList, deployedEverywhere, listedCredential } from './documented.ts'
import { answer, open, resultOf, translate } from './translation.ts'
import { bodiesOf } from './values.ts'

const credential = translate('apinizer', 'credential', 'apinizer:MyProject:api-user')
const secret = 'NewSecurePassword123!'

const without = (item: JsonObject, ...names: string[]): JsonObject =>
  Object.fromEntries(Object.entries(item).filter(([name]) => !names.includes(name)))
const readItem = (...items: JsonObject[]) => credential.read(answer(200, credentialList(...items)))
const planFor = (item: JsonObject, body: JsonObject) => credential.plan(body, credentialList(item))
const bodyFor = (item: JsonObject, body: JsonObject) => open(resultOf(planFor(item, body)).body)
const pathFor = (request: UpstreamRequest) => {
  const url = buildUrl('https://apinizer.example.com', request)
  return url && pathOf(url)
}

test('takes names of projects and credentials as they are, up to a length', () => {
  const { key, checkKey } = credential.spec
  expect(key).toEqual(['projectName', 'username'])
  for (const name of ['MyProject', 'other user', 'Über', 'a@b.example', "o'brien(1)"]) {
    expect(checkKey(name)).toBeUndefined()
  }
  expect(checkKey('x'.repeat(255))).toBeUndefined()
  expect(checkKey('x'.repeat(256))).toBeDefined()
})

describe('a read', () => {
  test('asks for the list of the project: there is no other read', () => {
    const request = credential.spec.read?.request({ projectName: 'My Project', username: 'api-user' })
    expect(request).toMatchObject({ method: 'GET', headers: {}, list: true })
    expect(request && pathFor(request)).toBe('/apiops/projects/My%20Project/credentials/')
  })

  test.each(['description', 'expireDate'])('takes an omitted %s for null', (name) => {
    const field = { description: 'description', expireDate: 'expiresAt' }[name] ?? ''
    expect(resultOf(readItem(without(listedCredential, name))).values).toHaveProperty(field, null)
    expect(resultOf(readItem({ ...listedCredential, [name]: null })).values).toHaveProperty(field, null)
  })

  test.each([
    ['ipList', 'allowedIps', ['10.0.0.1']],
    ['roleNameList', 'roles', ['API_USER']],
    ['enabled', 'enabled', true],
    ['email', 'email', 'own@example.com'],
    ['fullName', 'name', 'Own'],
  ])('without %s, %s is unreadable, and only a caller can complete an update', (upstream, field, own) => {
    for (const item of [without(listedCredential, upstream), { ...listedCredential, [upstream]: null }]) {
      expect((resultOf(readItem(item)).values as AnyValues)[field]).toBeInstanceOf(Unreadable)
      const before = credentialList(item)
      const others = { secret: 'new', description: 'Other' }
      expect(credential.plan(others, before)).toMatchObject({
        ok: false,
        refusal: {
          problem: 'incomplete-representation',
          errors: [{ pointer: `#/${field}`, code: 'incomplete-representation' }],
        },
      })
      const { body, carries } = resultOf(credential.plan({ ...others, [field]: own }, before))
      expect(body).toMatchObject({ [upstream]: own, description: 'Other' })
      expect(carries).not.toContain(field)
      // The update that touches nothing else needs none of it.
      expect(resultOf(credential.plan({ secret: 'new' }, before))).toMatchObject({ method: 'PATCH' })
    }
  })

  test('reads the older list, which omits what is null', () => {
    const older = without(listedCredential, 'password', 'description', 'expireDate')
    const body = { status: 'SUCCESS', resultList: [{ ...older, enabled: false, ipList: [] }], resultCount: 1 }
    expect(resultOf(credential.read(answer(200, body))).values).toMatchObject({
      enabled: false,
      allowedIps: [],
      description: null,
      expiresAt: null,
    })
  })

  test('finds the credential by its exact name', () => {
    const others = ['API-USER', 'api-user ', 'api-user2', 'api', ''].map((username) => ({
      ...listedCredential,
      username,
      fullName: 'Somebody else',
    }))
    expect(resultOf(readItem(...others, listedCredential)).values).toMatchObject({ name: 'API User' })
    expect(readItem(...others)).toMatchObject({ ok: false, refusal: { problem: 'not-found' } })
    expect(readItem()).toMatchObject({ ok: false, refusal: { problem: 'not-found' } })
  })

  test('refuses two credentials of one name', () => {
    const twin = { ...listedCredential, ipList: [] }
    expect(readItem(listedCredential, twin)).toMatchObject({
      ok: false,
      refusal: { problem: 'upstream-failed' },
    })
  })

  test.each([
    ['2025-12-31T23:59:59.000Z', '2025-12-31T23:59:59.000Z'],
    ['2025-12-31T23:59:59Z', '2025-12-31T23:59:59.000Z'],
    ['2026-01-01T02:59:59.000+03:00', '2025-12-31T23:59:59.000Z'],
    ['2026-01-01T02:59:59.000+0300', '2025-12-31T23:59:59.000Z'],
    ['2025-12-31T23:59:59.000000Z', '2025-12-31T23:59:59.000Z'],
    ['2025-12-31T23:59:59.120000000Z', '2025-12-31T23:59:59.120Z'],
  ])('reads the date %s, and sends it back as it is spelled', (expireDate, expiresAt) => {
    const item = { ...listedCredential, expireDate }
    expect(resultOf(readItem(item)).values).toMatchObject({ expiresAt })
    const { body } = resultOf(credential.plan({ secret: 'new', name: 'New' }, credentialList(item)))
    expect(body).toMatchObject({ expireDate })
  })

  test.each(['2025-12-31T23:59:59.123456Z', '2025-12-31T23:59:59.000000001Z', '9999-12-31T23:59:59-01:00'])(
    'cannot show the date %j, and sends it back as it is',
    (expireDate) => {
      const item = { ...listedCredential, expireDate }
      expect((resultOf(readItem(item)).values as AnyValues)['expiresAt']).toBeInstanceOf(Unreadable)
      const { body } = resultOf(credential.plan({ secret: 'new', name: 'New' }, credentialList(item)))
      expect(body).toMatchObject({ expireDate })
    },
  )

  // What is no moment may mean anything.
  test.each(['2025-12-31T23:59:59.000', '2025-12-31', 'never', '', 1767225599000])(
    'does not send %j back, which is no date',
    (expireDate) => {
      const item = { ...listedCredential, expireDate }
      expect((resultOf(readItem(item)).values as AnyValues)['expiresAt']).toBeInstanceOf(Unreadable)
      expect(credential.plan({ secret: 'new', name: 'New' }, credentialList(item))).toMatchObject({
        ok: false,
        refusal: { problem: 'incomplete-representation', errors: [{ pointer: '#/expiresAt' }] },
      })
    },
  )

  test.each([
    ['the status FAILURE', { status: 'FAILURE' }],
    ['success: false', { success: false }],
    ['an error', { error: 'bad_request' }],
  ])('refuses a list that comes with %s', (_, failure) => {
    const body = { ...credentialList(listedCredential), ...failure }
    expect(credential.read(answer(200, body)).ok).toBe(false)
    expect(credential.read(answer(200, { ...body, resultMessage: 5 })).ok).toBe(false)
  })
})

describe('metadata', () => {
  const plain = { key: 'team', value: 'billing', secret: false, includeInJwt: true, jwtClaimName: 'team' }
  const nested = { key: 'limits', value: { perDay: [1, 2.5, null] } }
  const hidden = { key: 'pin', value: 'canary-1234', secret: true }
  const holding = (...metadata: JsonObject[]) => ({ ...listedCredential, metadata })

  test('is shown by key, but for entries that are secret', () => {
    const { values } = resultOf(readItem(holding(plain, nested, hidden)))
    expect(values).toMatchObject({ metadata: { team: 'billing', limits: { perDay: [1, 2.5, null] } } })
    expect(values).not.toHaveProperty('metadata.pin')
  })

  test('is not told when the list does not tell it', () => {
    expect(resultOf(readItem(listedCredential)).values).not.toHaveProperty('metadata')
    expect(bodyFor(listedCredential, { secret, enabled: true })).not.toHaveProperty('metadata')
  })

  test.each([
    ['entries with all their members', [plain, nested]],
    ['an empty list', []],
  ])('is sent back as it was read: %s', (_, entries) => {
    expect(bodyFor(holding(...entries), { secret, enabled: true })).toHaveProperty('metadata', entries)
  })

  test('that is secret is not lost: the full update is refused, the change of the secret alone is not', () => {
    for (const entry of [hidden, { ...hidden, value: null }, { key: 'pin', secret: true }]) {
      const item = holding(plain, entry)
      expect(planFor(item, { secret, enabled: true })).toMatchObject({
        ok: false,
        refusal: { problem: 'secret-required-by-provider' },
      })
      expect(resultOf(planFor(item, { secret }))).toMatchObject({ method: 'PATCH' })
    }
  })

  test('that is secret leaves the adapter nowhere', () => {
    expect(JSON.stringify(readItem(holding(plain, hidden)))).not.toContain('canary')
  })
})

describe('a plan', () => {
  test('changes the secret alone by the update that touches nothing else', () => {
    const quoted = translate('apinizer', 'credential', 'apinizer:My Project:other user@example.com')
    const item = { ...listedCredential, username: 'other user@example.com' }
    const request = resultOf(quoted.plan({ secret }, credentialList(item)))
    expect([request.method, request.headers]).toEqual(['PATCH', { 'content-type': 'application/json' }])
    expect(pathFor(request)).toBe('/apiops/projects/My%20Project/credentials/other%20user%40example.com/')
    expect(open(request.body)).toEqual({ password: secret })
  })

  test('changes the secret alone when the other fields are what they are already', () => {
    const body = { secret, enabled: false, name: 'API User', expiresAt: '2026-01-01T02:59:59+03:00' }
    expect(resultOf(planFor(listedCredential, body))).toMatchObject({ method: 'PATCH' })
  })

  test('never sends the name of the project or the credential unescaped', () => {
    const quoted = translate('apinizer', 'credential', "apinizer:Über all:o'brien")
    const item = { ...listedCredential, username: "o'brien" }
    const request = resultOf(quoted.plan({ secret, enabled: true }, credentialList(item)))
    expect(pathFor(request)).toBe('/apiops/projects/%C3%9Cber%20all/credentials/')
    expect(open(request.body)).toMatchObject({ username: "o'brien" })
  })

  test('needs the secret for everything else, and says so', () => {
    for (const body of [{ enabled: true }, { allowedIps: [] }, { expiresAt: null, name: 'Another' }]) {
      expect(planFor(listedCredential, body)).toMatchObject({
        ok: false,
        refusal: { problem: 'secret-required-by-provider', errors: [{ pointer: '#/secret' }] },
      })
    }
  })

  test('is refused when the credential was not read', () => {
    expect(credential.plan({ secret, enabled: true })).toMatchObject({
      ok: false,
      refusal: { problem: 'upstream-failed' },
    })
  })

  const instant = fc
    .date({ min: new Date(0), max: new Date('2999-12-31T23:59:59.999Z'), noInvalidDate: true })
    .map((date) => date.toISOString())
  const entry = fc.record(
    {
      key: fc.string(),
      value: fc.jsonValue(),
      secret: fc.constantFrom(false, null),
      includeInJwt: fc.boolean(),
      jwtClaimName: fc.option(fc.string()),
    },
    { requiredKeys: ['key'] },
  )
  /** Credentials as a list can tell them; texts are what a provider may hold, not what the gateway would accept. */
  const item = fc
    .record(
      {
        username: fc.constant('api-user'),
        email: fc.string(),
        fullName: fc.string({ unit: 'binary' }),
        description: fc.option(fc.string()),
        password: fc.constant(null),
        roleNameList: fc.array(fc.string()),
        enabled: fc.boolean(),
        ipList: fc.array(fc.oneof(fc.ipV4(), fc.ipV6(), fc.constant('10.0.0'))),
        expireDate: fc.option(instant),
        metadata: fc.option(fc.array(entry)),
      },
      { requiredKeys: ['username', 'email', 'fullName', 'roleNameList', 'enabled', 'ipList'] },
    )
    .filter((value) => !JSON.stringify(value).includes('__proto__')) as fc.Arbitrary<JsonObject>
  const others = fc.array(
    fc.record({ username: fc.string().filter((name) => name !== 'api-user'), fullName: fc.anything() }),
    { maxLength: 3 },
  ) as fc.Arbitrary<unknown> as fc.Arbitrary<JsonObject[]>

  const upstreamNames: Record<string, string> = {
    name: 'fullName',
    description: 'description',
    email: 'email',
    enabled: 'enabled',
    roles: 'roleNameList',
    allowedIps: 'ipList',
    expiresAt: 'expireDate',
    secret: 'password',
  }

  test('never alters a field that the caller did not name', () => {
    const bodies = bodiesOf('credential', credential.spec.fields)
    fc.assert(
      fc.property(item, others, others, bodies, (listed, before, after, body) => {
        const named = { ...body, secret }
        const request = resultOf(credential.plan(named, credentialList(...before, listed, ...after)))
        const { metadata, ...told } = listed
        const read = { description: null, expireDate: null, ...told, password: secret }
        const changes = Object.entries(named).map(([name, value]) => [upstreamNames[name], value])
        const wanted = { ...read, ...Object.fromEntries(changes) }
        if (request.method === 'PATCH') {
          expect(open(request.body)).toEqual({ password: secret })
          expect(comparable(wanted)).toEqual(comparable(read))
        } else {
          expect(comparable(open(request.body))).toEqual(
            comparable({ ...wanted, ...(metadata && { metadata }) }),
          )
        }
      }),
      { numRuns: 500 },
    )
  })

  /** As JSON, and with lists that are sets in one order: naming the same roles in another order changes nothing. */
  const comparable = (body: unknown): unknown =>
    JSON.parse(JSON.stringify(body), (name, value: unknown) =>
      (name === 'roleNameList' || name === 'ipList') && Array.isArray(value) ? value.toSorted() : value,
    )
})

describe('the answer to an update', () => {
  const outcomeOf = (body: JsonObject) => credential.parse(answer(200, body))

  test.each([
    ['the current envelope', { status: 'SUCCESS', deploymentResult: deployedEverywhere }],
    [
      'the current envelope with everything in it',
      {
        status: 'SUCCESS',
        resultMessage: null,
        resultList: [],
        resultCount: 0,
        deploymentResult: deployedEverywhere,
      },
    ],
    ['the envelope before', { success: true, deploymentResult: deployedEverywhere }],
    [
      'an envelope with empty members',
      {
        status: 'SUCCESS',
        success: null,
        error: null,
        error_description: null,
        message: null,
        deploymentResult: deployedEverywhere,
      },
    ],
  ])('is read in %s', (_, body) => {
    expect(outcomeOf(body)).toMatchObject({ outcome: 'applied', deployment: { success: true } })
  })

  test('reads environments in the older form', () => {
    const deploymentResult = {
      success: true,
      message: 'Deployed',
      environmentResults: [
        { environmentName: 'production', success: true, message: 'Deployed' },
        { environmentName: 'test', success: true, message: 'Deployed' },
      ],
    }
    expect(outcomeOf({ success: true, deploymentResult })).toEqual({
      outcome: 'applied',
      deployment: {
        success: true,
        environments: [
          { name: 'production', success: true },
          { name: 'test', success: true },
        ],
      },
    })
  })

  test.each([
    ['the current envelope', { status: 'SUCCESS' }],
    ['the envelope before', { success: true }],
    ['the oldest envelope', { status: 'SUCCESS', resultList: [{ username: 'api-user' }], resultCount: 1 }],
    ['an empty result', { status: 'SUCCESS', deploymentResult: null }],
    ['a result that is none', { status: 'SUCCESS', deploymentResult: 'deployed' }],
  ])('is partial without a deployment: %s', (_, body) => {
    expect(outcomeOf(body)).toMatchObject({ outcome: 'partial' })
  })

  const part = (envName: string, success: boolean, more: JsonObject = {}) => ({ envName, success, ...more })
  test.each<[string, JsonObject, [string, boolean][]]>([
    ['as a whole', { success: false, detailList: [part('production', true)] }, [['production', true]]],
    ['and nothing is deployed', { success: false, detailList: [] }, []],
    [
      'in one environment',
      { success: true, detailList: [part('production', true), part('staging', false)] },
      [
        ['production', true],
        ['staging', false],
      ],
    ],
    [
      'in one pod of an environment',
      {
        success: true,
        detailList: [
          part('production', true, { podName: 'a' }),
          part('production', false, { podName: 'b' }),
          part('production', true, { podName: 'c' }),
        ],
      },
      [['production', false]],
    ],
    [
      'in a pod below its environment',
      {
        success: true,
        detailList: [
          part('production', true, { detailList: [part('production', true), part('production', false)] }),
        ],
      },
      [['production', false]],
    ],
    [
      'in one environment of the older form',
      { success: true, environmentResults: [{ environmentName: 'production', success: false }] },
      [['production', false]],
    ],
    ['in a part without a name', { success: true, detailList: [{ success: false }] }, [['unnamed', false]]],
    [
      'where a part does not say',
      { success: true, detailList: [{ envName: 'production' }] },
      [['production', false]],
    ],
  ])('is partial when the deployment failed %s', (_, deploymentResult, environments) => {
    expect(outcomeOf({ status: 'SUCCESS', deploymentResult })).toMatchObject({
      outcome: 'partial',
      deployment: {
        success: false,
        environments: environments.map(([name, success]) => ({ name, success })),
      },
    })
  })

  test('is a success only when every level of the deployment says so', () => {
    type Level = { success: boolean; envName: string; detailList?: Level[]; environmentResults?: Level[] }
    const { level } = fc.letrec<{ level: Level }>((tie) => ({
      level: fc.record(
        {
          success: fc.integer({ min: 0, max: 9 }).map((roll) => roll > 0),
          envName: fc.constantFrom('production', 'staging', 'test'),
          detailList: fc.array(tie('level'), { maxLength: 3, depthIdentifier: 'level' }),
          environmentResults: fc.array(tie('level'), { maxLength: 1, depthIdentifier: 'level' }),
        },
        { requiredKeys: ['success', 'envName'] },
      ),
    }))
    const deployed = ({ success, detailList = [], environmentResults = [] }: Level): boolean =>
      success && [...detailList, ...environmentResults].every(deployed)
    fc.assert(
      fc.property(level, (deploymentResult) => {
        const { outcome } = outcomeOf({
          status: 'SUCCESS',
          deploymentResult: deploymentResult as unknown as Json,
        })
        expect(outcome).toBe(deployed(deploymentResult) ? 'applied' : 'partial')
      }),
      { numRuns: 300 },
    )
  })

  test.each([
    ['the current envelope', { status: 'FAILURE', resultMessage: 'email is not valid' }],
    ['the envelope before', { success: false, message: 'email is not valid' }],
    ['the oldest envelope', { error: 'bad_request', error_description: 'email is not valid' }],
    ['a text that is none', { status: 'FAILURE', resultMessage: { text: 'email is not valid' } }],
  ])('that is a failure is a refusal, even under 200: %s', (_, body) => {
    expect(outcomeOf(body)).toMatchObject({
      outcome: 'rejected',
      refusal: { problem: 'upstream-validation-failed' },
    })
  })

  test.each([
    [{ status: 'SUCCESS', error: 'bad_request', deploymentResult: deployedEverywhere }],
    [{ status: 'SUCCESS', success: false, deploymentResult: deployedEverywhere }],
    [{ status: 'FAILURE', success: true, deploymentResult: deployedEverywhere }],
  ])('with words of success and of failure proves neither: %j', (body) => {
    expect(outcomeOf(body)).toMatchObject({ outcome: 'unknown' })
  })
})

describe('a refusal', () => {
  const envelopes: [string, (text: string) => JsonObject][] = [
    ['resultMessage', (text) => ({ status: 'FAILURE', resultMessage: text })],
    ['error_description', (text) => ({ error: 'bad_request', error_description: text })],
    ['message', (text) => ({ success: false, message: text })],
  ]

  test.each([
    ['The required permission IDENTITY + MANAGE is missing.', 'upstream-unauthorized'],
    ['The user does not have privilege on the project.', 'upstream-unauthorized'],
    ['The project MyProject was not found or the user does not have privilege on it.', 'not-found'],
    ['Credential api-user was not found.', 'not-found'],
    ['credential api-user not found', 'not-found'],
    ['The project MyProject was not found.', 'not-found'],
    ['Project MyProject is not found', 'not-found'],
    ['Credential svc-role was not found.', 'not-found'],
    ['The project role-service was not found.', 'not-found'],
    ['The username api-user is already used.', 'upstream-conflict'],
    ['There is already a credential with this username.', 'upstream-conflict'],
    ['A credential with this username already exists', 'upstream-conflict'],
    ['The username must be unique across all projects.', 'upstream-conflict'],
    ['Role AUDITOR was not found.', 'upstream-validation-failed'],
    ['Role AUDITOR does not exist', 'upstream-validation-failed'],
    ['password can not be empty', 'upstream-validation-failed'],
    ['fullName must be given', 'upstream-validation-failed'],
    ['expireDate is not valid', 'upstream-validation-failed'],
    ['Invalid IP address', 'upstream-validation-failed'],
    ['Something else went wrong.', 'upstream-validation-failed'],
    ['', 'upstream-validation-failed'],
  ])('“%s” means %s', (text, problem) => {
    for (const [, envelope] of envelopes) {
      for (const body of [envelope(text), envelope(text.toUpperCase())]) {
        for (const status of [400, 200]) {
          expect(credential.parse(answer(status, body))).toMatchObject({
            outcome: 'rejected',
            refusal: { problem },
          })
          expect(credential.read(answer(status, body))).toMatchObject({ ok: false, refusal: { problem } })
        }
      }
    }
  })

  test('for a role that does not exist names our field', () => {
    const body = { status: 'FAILURE', resultMessage: 'Role AUDITOR was not found.' }
    expect(credential.parse(answer(400, body))).toMatchObject({
      refusal: { errors: [{ pointer: '#/roles' }] },
    })
  })

  test.each([
    [401, 'upstream-unauthorized'],
    [403, 'upstream-unauthorized'],
    [404, 'not-found'],
    [409, 'upstream-conflict'],
  ])('by status %i means %s whatever the text', (status, problem) => {
    for (const [, envelope] of envelopes) {
      const response = answer(status, envelope('The token is not valid.'))
      expect(credential.parse(response)).toMatchObject({ outcome: 'rejected', refusal: { problem } })
      expect(credential.read(response)).toMatchObject({ ok: false, refusal: { problem } })
    }
  })

  test('by status 401 means a stale token', () => {
    expect(credential.parse(answer(401))).toMatchObject({ refusal: { staleToken: true } })
    expect(credential.read(answer(401))).toMatchObject({ refusal: { staleToken: true } })
  })
})

describe('sign-in', () => {
  const [bearer, exchange, ...others] = apinizer.auth
  if (exchange?.scheme !== 'client-credentials') throw new TypeError('there is no token endpoint')
  const issued = (more: JsonObject) => answer(200, { access_token: 'eyJ...', ...more })

  test('sends a token of the console, or asks the token endpoint with a form', () => {
    expect(others).toEqual([])
    expect(bearer).toEqual({
      scheme: 'header',
      header: 'Authorization',
      prefix: 'Bearer ',
      setting: 'token',
    })
    expect(exchange).toMatchObject({
      endpoint: { base: 'baseUrl' },
      template: '/apiops/auth/token',
      encoding: 'form',
    })
  })

  test.each([
    ['seconds', 3600, { seconds: 3600 }],
    ['seconds of many years', 10_000_000_000, { seconds: 10_000_000_000 }],
    ['an epoch in milliseconds', 1_760_000_000_000, { until: 1_760_000_000_000 }],
    ['the text of a number', '3600', { seconds: 3600 }],
    ['null, of a token without an end', null, { seconds: 3600 }],
    ['absent', undefined, { seconds: 3600 }],
  ])('reads expires_in as %s', (_, expiresIn, lifetime) => {
    for (const more of [{ token_type: 'Bearer' }, {}]) {
      const token = resultOf(
        exchange.parse(issued({ ...(expiresIn !== undefined && { expires_in: expiresIn }), ...more })),
      )
      expect([token.accessToken.expose(), token.lifetime]).toEqual(['eyJ...', lifetime])
    }
  })

  test.each([
    [400, 'unsupported_grant_type'],
    [401, 'unauthorized_client'],
    [200, 'unauthorized_client'],
  ])('refuses as the gateway’s own fault %i %s', (status, error) => {
    expect(exchange.parse(answer(status, { error, error_description: 'no' }))).toMatchObject({
      ok: false,
      refusal: { problem: 'upstream-unauthorized' },
    })
  })
})

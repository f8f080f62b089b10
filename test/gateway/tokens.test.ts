import { gatewayFetch, runtime, useGateway } from '#gateway'
import {
  base64url,
  type CryptoKey,
  exportJWK,
  exportSPKI,
  generateKeyPair,
  importJWK,
  type JWTHeaderParameters,
  SignJWT,
} from 'jose'
import { afterEach, beforeAll, beforeEach, describe, expect, inject, test, vi } from 'vitest'
import { keys as apiKeys } from '../harness/configuration.ts'
import { differences } from '../harness/differences.ts'
import { type Answer, eventsOf, freshId, get, mintApinizer, put } from '../harness/gateway-calls.ts'
import type { IssuerState } from '../harness/token-issuer.ts'

useGateway()

const issuerOf = (name: string): string => `${inject('issuers')}/${runtime}/${name}`

/** Tells an issuer what to publish; what is not named stays. */
async function publish(name: string, state: Partial<IssuerState>): Promise<void> {
  const response = await fetch(`${issuerOf(name)}/control`, { method: 'PUT', body: JSON.stringify(state) })
  expect(response.status).toBe(200)
}

/** What an issuer has been asked for, oldest first. */
const asked = async (name: string): Promise<string[]> =>
  (await fetch(`${issuerOf(name)}/requests`)).json() as Promise<string[]>

interface SigningKey {
  alg: string
  kid: string
  privateKey: CryptoKey
  publicKey: CryptoKey
  /** As an issuer publishes it. */
  jwk: object
}

async function makeKey(alg: string, kid: string = alg): Promise<SigningKey> {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true })
  return asKey(alg, kid, privateKey, publicKey)
}

/** The same key for another algorithm: those of RSA take long to make. */
async function alike(key: SigningKey, alg: string): Promise<SigningKey> {
  const { alg: _, ...jwk } = await exportJWK(key.privateKey)
  const { d: _d, p: _p, q: _q, dp: _dp, dq: _dq, qi: _qi, ...publicJwk } = jwk
  const [privateKey, publicKey] = await Promise.all([importJWK(jwk, alg), importJWK(publicJwk, alg)])
  return asKey(alg, alg, privateKey as CryptoKey, publicKey as CryptoKey)
}

async function asKey(
  alg: string,
  kid: string,
  privateKey: CryptoKey,
  publicKey: CryptoKey,
): Promise<SigningKey> {
  return { alg, kid, privateKey, publicKey, jwk: { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' } }
}

/** A second that every clock in these suites stands at; a test moves it as it needs. */
const NOW = Math.floor(Date.now() / 1000)
const at = (seconds: number): void => void vi.setSystemTime(seconds * 1000 + 500)
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['Date'] })
  at(NOW)
})
afterEach(() => void vi.useRealTimers())

const claimsOf = (name: string): Record<string, unknown> => ({
  iss: issuerOf(name),
  aud: 'gateway',
  sub: 'alice',
  iat: NOW,
  exp: NOW + 300,
  team: 'platform',
})

interface Made {
  header?: Partial<JWTHeaderParameters>
  /** In place of the usual claims; undefined leaves one out. */
  claims?: Record<string, unknown>
}

const make = (issuer: string, key: SigningKey, { header, claims }: Made = {}): Promise<string> =>
  new SignJWT({ ...claimsOf(issuer), ...claims })
    .setProtectedHeader({ alg: key.alg, kid: key.kid, ...header })
    .sign(key.privateKey)

const encode = (value: unknown): string => base64url.encode(JSON.stringify(value))

const send = (token: string, header = 'authorization'): Promise<Answer> =>
  get('/providers', {
    key: null,
    headers: { [header]: header === 'authorization' ? `Bearer ${token}` : token },
  })

function expectRefused(answer: Answer): void {
  expect(answer).toMatchObject({ status: 401, body: { type: '/problems/unauthenticated' } })
  expect(answer.headers.get('www-authenticate')).toBe(
    'Bearer realm="credential-gateway", error="invalid_token"',
  )
  // Which check failed is for the log only.
  expect(answer.body.detail).toBe('the request carries no key or token that the gateway knows')
}

const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA']
const made = new Map<string, SigningKey>()
const keyOf = (alg: string): SigningKey => made.get(alg) as SigningKey
let usual: SigningKey

beforeAll(async () => {
  usual = await makeKey('RS256')
  for (const alg of ALGORITHMS) made.set(alg, await (/^[RP]S/.test(alg) ? alike(usual, alg) : makeKey(alg)))
  const all = [...made.values()].map(({ jwk }) => jwk)
  await publish('people', { keys: all })
  await publish('direct', { keys: all })
  await publish('edge', { keys: all })
  // Another key under the same name.
  await publish('other', { keys: [(await makeKey('RS256')).jwk] })
})

describe('a token', () => {
  test.each(ALGORITHMS)('that is signed with %s signs its holder in', async (alg) => {
    expect((await send(await make('people', keyOf(alg)))).status).toBe(200)
  })

  test('gets its holder what the caller may do, and the audit says who it was', async () => {
    const { id } = await mintApinizer()
    const headers = { authorization: `bearer ${await make('people', usual)}` }
    const changed = await put(
      `/credentials/${id}`,
      { description: 'new', secret: 'changed' },
      { key: null, headers },
    )
    expect(changed.status).toBe(200)
    expect((await get('/audit', { key: null, headers })).status).toBe(403)
    const [intent] = await eventsOf(id)
    expect(intent.actor).toMatchObject({ caller: 'people', key: 'jwt:alice' })
    expect(JSON.stringify(intent)).not.toContain(headers.authorization.slice(-40))
  })

  test('of one subject never opens what another has stored under the same Idempotency-Key', async () => {
    const [{ id }, key] = [await mintApinizer(), freshId()]
    const path = `/credentials/${id}`
    const as = async (sub: string) => ({
      key: null,
      headers: {
        authorization: `Bearer ${await make('people', usual, { claims: { sub } })}`,
        'idempotency-key': key,
      },
    })
    const body = { secret: 'a password' }
    const first = await put(path, body, await as('alice'))
    const subjects = ['bob', 'alicf', 'älice', 'ölice', `${'x'.repeat(200)}1`, `${'x'.repeat(200)}2`]
    for (const subject of subjects) {
      const other = await put(path, { secret: 'a guess' }, await as(subject))
      expect([subject, other.status, other.headers.get('idempotency-replayed')]).toEqual([subject, 200, null])
      expect(other.body.changeId).not.toBe(first.body.changeId)
    }
    const again = await put(path, body, await as('alice'))
    expect([again.headers.get('idempotency-replayed'), again.body.changeId]).toEqual([
      'true',
      first.body.changeId,
    ])
  })

  test.each([
    [
      'a long and unclean one',
      { sub: `ä\n${'x'.repeat(300)}` },
      expect.stringMatching(/^jwt:\?\?x{109}#[\w-]{16}$/),
    ],
    ['that of a service', { sub: '', common_name: 'robot.access' }, 'jwt:robot.access'],
    ['none', { sub: undefined }, 'jwt:'],
  ])('with a subject, %s, is bounded in the audit', async (_, claims, key) => {
    const { id } = await mintApinizer()
    const headers = { authorization: `Bearer ${await make('people', usual, { claims })}` }
    const body = { description: 'new', secret: 'changed' }
    expect((await put(`/credentials/${id}`, body, { key: null, headers })).status).toBe(200)
    const [intent] = await eventsOf(id)
    expect(intent.actor).toMatchObject({ caller: 'people', key })
  })

  test.each<[string, Record<string, unknown>, number]>([
    ['expires now', { exp: NOW }, 200],
    ['has just not been expired for longer than the leeway', { exp: NOW - 29 }, 200],
    ['has been expired for the leeway', { exp: NOW - 30 }, 401],
    ['has been expired for long', { exp: NOW - 3600 }, 401],
    ['never expires', { exp: undefined }, 401],
    ['expires in words', { exp: 'tomorrow' }, 401],
    ['is valid at the end of the leeway', { nbf: NOW + 30 }, 200],
    ['is valid after the leeway', { nbf: NOW + 31 }, 401],
    ['was issued at the end of the leeway', { iat: NOW + 30 }, 200],
    ['was issued after the leeway', { iat: NOW + 31 }, 401],
    ['does not say when it was issued', { iat: undefined }, 200],
    ['is for somebody else', { aud: 'another-gateway' }, 401],
    ['is for several', { aud: ['another-gateway', 'gateway'] }, 200],
    ['is for nobody', { aud: undefined }, 401],
    ['is of an unknown issuer', { iss: 'https://issuer.example' }, 401],
    ['is of another of the issuers', { iss: issuerOf('other') }, 401],
    ['is of almost the issuer', { iss: `${issuerOf('people')}/` }, 401],
    ['is of nobody', { iss: undefined }, 401],
  ])('that %s', async (_, claims, status) => {
    const answer = await send(await make('people', usual, { claims }))
    expect(answer.status).toBe(status)
    if (status === 401) expectRefused(answer)
  })

  test('may be for any of the audiences that are configured, and signed only as is configured', async () => {
    expect((await send(await make('direct', usual, { claims: { aud: 'another-gateway' } }))).status).toBe(200)
    expectRefused(await send(await make('direct', usual, { claims: { aud: 'a-third-gateway' } })))
    expectRefused(await send(await make('direct', keyOf('ES256'))))
  })

  test('without a signature is refused', async () => {
    for (const alg of ['none', 'None', 'NONE', undefined]) {
      for (const signature of ['', 'AAAA']) {
        expectRefused(await send(`${encode({ alg })}.${encode(claimsOf('people'))}.${signature}`))
      }
    }
  })

  test('whose signature is a MAC with the public key is refused', async () => {
    const spki = await exportSPKI(usual.publicKey)
    for (const secret of [spki, spki.trimEnd(), JSON.stringify(usual.jwk)]) {
      const token = await new SignJWT(claimsOf('people'))
        .setProtectedHeader({ alg: 'HS256', kid: usual.kid })
        .sign(new TextEncoder().encode(secret))
      expectRefused(await send(token))
    }
  })

  test('that was changed after it was signed is refused', async () => {
    const [header, payload, signature] = (await make('people', usual)).split('.')
    const others = encode({ ...claimsOf('people'), sub: 'mallory' })
    expect((await send(`${header}.${payload}.${signature}`)).status).toBe(200)
    expectRefused(await send(`${header}.${others}.${signature}`))
    expectUndecided(await send(`${encode({ alg: 'RS256', kid: 'PS256' })}.${payload}.${signature}`))
    const turned = (signature ?? '').replace(/^./, (first) => (first === 'A' ? 'B' : 'A'))
    expectRefused(await send(`${header}.${payload}.${turned}`))
  })

  test('that brings its own key, or says where one is, is refused without a look at it', async () => {
    const theirs = await makeKey('RS256')
    await publish('attacker', { keys: [theirs.jwk] })
    const url = `${issuerOf('attacker')}/keys`
    const before = (await asked('people')).length
    for (const header of [{ jwk: theirs.jwk }, { jku: url }, { x5u: url }, { x5c: ['MIIB'] }]) {
      expectRefused(await send(await make('people', theirs, { header: header as object })))
    }
    expect(await asked('attacker')).toEqual([])
    expect(await asked('people')).toHaveLength(before)
  })

  test('that demands what the gateway does not know is refused', async () => {
    const [, payload, signature] = (await make('people', usual)).split('.')
    for (const crit of [['exp'], ['b64'], [], 'exp']) {
      const header = encode({ alg: 'RS256', kid: usual.kid, crit, b64: false, exp: NOW + 300 })
      expectRefused(await send(`${header}.${payload}.${signature}`))
    }
  })

  test.each(['..', 'a.b.c', 'a.b', 'a.b.c.d', 'a.b.c.d.e', `${encode([])}.${encode([])}.AAAA`, '.'])(
    'that is none is refused: %s',
    async (text) => expectRefused(await send(text)),
  )

  test('that is longer than any is refused before anything is done with it', async () => {
    const long = (bytes: number) => make('people', usual, { claims: { padding: 'x'.repeat(bytes) } })
    expect((await send(await long(4096))).status).toBe(200)
    expectRefused(await send(await long(6500)))
    const huge = await gatewayFetch('/providers', {
      headers: { authorization: `Bearer ${await long(75_000)}` },
    })
    expect(huge.status).toBe(differences.hugeHeader[runtime])
  })

  test('may stand in the header of its issuer only', async () => {
    const token = await make('edge', usual, { claims: { common_name: 'deploy.access' } })
    expect((await send(token, 'cf-access-jwt-assertion')).status).toBe(200)
    expectRefused(await send(token))
    expectRefused(await send(`Bearer ${token}`, 'cf-access-jwt-assertion'))
    expectRefused(await send(await make('people', usual), 'cf-access-jwt-assertion'))
    expectRefused(await send(apiKeys.admin, 'cf-access-jwt-assertion'))
    // A key's header takes no token; a wrong key is no bad bearer.
    const asKey = await send(token, 'x-api-key')
    expect([asKey.status, asKey.headers.get('www-authenticate')]).toEqual([
      401,
      'Bearer realm="credential-gateway"',
    ])
  })

  test('is one credential where it is the same key in both of its headers', async () => {
    const both = (bearer: string, key: string) =>
      get('/providers', { key: null, headers: { authorization: `Bearer ${bearer}`, 'x-api-key': key } })
    expect((await both(apiKeys.admin, apiKeys.admin)).status).toBe(200)
    expect((await both(apiKeys.admin, apiKeys.rotated)).status).toBe(400)
    expect((await both(apiKeys.expired, apiKeys.expired)).status).toBe(401)
    const wrong = `${apiKeys.admin.slice(0, -1)}${apiKeys.admin.endsWith('A') ? 'B' : 'A'}`
    expect((await both(wrong, wrong)).status).toBe(401)
    expect((await both(apiKeys.admin, wrong)).status).toBe(400)
  })

  test('beside another credential is 400, whatever the two are', async () => {
    const authorization = `Bearer ${await make('people', usual)}`
    const assertion = await make('edge', usual, { claims: { common_name: 'deploy.access' } })
    for (const headers of [
      { authorization, 'x-api-key': apiKeys.admin },
      { authorization, 'cf-access-jwt-assertion': assertion },
      { 'cf-access-jwt-assertion': assertion, 'x-api-key': apiKeys.admin },
      { 'cf-access-jwt-assertion': assertion, authorization: `Bearer ${apiKeys.admin}` },
    ]) {
      const answer = await get('/providers', { key: null, headers })
      expect([answer.status, answer.body.type]).toEqual([400, '/problems/invalid-header'])
    }
  })
})

describe('the claims of a token', () => {
  const known = { team: undefined, groups: ['dev', 'sre'], email_verified: true }
  test.each<[string, Record<string, unknown>, number]>([
    ['that are those of a caller', known, 200],
    ['with a text where a list would do', { ...known, groups: 'ops' }, 200],
    ['that lack one', { ...known, email_verified: undefined }, 401],
    ['with a value of another type', { ...known, email_verified: 'true' }, 401],
    ['with other values', { ...known, groups: ['dev', 'opsx'] }, 401],
    ['with values inside of values', { ...known, groups: [['ops'], { ops: 'ops' }] }, 401],
    ['with an empty list', { ...known, groups: [] }, 401],
    ['that are of no caller', { team: 'marketing' }, 401],
    ['that are of two callers', { ...known, team: 'platform' }, 401],
  ])('%s', async (_, claims, status) => {
    const answer = await send(await make('people', usual, { claims }))
    expect(answer.status).toBe(status)
    if (status === 401) expectRefused(answer)
  })
})

const DISCOVERY = '.well-known/openid-configuration'

/** The answer of a gateway that cannot say whether a token is good. */
function expectUndecided(answer: Answer): void {
  expect(answer).toMatchObject({
    status: 503,
    body: { type: '/problems/not-ready', retryable: true, detail: expect.stringContaining('issuer') },
  })
  expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0)
  expect(Number(answer.headers.get('retry-after'))).toBeLessThanOrEqual(10)
}

describe('the keys of an issuer', () => {
  test('are read once for ten that come at once', async () => {
    await publish('cold', { keys: [usual.jwk], faults: [{ on: 'keys', delayMs: 200 }] })
    const token = await make('cold', usual)
    const answers = await Promise.all(Array.from({ length: 10 }, () => send(token)))
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200))
    expect(await asked('cold')).toEqual([DISCOVERY, 'keys'])
  })

  test('are not asked for by what can be refused without them', async () => {
    await publish('silent', { keys: [usual.jwk] })
    expectRefused(await send(`${encode({ alg: 'none' })}.${encode(claimsOf('silent'))}.`))
    expectRefused(await send(`${encode({ alg: 'HS256' })}.${encode(claimsOf('silent'))}.AAAA`))
    expectRefused(await send(await make('silent', usual, { claims: { padding: 'x'.repeat(6500) } })))
    expectRefused(await send(await make('silent', usual), 'cf-access-jwt-assertion'))
    expect(await asked('silent')).toEqual([])
  })

  test('may change without a restart: a new one is found, also by ten at once', async () => {
    const next = await makeKey('ES256', 'next')
    await publish('rotating', { keys: [usual.jwk] })
    expect((await send(await make('rotating', usual))).status).toBe(200)
    await publish('rotating', { keys: [usual.jwk, next.jwk], faults: [{ on: 'keys', delayMs: 200 }] })
    at(NOW + 10)
    const token = await make('rotating', next)
    const answers = await Promise.all(Array.from({ length: 10 }, () => send(token)))
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200))
    expect(await asked('rotating')).toEqual([DISCOVERY, 'keys', DISCOVERY, 'keys'])
    expect((await send(await make('rotating', usual))).status).toBe(200)
  })

  test('may be taken back: a key that is no longer published opens nothing after five minutes', async () => {
    const claims = { exp: NOW + 3600 }
    const next = await makeKey('ES256', 'next')
    await publish('retiring', { keys: [usual.jwk] })
    expect((await send(await make('retiring', usual, { claims }))).status).toBe(200)
    await publish('retiring', { keys: [next.jwk] })
    at(NOW + 301)
    expectRefused(await send(await make('retiring', usual, { claims })))
    expect((await send(await make('retiring', next, { claims }))).status).toBe(200)
  })

  test('are asked for every ten seconds at most, whatever keys the tokens name', async () => {
    await publish('flooded', { keys: [usual.jwk] })
    const unknown = (kid: string) => make('flooded', usual, { header: { kid } })
    expectRefused(await send(await unknown('a')))
    // Whether these are of a key that is newer than the last reading is not known before the next one.
    for (const kid of ['b', 'c']) expectUndecided(await send(await unknown(kid)))
    expect(await asked('flooded')).toHaveLength(2)
    at(NOW + 9)
    expectUndecided(await send(await unknown('d')))
    expect(await asked('flooded')).toHaveLength(2)
    at(NOW + 10)
    expectRefused(await send(await unknown('e')))
    expectUndecided(await send(await unknown('f')))
    expect(await asked('flooded')).toHaveLength(4)
    expect((await send(await make('flooded', usual))).status).toBe(200)
  })

  test('that were exchanged right after a stranger’s token had them read are not refused for it', async () => {
    const claims = { exp: NOW + 3600 }
    const next = await makeKey('ES256', 'next')
    await publish('rotating', { keys: [usual.jwk] })
    at(NOW + 600)
    expectRefused(await send(await make('rotating', usual, { claims, header: { kid: 'stranger' } })))
    await publish('rotating', { keys: [usual.jwk, next.jwk] })
    const token = await make('rotating', next, { claims })
    const early = await send(token)
    expectUndecided(early)
    expect(early.headers.get('retry-after')).toBe('10')
    expect((await send(await make('rotating', usual, { claims }))).status).toBe(200)
    at(NOW + 610)
    expect((await send(token)).status).toBe(200)
    at(NOW)
  })

  test('that were exchanged under the name that they had are read anew for it, ten seconds apart at most', async () => {
    const claims = { exp: NOW + 3600 }
    await publish('retiring', { keys: [usual.jwk] })
    at(NOW + 700)
    expect((await send(await make('retiring', usual, { claims }))).status).toBe(200)
    const other = await makeKey('RS256', usual.kid)
    await publish('retiring', { keys: [other.jwk] })
    const token = await make('retiring', other, { claims })
    expectRefused(await send(token))
    at(NOW + 711)
    const before = (await asked('retiring')).length
    expect((await send(token)).status).toBe(200)
    // A stranger's tokens do not have them read without end.
    for (let n = 0; n < 5; n++) expectRefused(await send(await make('retiring', usual, { claims })))
    expect((await asked('retiring')).length).toBe(before + 2)
    at(NOW)
  })

  test('of which several would do are tried, and no more than eight', async () => {
    const unnamed = { header: { kid: undefined as never } }
    const [one, two, stranger] = [await makeKey('ES256'), await makeKey('ES256'), await makeKey('ES256')]
    const broken = { ...one.jwk, x: 'AAAA' }
    await publish('crowd', { keys: [null as never, 7 as never, broken, one.jwk, two.jwk, usual.jwk] })
    for (const key of [one, two]) {
      expect((await send(await make('crowd', key))).status).toBe(200)
      expect((await send(await make('crowd', key, unnamed))).status).toBe(200)
    }
    expect((await send(await make('crowd', usual, unnamed))).status).toBe(200)
    for (const made of [{}, unnamed]) expectRefused(await send(await make('crowd', stranger, made)))
    expectRefused(await send(await make('crowd', one, { claims: { exp: NOW - 60 } })))

    const many = await Promise.all(Array.from({ length: 9 }, () => makeKey('ES256')))
    await publish('crowd', { keys: many.map(({ jwk }) => jwk) })
    at(NOW + 301)
    const claims = { exp: NOW + 3600 }
    expect((await send(await make('crowd', many[0] as SigningKey, { claims }))).status).toBe(200)
    const statuses = await Promise.all(
      many.map(async (key) => (await send(await make('crowd', key, { ...unnamed, claims }))).status),
    )
    expect(statuses).toEqual([...Array.from({ length: 8 }, () => 200), 401])
  })

  test('that cannot be had make it 503, seldom asked for, until they are there; then they outlast a failure', async () => {
    const claims = { exp: NOW + 7200 }
    const token = await make('failing', usual, { claims })
    const down = (on: string) => ({ faults: [{ on, status: 500 }] })
    await publish('failing', { keys: [usual.jwk], ...down(DISCOVERY) })
    expectUndecided(await send(token))
    expectUndecided(await send(token))
    expect(await asked('failing')).toEqual([DISCOVERY])
    await publish('failing', { faults: [] })
    expectUndecided(await send(token))
    at(NOW + 10)
    expect((await send(token)).status).toBe(200)
    expect(await asked('failing')).toEqual([DISCOVERY, DISCOVERY, 'keys'])

    // What was read serves on; whether an unknown key is a new one cannot be told.
    await publish('failing', down('keys'))
    at(NOW + 400)
    expect((await send(token)).status).toBe(200)
    expectUndecided(await send(await make('failing', usual, { claims, header: { kid: 'new' } })))
    at(NOW + 10 + 901)
    expectUndecided(await send(token))
    await publish('failing', { faults: [] })
    at(NOW + 10 + 911)
    expect((await send(token)).status).toBe(200)
  })

  test('that are read anew make nobody wait but the one who reads', async () => {
    const token = await make('slow', usual, { claims: { exp: NOW + 3600 } })
    await publish('slow', { keys: [usual.jwk] })
    expect((await send(token)).status).toBe(200)
    await publish('slow', { faults: [{ on: 'keys', delayMs: 4000 }] })
    at(NOW + 400)
    const order: string[] = []
    const reader = send(token).then(({ status }) => order.push(`reader ${status}`))
    await expect.poll(() => asked('slow')).toHaveLength(4)
    order.push(`another ${(await send(token)).status}`)
    await reader
    expect(order).toEqual(['another 200', 'reader 200'])
  })

  test('of an issuer that misbehaves make it 503, without anything else being asked', async () => {
    const token = await make('lying', usual, { claims: { exp: NOW + 3600 } })
    await publish('attacker', { keys: [usual.jwk] })
    const before = await asked('attacker')
    const elsewhere = `${issuerOf('attacker')}/keys`
    const misbehaviour: Partial<IssuerState>[] = [
      { discovery: { issuer: issuerOf('attacker') } },
      { discovery: { issuer: `${issuerOf('lying')}/` } },
      { discovery: { issuer: null } },
      { discovery: { jwks_uri: null } },
      // Plain HTTP to another origin than its own.
      { discovery: { jwks_uri: elsewhere.replace('127.0.0.1', 'localhost') } },
      { discovery: { jwks_uri: 'file:///etc/passwd' } },
      { discovery: { jwks_uri: 7 } },
      { faults: [{ on: DISCOVERY, status: 302, headers: { location: elsewhere } }] },
      { faults: [{ on: DISCOVERY, body: '<html>' }] },
      { faults: [{ on: DISCOVERY, body: 'null' }] },
      { faults: [{ on: 'keys', status: 307, headers: { location: elsewhere } }] },
      { faults: [{ on: 'keys', status: 404 }] },
      { faults: [{ on: 'keys', body: '[]' }] },
      { faults: [{ on: 'keys', body: '{"keys":{}}' }] },
      { faults: [{ on: 'keys', body: '{"keys":[7]}' }] },
      { faults: [{ on: 'keys', body: JSON.stringify({ keys: [usual.jwk], padding: 'x'.repeat(1 << 20) }) }] },
    ]
    for (const [index, state] of misbehaviour.entries()) {
      await publish('lying', { keys: [usual.jwk], discovery: {}, faults: [], ...state })
      at(NOW + index * 10)
      expectUndecided(await send(token))
    }
    expect(await asked('attacker')).toEqual(before)
    await publish('lying', { discovery: {}, faults: [] })
    at(NOW + misbehaviour.length * 10)
    expect((await send(token)).status).toBe(200)
  })

  test('that are none are passed over, and a broken one is no fault of the gateway', async () => {
    const claims = { exp: NOW + 3600 }
    const secret = { kty: 'oct', k: base64url.encode('x'.repeat(64)), kid: 'mac', alg: 'HS256' }
    const broken = { ...keyOf('ES256').jwk, x: 'AAAA', kid: 'broken' }
    const leaked = { ...(await exportJWK(usual.privateKey)), kid: 'leaked', alg: 'RS256' }
    const small = { kty: 'RSA', n: base64url.encode('y'.repeat(64)), e: 'AQAB', kid: 'small', alg: 'RS256' }
    await publish('lying', { keys: [secret, broken, leaked, small, usual.jwk] })
    at(NOW + 1000)
    expect((await send(await make('lying', usual, { claims }))).status).toBe(200)
    expectRefused(await send(await make('lying', keyOf('ES256'), { claims, header: { kid: 'broken' } })))
    for (const kid of ['leaked', 'small'])
      expectRefused(await send(await make('lying', usual, { claims, header: { kid } })))
    const mac = await new SignJWT({ ...claimsOf('lying'), ...claims })
      .setProtectedHeader({ alg: 'HS256', kid: 'mac' })
      .sign(base64url.decode(secret.k))
    expectRefused(await send(mac))
  })

  test('of an issuer that keeps silent make it 503 for all who wait, in bounded time', async () => {
    await publish('silent', { keys: [usual.jwk], faults: [{ on: 'keys', delayMs: null }] })
    const token = await make('silent', usual)
    for (const answer of await Promise.all([send(token), send(token), send(token)])) expectUndecided(answer)
    expect((await asked('silent')).filter((path) => path === 'keys')).toHaveLength(1)
    expectUndecided(await send(token))
    expect((await asked('silent')).filter((path) => path === 'keys')).toHaveLength(1)
  })
})

import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest'
import { z } from 'zod'
import { registry as providers } from '../../adapters/index.ts'
import { readConfig } from '../../src/config/read.ts'
import { Secret } from '../../src/lib/secret.ts'
import { type Adapter, type Ref, type Registry, type UpstreamResponse } from '../../src/model/adapter.ts'
import { parsed, refusalByStatus, refused } from '../../src/model/upstream-refusal.ts'
import type { Values } from '../../src/model/fields.ts'
import { adapterContract, type Samples } from '../adapters/contract.ts'
import { configuration, environment, keys } from '../harness/configuration.ts'
import { startTestGateway, type TestGateway } from '../harness/gateway.node.ts'
import type { Json } from '../harness/sandbox-calls.ts'

// What it takes to add a provider, all of it in this file: its adapter, its line in the registry, its golden cases.

// 1. The adapter. Odd: every answer of the toy carries the passphrase.

const login = z.object({
  login: z.string(),
  label: z.string(),
  active: z.boolean(),
  ref: z.string(),
})

function valuesOf(ref: Ref, { status, body }: UpstreamResponse): Values<'credential'> | undefined {
  const read = login.safeParse(body)
  if (status !== 200 || !read.success || read.data.login !== ref['login']) return undefined
  const { label, active, ref: reference } = read.data
  return { name: label, enabled: active, reference }
}

const toy: Adapter = {
  baseUrl: {},
  auth: [{ scheme: 'header', header: 'X-Toy-Key', prefix: 'Toy ', setting: 'apiKey' }],
  limits: { per: 'credential', writes: [], reads: [], tokens: [] },
  throttle: { fallbackSeconds: 1 },
  kinds: {
    credential: {
      key: ['realm', 'login'],
      checkKey: (part) =>
        /^[a-z ]{1,20}$/.test(part) ? undefined : 'must be 1 to 20 small letters or spaces',
      example: {
        key: 'museum:night watch',
        summary: 'Toy: a label',
        body: { name: 'Night watch' },
      },
      fields: {
        name: { mutability: 'readWrite', upstream: 'label' },
        enabled: { mutability: 'readWrite', upstream: 'active' },
        secret: { mutability: 'writeOnly', upstream: 'passphrase' },
        reference: { mutability: 'readOnly', upstream: 'ref' },
      },
      read: {
        request: (ref) => ({ method: 'GET', template: '/realms/{realm}/logins/{login}', ref, headers: {} }),
        parse(ref, response) {
          const values = valuesOf(ref, response)
          if (values) return parsed({ values })
          if (response.status >= 400) return { ok: false, refusal: refusalByStatus(response.status) }
          return refused('upstream-failed', 'the provider answered without the login')
        },
      },
      plan(ref, { name, enabled, secret }) {
        return parsed({
          method: 'PATCH',
          template: '/realms/{realm}/logins/{login}',
          ref,
          headers: { 'content-type': 'application/json' },
          body: {
            ...(name !== undefined && { label: name }),
            ...(enabled !== undefined && { active: enabled }),
            ...(secret instanceof Secret && { passphrase: secret }),
          },
        })
      },
      parse(ref, response) {
        if (response.status >= 400) return { outcome: 'rejected', refusal: refusalByStatus(response.status) }
        const values = valuesOf(ref, response)
        return values
          ? { outcome: 'applied', values }
          : { outcome: 'unknown', detail: 'the provider answered without the login' }
      },
    },
  },
}

// 2. The line in the registry.

const registry = { ...providers, toy } satisfies Registry

// 3. The golden cases: an exchange as the provider documents it, and the contract that every adapter keeps.

const documented = { login: 'night watch', label: 'Night watch', active: true, ref: 'vault:1' }
const answer = { body: documented, vital: ['login', 'label', 'active', 'ref'], identity: 'login' }

describe('the adapter', () => {
  test('plans the request that the provider documents', () => {
    const ref = { realm: 'museum', login: 'night watch' }
    const secret = new Secret('open sesame')
    expect(toy.kinds.credential?.plan(ref, { name: 'Day watch', secret }, undefined)).toEqual({
      ok: true,
      value: {
        method: 'PATCH',
        template: '/realms/{realm}/logins/{login}',
        ref,
        headers: { 'content-type': 'application/json' },
        body: { label: 'Day watch', passphrase: secret },
      },
    })
  })

  const samples: Samples = {
    kinds: {
      credential: {
        ref: { realm: 'museum', login: 'night watch' },
        needs: {},
        read: answer,
        written: answer,
        refusals: (words) => [{ error: words }],
      },
    },
  }
  adapterContract('toy', toy, samples)
})

interface Login {
  login: string
  label: string
  active: boolean
  ref: string
  passphrase: string
}

/** The toy's server: one resource per path, merged by PATCH; it tells everything, the passphrase too. */
async function startToy() {
  const logins = new Map<string, Login>()
  /** Members that a PATCH leaves as they were, though it answers with success. */
  const stubborn = new Set<string>()
  const requests: { method: string; path: string; body: unknown }[] = []
  const server = createServer(async (incoming, outgoing) => {
    const { method = '', url: path = '' } = incoming
    const text = Buffer.concat(await incoming.toArray()).toString()
    const body = text === '' ? undefined : JSON.parse(text)
    requests.push({ method, path, body })
    const found = logins.get(path)
    const reply = (status: number, answer: object) =>
      outgoing.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(answer))
    if (incoming.headers['x-toy-key'] !== 'Toy toy-secret') return reply(401, { error: 'who?' })
    if (!found) return reply(404, { error: 'what?' })
    const taken = Object.entries(body ?? {}).filter(([name]) => !stubborn.has(name))
    if (method === 'PATCH') logins.set(path, { ...found, ...Object.fromEntries(taken) })
    return reply(200, logins.get(path) as Login)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v7`,
    logins,
    requests,
    stubborn,
    close() {
      server.close()
      server.closeAllConnections()
    },
  }
}

describe('a gateway with the provider in its registry', () => {
  let upstream: Awaited<ReturnType<typeof startToy>>
  let gateway: TestGateway
  let document: Json
  beforeAll(async () => {
    upstream = await startToy()
    const { connections, ...rest } = configuration(inject('sandbox')) as Json
    const account = { provider: 'toy', baseUrl: upstream.url, apiKey: { env: 'TOY_KEY' } }
    document = {
      ...rest,
      connections: {
        ...connections,
        'toy-account': account,
        'toy-foreign': { ...account, apiKey: { env: 'DISCUE_API_KEY' } },
      },
    }
    gateway = await startTestGateway(document, { registry, env: { TOY_KEY: 'toy-secret' } })
  })
  afterAll(async () => {
    await gateway?.close()
    upstream?.close()
  })

  const PATH = '/v7/realms/museum/logins/night%20watch'
  const id = 'toy-account:museum:night watch'
  beforeEach(() => {
    upstream.requests.length = 0
    upstream.stubborn.clear()
    upstream.logins.set(PATH, { ...documented, passphrase: 'the-old-passphrase' })
  })

  async function call(method: string, path: string, body?: object) {
    const response = await fetch(gateway.url + path, {
      method,
      headers: { 'x-api-key': keys.admin, 'content-type': 'application/json' },
      ...(body && { body: JSON.stringify(body) }),
    })
    return { status: response.status, body: (await response.json()) as Json }
  }
  const put = (body: object, query = '') =>
    call('PUT', `/credentials/${encodeURIComponent(id)}${query}`, body)
  const problemOf = ({ status, body }: Awaited<ReturnType<typeof call>>) => [status, body.type]

  test('reads it in the words of the model', async () => {
    const { status, body } = await call('GET', `/credentials/${encodeURIComponent(id)}`)
    expect(status).toBe(200)
    expect(body).toEqual({
      id,
      connection: 'toy-account',
      provider: 'toy',
      readable: true,
      etag: expect.any(String),
      name: 'Night watch',
      enabled: true,
      reference: 'vault:1',
    })
  })

  test('changes what differs, and tells no secret', async () => {
    const reply = await put({ name: 'Day watch', enabled: true, secret: 'the-new-passphrase' })
    expect(reply.status).toBe(200)
    expect(reply.body).toMatchObject({
      outcome: 'applied',
      widens: false,
      credential: { name: 'Day watch', enabled: true },
      fields: {
        name: { action: 'set', from: 'Night watch', to: 'Day watch' },
        secret: { action: 'set', fingerprint: expect.stringMatching(/^hmac-sha256:1:/) },
      },
      upstream: { method: 'PATCH', status: 200, attempts: 1 },
    })
    expect(upstream.requests).toEqual([
      { method: 'GET', path: PATH, body: undefined },
      { method: 'PATCH', path: PATH, body: { label: 'Day watch', passphrase: 'the-new-passphrase' } },
    ])
    expect(JSON.stringify([reply.body, gateway.logged])).not.toMatch(/passphrase"|the-old|the-new|toy-secret/)
  })

  test('says what it did not take, and nothing of a secret beside it', async () => {
    upstream.stubborn.add('label').add('active')
    const told = async (body: object) => {
      const reply = await put(body)
      return [reply.status, reply.body.type, reply.body.outcome]
    }
    // Nobody can tell whether the passphrase is in force.
    const unknown = [504, '/problems/outcome-unknown', 'unknown']
    expect(await told({ name: 'Day watch', secret: 'the-new-passphrase' })).toEqual(unknown)
    expect(await told({ name: 'Day watch' })).toEqual([502, '/problems/not-taken', 'rejected'])
    upstream.stubborn.delete('active')
    expect(await told({ name: 'Day watch', enabled: false })).toEqual([502, '/problems/not-taken', 'partial'])
  })

  test('records intent and outcome', async () => {
    const { body } = await put({ enabled: false })
    const events = (await call('GET', `/audit?change=${body.changeId}`)).body.data.toReversed()
    expect(events).toMatchObject([
      { type: 'intent', outcome: null, connection: 'toy-account', resource: id, kind: 'credential' },
      { type: 'outcome', outcome: 'applied', fields: { enabled: { action: 'set', from: true, to: false } } },
    ])
    expect((await call('GET', '/audit?provider=toy')).body.data.length).toBeGreaterThanOrEqual(2)
  })

  test('plans without writing, and writes nothing where nothing differs', async () => {
    const planned = await put({ secret: 'the-new-passphrase', enabled: false }, '?dryRun=true')
    expect(planned.body.plan.request).toEqual({
      method: 'PATCH',
      path: PATH,
      headers: { 'content-type': 'application/json', 'x-toy-key': '[secret]' },
      body: { active: false, passphrase: '[secret]' },
    })
    const same = await put({ name: 'Night watch', enabled: true })
    expect(same.body).toMatchObject({ outcome: 'applied', changed: false })
    expect(upstream.requests.map(({ method }) => method)).toEqual(['GET', 'GET'])
  })

  test('validates by its table and its grammar, and asks it nothing', async () => {
    expect(problemOf(await put({ email: 'a@b.example' }))).toEqual([422, '/problems/unsupported-field'])
    expect(problemOf(await put({ reference: 'vault:2' }))).toEqual([422, '/problems/read-only-field'])
    expect(problemOf(await put({ name: null }))).toEqual([422, '/problems/validation-failed'])
    const replacing = await put({ name: 'Day watch' }, '?mode=replace')
    expect(replacing.body.errors.map(({ pointer }: Json) => pointer).toSorted()).toEqual([
      '#/enabled',
      '#/secret',
    ])
    for (const key of ['museum', 'museum:Night', 'museum:night:watch', 'museum:night%2Fwatch'])
      expect(problemOf(await call('GET', `/credentials/toy-account:${key}`))).toEqual([
        400,
        '/problems/invalid-id',
      ])
    expect(problemOf(await call('GET', '/roles/toy-account:museum:guard'))).toEqual([
      404,
      '/problems/not-found',
    ])
    expect(upstream.requests).toEqual([])
  })

  test('tells its refusals apart', async () => {
    const absent = '/credentials/toy-account:museum:day%20watch'
    expect(problemOf(await call('GET', absent))).toEqual([404, '/problems/not-found'])
    const foreign = '/credentials/toy-foreign:museum:night%20watch'
    expect(problemOf(await call('PUT', foreign, { name: 'x' }))).toEqual([
      502,
      '/problems/upstream-unauthorized',
    ])
  })

  test('lists it with all that it can do', async () => {
    const listed = (await call('GET', '/providers')).body.data.find(({ name }: Json) => name === 'toy')
    expect(Object.keys(listed.kinds)).toEqual(['credential'])
    const { key, readable, fields } = listed.kinds.credential
    expect({ key, readable }).toEqual({ key: '{realm}:{login}', readable: true })
    expect(fields).toMatchObject({
      name: { mutability: 'readWrite', upstream: 'label' },
      secret: { mutability: 'writeOnly', upstream: 'passphrase' },
      email: { mutability: 'unsupported' },
    })
    const { data } = (await call('GET', '/connections')).body
    expect(data).toContainEqual({
      name: 'toy-account',
      provider: 'toy',
      kinds: ['credential'],
      verifyWrites: true,
    })
  })

  test('documents it beside the others', async () => {
    const { components } = (await call('GET', '/openapi.json')).body
    const described = (field: string): string =>
      components.schemas.CredentialUpdate.properties[field].description
    expect(described('name')).toMatch(/discue: readWrite as `name`;.*toy: readWrite as `label`/)
    expect(described('secret')).toContain('toy: writeOnly as `passphrase`')
    expect(described('email')).not.toContain('toy')
  })

  test('takes its settings from the configuration like any other', () => {
    const faultsWith = (account: object, known: Registry = registry) => {
      const text = JSON.stringify({ connections: { account: { provider: 'toy', ...account } } })
      const read = readConfig(text, { ...environment, TOY_KEY: 'x' }, known)
      return read.ok ? [] : read.faults.map(({ path, detail }) => `${path} ${detail}`)
    }
    const baseUrl = 'https://toy.example'
    expect(faultsWith({ baseUrl, apiKey: { env: 'TOY_KEY' } })).toEqual([])
    expect(faultsWith({ baseUrl, token: { env: 'TOY_KEY' } })).toEqual([
      '#/connections/account needs apiKey, and nothing else',
    ])
    expect(faultsWith({ apiKey: { env: 'TOY_KEY' } })).toEqual([
      '#/connections/account/baseUrl is required for this provider',
    ])
    expect(faultsWith({ baseUrl, apiKey: { env: 'TOY_KEY' } }, providers)).toEqual([
      '#/connections/account/provider is none of commerce-layer, discue, apinizer',
    ])
  })
})

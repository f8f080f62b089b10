import { createHash, hkdfSync, randomBytes } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { environments as DEPLOYS_TO } from '../../sandbox/apinizer/deployment.ts'
import { type Sandbox, startSandbox } from '../../sandbox/server.ts'
import { problems } from '../../src/model/problems.ts'
import { type Disguise, disguise } from '../harness/canary-disguise.ts'
import { type Canary, canaryText, canaryToken, type Search, searchFor } from '../harness/canary-search.ts'
import { at, configuration, keys as fixedKeys, sha256 } from '../harness/configuration.ts'
import { startTestGateway, type TestGateway } from '../harness/gateway.node.ts'
import { type Control, controlOf, type Json } from '../harness/sandbox-calls.ts'

// Secrets are sent through every route and every fault, and then looked for in everything that the gateway has said,
// logged and stored: 9 MB with 370,000 different places of 8 visible characters. Summed over all pieces and forms, one of
// these is a canary's by accident in fewer than one run of 20,000.

const secret = canaryText()
const misplaced = canaryText()
const memberName = canaryText()
const inHeader = canaryToken()
const told = canaryText()
const hiddenMetadata = canaryText()
const auditKey = { id: 1, bytes: randomBytes(32) }
const keys = Object.fromEntries(
  Object.keys(fixedKeys).map((id) => [id, `cgw_${id}_${canaryToken()}`]),
) as typeof fixedKeys
/** Of accounts that the providers do not know, so that what the gateway signs in with can be any text. */
const foreign = {
  FOREIGN_SECRET: canaryText(),
  FOREIGN_TOKEN: canaryToken(),
  FOREIGN_KEY: canaryToken(),
  // Of characters that no header has.
  BROKEN_TOKEN: `${canaryToken()}€${canaryToken()}`,
}

/** Everything that must never be seen; what the gateway signs in with joins when it has signed in. */
const canaries: Record<string, Canary> = {
  'a secret that a caller sends': secret,
  'a secret in a place where none belongs': misplaced,
  'a secret as the name of a member': memberName,
  'a secret in a header or query': inHeader,
  'a secret that the provider tells': told,
  'metadata of a connection that hides it': hiddenMetadata,
  ...named('the key of the caller', keys, (key) => key.slice(-43)),
  ...named('the credential', foreign, (text) => text),
  'the audit key': auditKey.bytes,
  'the audit key in base64': auditKey.bytes.toString('base64'),
  ...Object.fromEntries(
    ['fingerprint', 'etag', 'request'].map((use) => [`the key of each ${use}`, derivedKey(use)]),
  ),
}

function named<T>(
  what: string,
  all: Record<string, T>,
  canaryOf: (one: T) => Canary,
): Record<string, Canary> {
  return Object.fromEntries(Object.entries(all).map(([name, one]) => [`${what} ${name}`, canaryOf(one)]))
}

function derivedKey(use: string): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', auditKey.bytes, '', `credential-gateway/${use}`, 32))
}

/** Which secrets stand in which files of a folder. Reading a file drops the process's locks on it, which nobody contends. */
const foundIn = (folder: string, search: Search): Record<string, string[]> =>
  Object.fromEntries(
    readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map(({ name }) => [name, search(readFileSync(join(folder, name)))] as const)
      .filter(([, found]) => found.length > 0),
  )

/** Connections for faults: with few on each, no provider is taken to be down, and what one holds back no other waits for. */
const CONNECTIONS = 24
const FAULTS_ON_EACH = 4
const brief = (provider: string, connection: { baseUrl: string }) =>
  Object.fromEntries(
    ['put', 'patch', 'get'].flatMap((method) =>
      Array.from({ length: CONNECTIONS }, (_, n) => [
        `brief-${provider}-${method}-${n}`,
        { ...at(`brief-${method}-${n}`, connection), deadlineMs: 8000 },
      ]),
    ),
  )

describe('after everything that can be done with a secret', () => {
  const folder = mkdtempSync(join(tmpdir(), 'canary-'))
  let sandbox: Sandbox
  let front: Disguise
  let gateway: TestGateway
  let controls: Record<'commerceLayer' | 'discue' | 'apinizer', Control>
  let search: Search
  let stopped = false
  /** Everything that the gateway has answered: status, headers and body as text. */
  const replies: { to: string; status: number; text: string }[] = []

  interface Call {
    body?: unknown
    key?: string | null
    headers?: Record<string, string>
  }

  async function call(method: string, path: string, { body, key = keys.admin, headers = {} }: Call = {}) {
    const response = await fetch(gateway.url + path, {
      method,
      redirect: 'manual',
      headers: {
        ...(key !== null && { 'x-api-key': key }),
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body !== undefined && {
        body: typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body),
      }),
    })
    const text = await response.text()
    const head = [...response.headers].map(([name, value]) => `${name}: ${value}`)
    const { status } = response
    replies.push({ to: `${method} ${path}`, status, text: [status, ...head, '', text].join('\n') })
    return { status, text }
  }
  const put = (path: string, body: unknown, more: Call = {}) => call('PUT', path, { ...more, body })

  let minted = 0
  const freshId = (): string => `canary${String((minted += 1)).padStart(6, '0')}`

  /** A resource at each provider that holds or is told a secret, and a change of it. */
  interface Subject {
    path: string
    body: object
    control: Control
    /** What a fault has to match. */
    match: { path: string }
  }
  async function commerceLayerCredential(connection = 'commerce-layer'): Promise<Subject> {
    const id = freshId()
    const attributes = { client_secret: told, name: 'Before' }
    await controls.commerceLayer.mint('api_credentials', id, { attributes })
    const control = controls.commerceLayer
    return { path: `/credentials/${connection}:${id}`, body: { name: 'After' }, control, match: { path: id } }
  }
  async function discueClient(connection = 'discue'): Promise<Subject> {
    const id = freshId()
    await controls.discue.mint('api_clients', id)
    const body = { name: `example.com/${id}/after` }
    return { path: `/credentials/${connection}:${id}`, body, control: controls.discue, match: { path: id } }
  }
  async function apinizerCredential(connection = 'apinizer', more: object = {}): Promise<Subject> {
    const project = freshId()
    await controls.apinizer.mint('credential', `${project}/user-${project}`, { password: told, ...more })
    return {
      path: `/credentials/${connection}:${project}:user-${project}`,
      body: { secret, description: 'After' },
      control: controls.apinizer,
      match: { path: project },
    }
  }

  const passwordOf = async ({ match }: Subject): Promise<string> =>
    (await controls.apinizer.state('credential', `${match.path}/user-${match.path}`)).passwordSha256
  async function underWay(project: string): Promise<void> {
    const isSeen = async () =>
      (await controls.apinizer.requests()).some(
        ({ method, path }) => method === 'PUT' && path.includes(project),
      )
    await expect.poll(isSeen).toBe(true)
  }
  const sha256OfSecret = createHash('sha256').update(secret).digest('hex')

  beforeAll(async () => {
    sandbox = await startSandbox({ limits: 'off' })
    front = await disguise(sandbox.urls)
    const { connections, ...rest } = configuration(front.urls) as Json
    const byLogin = { ...connections['apinizer-login'], baseUrl: connections.apinizer.baseUrl }
    const document = {
      ...rest,
      connections: {
        ...connections,
        'foreign-cl': {
          ...at('foreign', connections['commerce-layer'] as Json),
          clientId: { env: 'CL_CLIENT_ID' },
          clientSecret: { env: 'FOREIGN_SECRET' },
        },
        'foreign-login': { ...at('foreign-login', byLogin), clientSecret: { env: 'FOREIGN_SECRET' } },
        'foreign-apinizer': {
          ...at('foreign', connections.apinizer as Json),
          self: [],
          token: { env: 'FOREIGN_TOKEN' },
        },
        'broken-apinizer': {
          ...at('broken', connections.apinizer as Json),
          self: [],
          token: { env: 'BROKEN_TOKEN' },
        },
        'foreign-discue': { ...at('foreign', connections.discue as Json), apiKey: { env: 'FOREIGN_KEY' } },
        // A wait that a provider asks for is longer than these have time.
        ...brief('cl', connections['commerce-layer']),
        ...brief('discue', connections.discue),
        ...brief('apinizer', byLogin),
      },
    }
    let text = JSON.stringify(document)
    for (const [id, key] of Object.entries(keys))
      text = text.replace(sha256(fixedKeys[id as keyof typeof keys]), sha256(key))
    gateway = await startTestGateway(JSON.parse(text), {
      database: join(folder, 'gateway.db'),
      env: { ...front.env, ...foreign },
      key: auditKey,
    })
    const { commerceLayer, discue, apinizer } = sandbox.urls
    controls = {
      commerceLayer: controlOf(commerceLayer),
      discue: controlOf(discue),
      apinizer: controlOf(apinizer),
    }
    // The foreign key would lock the good one out.
    await controls.discue.settings({ lockout: { badKeys: 10_000, withinSeconds: 1, forSeconds: 1 } })

    await changes()
    await misplacedSecrets()
    await secretsInHeaders()
    await faults()
    await echoes()
    await pages()
    search = searchFor({
      ...canaries,
      ...named('the credential', front.env, (text) => text),
      ...named('the token', Object.fromEntries(front.tokens.entries()), (token) => token),
    })
  }, 120_000)

  afterAll(async () => {
    if (!stopped) await gateway?.close()
    front?.close()
    await sandbox?.close()
    rmSync(folder, { recursive: true })
  })

  /** Changes as they should be: made, planned, without effect, refused for the caller or the state, repeated, at once. */
  async function changes(): Promise<void> {
    for (const connection of ['commerce-layer', 'cl-hiding', 'cl-reader', 'foreign-cl']) {
      const { path, body } = await commerceLayerCredential(connection)
      await call('GET', path)
      await put(`${path}?dryRun=true`, body)
      await put(path, body)
      await put(path, body)
      const metadata = { added: hiddenMetadata }
      if (connection === 'cl-hiding') await put(path, { metadata })
      await call('GET', path)
    }
    for (const connection of ['discue', 'discue-limited', 'discue-nowhere', 'foreign-discue']) {
      const { path, body } = await discueClient(connection)
      await put(path, body)
      await call('GET', path)
    }
    const connections = [
      'apinizer',
      'apinizer-login',
      'apinizer-readonly',
      'foreign-apinizer',
      'foreign-login',
      'broken-apinizer',
    ]
    for (const connection of connections) {
      const { path, body } = await apinizerCredential(connection)
      await put(`${path}?dryRun=true`, body)
      await put(`${path}?dryRun=true`, { secret })
      await put(path, body)
      await put(path, { secret })
      await put(path, { secret, description: 'After' })
      await call('GET', path)
    }

    const { path, body } = await apinizerCredential()
    for (const key of [keys.reader, keys.planner, keys.narrow, keys.auditor, keys.expired, null])
      await put(path, body, { key })
    await put(path, body, { key: keys.blind })
    await put(`${path}?dryRun=true`, body, { key: keys.planner })
    await put(`${path}?mode=replace`, body)
    await put(`${path}?allowSelf=true`, { ...body, description: 'Once more' })
    await put(path, body, { headers: { 'if-match': '"another"' } })
    await put(path, { secret, email: 'nobody' })
    await put(path, { secret, roles: ['NO_SUCH_ROLE'] })
    await put(`${path}-absent`, body)
    for (let time = 0; time < 3; time++)
      await put(path, { ...body, name: 'Keyed' }, { headers: { 'idempotency-key': 'key-1' } })
    for (let guess = 0; guess < 6; guess++)
      await put(path, { secret: `${secret}!`, name: 'Keyed' }, { headers: { 'idempotency-key': 'key-1' } })
    const same = { headers: { 'idempotency-key': 'key-2' } }
    await Promise.all([1, 2].map(() => put(path, { ...body, name: 'At once' }, same)))
    const client = await discueClient()
    const late = { headers: { 'idempotency-key': 'key-3' } }
    await client.control.fault({ reset: 'before' }, { match: { ...client.match, method: 'PUT' }, times: 3 })
    await put(client.path, client.body, late)
    await client.control.send('DELETE', '/faults')
    await put(client.path, { name: 'example.com/newer' })
    await put(client.path, client.body, late)
    await Promise.all(Array.from({ length: 24 }, (_, at) => put(path, { secret, name: `Name ${at}` })))
    const withSecretMetadata = await apinizerCredential('apinizer', {
      metadata: [{ key: 'k', value: told, secret: true }],
    })
    await put(withSecretMetadata.path, withSecretMetadata.body)
    await put(withSecretMetadata.path, { secret })
    await call('GET', '/providers', { headers: { 'x-long': encodeURIComponent(secret).repeat(500) } })
    // Too large to be recorded with its change.
    const large = freshId()
    const attributes = { client_secret: told, name: 'Before', metadata: { note: 'x'.repeat(300_000) } }
    await controls.commerceLayer.mint('api_credentials', large, { attributes })
    await put(`/credentials/commerce-layer:${large}`, { metadata: { more: 1 } })
    await controls.apinizer.mint('credential', 'MyProject/gateway-itself', {})
    await put('/credentials/apinizer:MyProject:gateway-itself', { secret })
    await put('/credentials/apinizer:MyProject:gateway-itself?allowSelf=true', { secret })
    expect(await passwordOf(withSecretMetadata)).toBe(sha256OfSecret)
  }

  /** Secrets where a field has another meaning, another type or no meaning, and in bodies that cannot be read. */
  async function misplacedSecrets(): Promise<void> {
    const names = `password clientSecret client_secret secret kind clientId subject metadata email roles allowedIps
      expiresAt enabled tokenLifetime redirectUri canRead createdAt restrictions scopes confidential custom mode`
    const bodies: unknown[] = names
      .split(/\s+/)
      .flatMap((name) => [
        ...(name === 'secret' || name === 'redirectUri' ? [] : [{ [name]: misplaced }]),
        ...(name === 'metadata' || name === 'restrictions'
          ? []
          : [{ [name]: { value: misplaced } }, { [name]: { [memberName]: misplaced } }]),
        { [name]: [misplaced, misplaced] },
        { [name]: [[misplaced]] },
      ])
    bodies.push(
      { secret: `${misplaced}\0` },
      { name: `${misplaced}\0` },
      { name: { first: misplaced } },
      { redirectUri: `nowhere ${misplaced}` },
      `{"secret":"${misplaced}`,
      `{"secret":${JSON.stringify(misplaced)},}`,
      `{"secret":${JSON.stringify(misplaced)}} trailing`,
      `{secret:${JSON.stringify(misplaced)}}`,
      misplaced,
      JSON.stringify(misplaced),
      JSON.stringify([misplaced]),
      `{"secret":${JSON.stringify(misplaced)},"secret":${JSON.stringify(misplaced)}}`,
      `{"__proto__":{"secret":${JSON.stringify(misplaced)}}}`,
      `{"secret":${'['.repeat(40)}${JSON.stringify(misplaced)}${']'.repeat(40)}}`,
      `{"secret":"\\ud800${misplaced.slice(0, 20)}"}`,
      { secret: misplaced.repeat(1000) },
      Buffer.concat([
        Buffer.from(`{"secret":"${misplaced.slice(0, 20)}`),
        Buffer.from([0xff, 0xfe]),
        Buffer.from('"}'),
      ]),
      { [memberName]: 1 },
      { [memberName]: { [memberName]: 1 } },
      `{${JSON.stringify(memberName)}:1,${JSON.stringify(memberName)}:2}`,
      `{${JSON.stringify(memberName)}:{"a":1,"a":2}}`,
      `{${JSON.stringify(memberName)}:${'['.repeat(40)}${']'.repeat(40)}}`,
      `{${JSON.stringify(memberName)}:{"__proto__":1}}`,
    )
    const credentials = await Promise.all([commerceLayerCredential(), discueClient(), apinizerCredential()])
    const paths = [
      ...credentials.map(({ path }) => path),
      '/roles/commerce-layer:ABCRtyUpBa',
      '/permissions/commerce-layer:xYZkjABcde',
    ]
    for (const body of bodies) {
      await Promise.all(paths.map((path) => put(path, body)))
      await Promise.all(paths.slice(0, 3).map((path) => put(`${path}?mode=replace`, body)))
    }
    await put(paths[2] ?? '', { secret, [memberName]: 1 }, { key: keys.narrow })
    await put('/credentials/apinizer:Narrow:svc', { secret, [memberName]: 1 }, { key: keys.narrow })
    for (const headers of [
      { 'content-type': 'text/plain' },
      { 'content-type': 'application/json; charset=utf-16' },
      { 'content-encoding': 'gzip' },
    ])
      await put(paths[2] ?? '', { secret }, { headers })
    for (const method of ['POST', 'PATCH', 'DELETE']) await call(method, paths[2] ?? '', { body: { secret } })
    await call('POST', '/audit', { body: { secret } })
    const resolve = '/changes/01979d3e-0000-7000-8000-000000000000/resolve'
    for (const body of [
      { outcome: misplaced },
      { outcome: 'applied', reason: [misplaced] },
      { [memberName]: misplaced },
    ])
      await call('POST', resolve, { body })
    await put('/credentials/apinizer:..%2F:svc', { secret })
    await put(`/credentials/cl-careful:${freshId()}`, { name: 'Not with If-Match' })
    for (let time = 0; time < 4; time++) await call('GET', paths[2] ?? '', { key: keys.limited })
    await call('HEAD', paths[2] ?? '')
    await put('/no/such/route', { secret })
  }

  async function secretsInHeaders(): Promise<void> {
    const { path, body } = await apinizerCredential()
    const anonymous: Record<string, string>[] = [
      { authorization: `Bearer ${inHeader}` },
      { authorization: `Basic ${btoa(`user:${inHeader}`)}` },
      { authorization: inHeader },
      { 'x-api-key': inHeader },
      { 'x-api-key': `cgw_admin_${inHeader}` },
      { cookie: `session=${inHeader}` },
    ]
    const known: Record<string, string>[] = [
      { authorization: `Bearer ${inHeader}` },
      { 'if-match': inHeader },
      { 'if-match': `"${inHeader}"` },
      { 'if-none-match': `"${inHeader}"` },
      { 'x-change-reason': `%zz${inHeader}` },
      { 'x-request-id': `"${inHeader}"` },
      { traceparent: inHeader },
      { cookie: inHeader },
      { 'content-type': inHeader },
    ]
    for (const headers of anonymous) {
      await call('GET', path, { key: null, headers })
      await put(path, body, { key: null, headers })
    }
    for (const headers of known) {
      await call('GET', path, { headers })
      await put(path, body, { headers })
    }
    for (const query of [
      `key=${inHeader}`,
      `dryRun=${inHeader}`,
      `${inHeader}=1`,
      `mode=${inHeader}&mode=x`,
    ]) {
      await call('GET', `${path}?${query}`)
      await put(`${path}?${query}`, body)
      await call('GET', `/audit?${query}`)
    }
    await call('GET', `/audit?cursor=${inHeader}&limit=${inHeader}&since=${inHeader}&outcome=${inHeader}`)
  }

  /** The secret as the name of an environment, and in fields beside it. */
  async function echoes(): Promise<void> {
    const environments = [{ name: secret, pods: ['worker'], latencyMs: 1 }]
    await controls.apinizer.settings({ environments })
    for (const fault of [{}, { partialDeployment: { environments: [secret], level: 'environment' } }]) {
      const { path, body, match } = await apinizerCredential()
      const fullName = { store: { fullName: `Mx ${secret}` }, ...fault }
      await controls.apinizer.fault(fullName, { match: { ...match, method: 'PUT' }, times: 2 })
      const headers = { 'idempotency-key': match.path }
      for (let n = 0; n < 2; n++) await put(path, body, { headers })
      await put(`${path}?dryRun=true`, { ...body, enabled: false })
    }
    await controls.apinizer.send('POST', '/settings', { environments: DEPLOYS_TO })
  }

  /** Every kind of fault that the sandbox has, on reads and on writes; provider words echo the secret where they can. */
  async function faults(): Promise<void> {
    const statuses = [400, 401, 403, 404, 405, 408, 409, 410, 415, 422, 423, 500, 501, 502, 521]
    // Last: it holds back its host for longer than the others have time.
    const waits = { status: 429, retryAfter: inHeader }
    const ordinary: object[] = [
      ...statuses.flatMap((status) => [{ status }, { status, code: secret }]),
      ...[200, 401, 422, 500].map((status) => ({ status, applied: true, code: secret })),
      ...['empty', 'text'].flatMap((body) =>
        [200, 422, 500].map((status) => ({ status, body, applied: true })),
      ),
      ...['on-headers', 'before', 'after', 'mid-body'].map((reset) => ({ reset })),
      { status: 429, retryAfter: '0' },
      { status: 503, retryAfter: '0', code: secret },
      { truncate: true },
      { wrongType: true },
      { wrongType: 'numbers' },
      { contentType: 'text/html' },
      { contentType: inHeader },
      { redirect: { status: 307, location: `http://127.0.0.1:65529/?${inHeader}` } },
      { drip: { chunkBytes: 256, everyMs: 1 } },
      { oversize: 2 << 20 },
      { delayBeforeMs: 20, delayAfterMs: 20 },
      { keep: ['*'] },
    ]
    const ofApinizer: object[] = [
      ...[200, 400, 401, 404, 409, 422, 500].flatMap((status) => [
        { failure: { status, resultMessage: secret } },
        { failure: { status, resultMessage: `Credential ${secret} was not found.` } },
        { failure: { status, resultMessage: `The username ${secret} is already used.` } },
      ]),
      { store: { description: `it is ${secret}` } },
      { partialDeployment: { missing: true } },
      { partialDeployment: {} },
      { partialDeployment: { environments: ['production'] } },
      { partialDeployment: { environments: [secret] } },
      { partialDeployment: { environments: ['staging'], level: 'environment' } },
      { partialDeployment: { environments: ['production'], level: 'pod' } },
    ]
    type Run = [
      make: (connection: string) => Promise<Subject>,
      provider: string,
      method: string,
      faults: object[],
    ]
    const onlySecret = async (connection: string) => ({
      ...(await apinizerCredential(connection)),
      body: { secret },
    })
    const ofEveryKind = [...ordinary, ...ofApinizer]
    // Runs on one connection would wait for one another beyond its deadline.
    const lines: Run[][] = [
      [
        [commerceLayerCredential, 'cl', 'PATCH', ordinary],
        [commerceLayerCredential, 'cl', 'GET', ordinary],
      ],
      [[discueClient, 'discue', 'PUT', ordinary]],
      [
        [apinizerCredential, 'apinizer', 'PUT', ofEveryKind],
        [apinizerCredential, 'apinizer', 'GET', ofEveryKind],
        [onlySecret, 'apinizer', 'PATCH', ofEveryKind],
      ],
    ]
    const performWrite = async ([make, provider, method, list]: Run) => {
      const order = async (fault: object, n: number) => {
        const connection = `brief-${provider}-${method.toLowerCase()}-${Math.floor(n / FAULTS_ON_EACH)}`
        const { path, body, control, match } = await make(connection)
        const { id } = await control.fault(fault, { match: { ...match, method }, times: 2 })
        await put(path, body)
        if (method === 'GET') await call('GET', path)
        return { control, id }
      }
      const orders = await Promise.all(list.map(order))
      orders.push(await order(waits, FAULTS_ON_EACH * (CONNECTIONS - 1)))
      const left = await Promise.all(
        [...new Set(orders.map(({ control }) => control))].map((control) => control.send('GET', '/faults')),
      )
      const unused = left.flatMap(({ faults }) => faults).filter(({ used }) => used === 0)
      const reached = orders.map(({ id }) => !unused.some((fault) => fault.id === id))
      expect(reached).toEqual([...list, waits].map(() => true))
    }
    await Promise.all(
      lines.map(async (runs) => {
        for (const run of runs) await performWrite(run)
      }),
    )
    // Sign-in that fails in the same ways.
    for (const fault of [
      { status: 401, code: secret },
      { status: 500 },
      { wrongType: true },
      { reset: 'after' },
    ]) {
      await controls.commerceLayer.send('POST', '/tokens/revoke')
      const { path, body } = await commerceLayerCredential()
      await controls.commerceLayer.fault(fault, { match: { path: '/oauth/token' }, times: 2 })
      await put(path, body)
      await controls.commerceLayer.send('DELETE', '/faults')
    }
  }

  /** Every route that answers without an id, for every caller, in every form. */
  async function pages(): Promise<void> {
    const { paths } = JSON.parse((await call('GET', '/openapi.json')).text)
    for (const [path, { get }] of Object.entries<Json>(paths)) {
      if (!get || path.includes('{')) continue
      const callers = get.security?.length === 0 ? [null] : [keys.admin, keys.auditor, keys.reader, null]
      for (const key of callers) await call('GET', path, { key })
    }
    for (const slug of Object.keys(problems)) await call('GET', `/problems/${slug}`, { key: null })
    for (let cursor: string | null = ''; cursor !== null;) {
      const page = await call('GET', `/audit?limit=1000${cursor && `&cursor=${cursor}`}`)
      const { data, nextCursor } = JSON.parse(page.text)
      const changeIds = new Set<string>(data.map(({ changeId }: Json) => changeId))
      if (cursor === '') for (const id of [...changeIds].slice(0, 50)) await call('GET', `/changes/${id}`)
      cursor = nextCursor
    }
    for (const accept of ['application/json', 'application/x-ndjson', 'text/csv'])
      for (const route of ['/audit', '/changes'])
        await call('GET', `${route}?limit=1000`, { headers: { accept } })
  }

  test('the secrets have been everywhere', async () => {
    const count = (status: number) => replies.filter((reply) => reply.status === status).length
    for (const status of [200, 400, 401, 403, 404, 405, 409, 412, 413, 415, 422, 423, 429, 502, 503, 504])
      expect(count(status), `replies with status ${status}`).toBeGreaterThan(0)
    expect(replies.length).toBeGreaterThan(1000)
    expect(gateway.logged.length).toBeGreaterThanOrEqual(replies.length)
    expect(front.tokens.length).toBeGreaterThan(5)
    const rotated = await apinizerCredential()
    expect((await put(rotated.path, rotated.body)).status).toBe(200)
    expect(await passwordOf(rotated)).toBe(sha256OfSecret)
    const seen = new Set(
      replies.flatMap(({ status, text }) => (status < 400 ? [] : (text.match(/\/problems\/[\w-]+/) ?? []))),
    )
    // A sick store and a stopping gateway are met below; who is too slow is answered by the server alone.
    const elsewhere = [
      'request-timeout',
      'internal-error',
      'outcome-not-recorded',
      'audit-unavailable',
      'not-ready',
    ]
    expect(Object.keys(problems).filter((slug) => !seen.has(`/problems/${slug}`))).toEqual(elsewhere)
    const audit = replies.filter(({ to }) => to.startsWith('GET /audit?limit'))
    expect(audit.some(({ text }) => text.includes('"fingerprint":"hmac-sha256:1:'))).toBe(true)
  })

  test('no reply tells any of them', () => {
    const leaks = replies.flatMap(({ to, text }) => search(text).map((name) => `${to}: ${name}`))
    expect([...new Set(leaks)]).toEqual([])
  })

  test('no request to a provider tells any of them but where it belongs', () => {
    expect(front.heads.some((head) => /^traceparent: 00-/m.test(head))).toBe(true)
    expect([...new Set(front.heads.flatMap(search))]).toEqual([])
  })

  test('no line of the log tells any of them', () => {
    expect(gateway.logged.flatMap((line) => search(line).map((name) => `${name}: ${line}`))).toEqual([])
  })

  test('no file beside the database holds any of them, before and after a checkpoint', () => {
    expect(readdirSync(folder)).toEqual(
      expect.arrayContaining(['gateway.db', 'gateway.db-wal', 'gateway.db-shm']),
    )
    expect(readFileSync(join(folder, 'gateway.db-wal')).length).toBeGreaterThan(0)
    expect(foundIn(folder, search)).toEqual({})
    const other = new Database(join(folder, 'gateway.db'))
    const kept = other.prepare('SELECT answer FROM idempotency WHERE answer IS NOT NULL').all()
    expect(kept.length).toBeGreaterThan(1)
    other.pragma('wal_checkpoint(TRUNCATE)')
    other.close()
    expect(readFileSync(join(folder, 'gateway.db')).includes('hmac-sha256:1:')).toBe(true)
    expect(foundIn(folder, search)).toEqual({})
  })

  test('nor does one hold any while an outcome waits to be stored', async () => {
    const { path, body, control, match } = await apinizerCredential()
    await control.fault({ delayAfterMs: 300 }, { match: { ...match, method: 'PUT' } })
    const reply = put(path, body)
    await underWay(match.path)
    const other = new Database(join(folder, 'gateway.db'))
    other.exec('BEGIN IMMEDIATE')
    try {
      const { status, text } = await reply
      const { type, changeId } = JSON.parse(text)
      expect([status, type]).toEqual([500, '/problems/outcome-not-recorded'])
      expect(readFileSync(join(folder, 'gateway.db.emergency'), 'utf8')).toContain(changeId)
      expect(search(text)).toEqual([])
      expect(foundIn(folder, search)).toEqual({})
    } finally {
      other.exec('ROLLBACK')
      other.close()
    }
    await expect.poll(async () => (await put(path, body)).status).toBe(200)
    expect(foundIn(folder, search)).toEqual({})
    expect(gateway.logged.flatMap(search)).toEqual([])
  })
  test('nor does anything tell any when the store has lost a table', async () => {
    const { path, body } = await apinizerCredential()
    const other = new Database(join(folder, 'gateway.db'))
    try {
      other.exec('ALTER TABLE changes RENAME TO lost')
      const answers = [await put(path, body), await call('GET', '/changes')]
      expect(answers.map(({ status, text }) => [status, JSON.parse(text).type])).toEqual([
        [503, '/problems/audit-unavailable'],
        [500, '/problems/internal-error'],
      ])
      expect(answers.flatMap(({ text }) => search(text))).toEqual([])
    } finally {
      other.exec('ALTER TABLE lost RENAME TO changes')
      other.close()
    }
    expect(gateway.logged.some((line) => line.includes('request failed'))).toBe(true)
    expect(gateway.logged.flatMap(search)).toEqual([])
    expect(foundIn(folder, search)).toEqual({})
  })
  test('nor does anything tell any when the gateway stops', async () => {
    const [running, late] = [await apinizerCredential(), await apinizerCredential()]
    await running.control.fault({ delayAfterMs: 500 }, { match: { ...running.match, method: 'PUT' } })
    const reply = put(running.path, running.body)
    await underWay(running.match.path)
    stopped = true
    const closed = gateway.close()
    const refused = await put(late.path, late.body)
    expect([refused.status, JSON.parse(refused.text).type]).toEqual([503, '/problems/not-ready'])
    expect((await reply).status).toBe(200)
    await closed
    expect([refused.text, (await reply).text, ...gateway.logged].flatMap(search)).toEqual([])
    expect(readdirSync(folder)).not.toContain('gateway.db-wal')
    expect(foundIn(folder, search)).toEqual({})
  })
})

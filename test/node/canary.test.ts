import { createHash, randomBytes } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Sandbox, startSandbox } from '../../sandbox/server.ts'
import { problems } from '../../src/problems.ts'
import { configuration, environment, keys } from '../configuration.ts'
import { auditKey, startTestGateway, type TestGateway } from '../gateway.node.ts'
import { type Control, controlOf, type Json } from '../sandbox-calls.ts'

// Secrets are sent through every route and every fault, and then looked for in everything that the gateway has said,
// logged and stored.

const random = (): string => randomBytes(24).toString('base64url')
/** Nobody has it by chance, any piece of it is as rare, and it is spelled differently in every encoding. */
const canary = (): string =>
  [...'"\\/%+é\'&<'].map((special) => random().slice(0, 6) + special).join('') + random().slice(0, 6)

const canaries = {
  'a secret that a caller sends': canary(),
  'a secret in a place where none belongs': canary(),
  'a secret as the name of a member': canary(),
  'a secret in a header or query': random(),
  'a secret that the provider tells': canary(),
  'metadata of a connection that hides it': canary(),
  'the key of a caller': keys.admin.slice('cgw_admin_'.length),
  'the client secret of a connection': canary(),
  'the token of a connection': random(),
  'the key of a connection': random(),
}
const {
  'a secret that a caller sends': secret,
  'a secret in a place where none belongs': misplaced,
  'a secret as the name of a member': memberName,
  'a secret in a header or query': inHeader,
  'a secret that the provider tells': told,
} = canaries

/** Fixed values; too much alike for their pieces to mean anything, so they are looked for whole. */
const fixed = [
  ...Object.entries(environment).flatMap(([name, value]) => (/_ID$|_USER$/.test(name) ? [] : [value])),
  Buffer.from(auditKey.bytes).toString('base64'),
]

/** Every way of writing a text in which it might be passed on. */
function spellingsOf(text: string): string[] {
  const bytes = Buffer.from(text)
  // Base64 of a longer text holds one of three forms, by the place where the secret begins; the seams are left off.
  const within = (encoding: 'base64' | 'base64url') =>
    [0, 1, 2].map((before) =>
      Buffer.concat([Buffer.alloc(before), bytes])
        .toString(encoding)
        .slice(before === 0 ? 0 : before + 1)
        .replace(/=+$/, '')
        .slice(0, -1),
    )
  const json = JSON.stringify(text).slice(1, -1)
  return [
    text,
    json,
    JSON.stringify(json).slice(1, -1),
    json.replace(/[^ -~]/g, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`),
    encodeURIComponent(text),
    new URLSearchParams({ '': text }).toString().slice(1),
    text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/"/g, '&quot;').replace(/'/g, '&#39;'),
    bytes.toString('hex'),
    bytes.toString('hex').toUpperCase(),
    ...within('base64'),
    ...within('base64url'),
  ]
}

const PIECE = 12
/** Text as bytes, one character each, so that files and strings are searched alike. */
const asBytes = (text: string): string => Buffer.from(text).toString('latin1')

/** Finds which of the secrets a text holds: whole or any piece of twelve characters, in any spelling. */
function detector(secrets: Record<string, string>, whole: readonly string[]) {
  const pieces = new Map<string, string>()
  for (const [name, text] of Object.entries(secrets)) {
    for (const spelling of spellingsOf(text).map(asBytes)) {
      for (let at = 0; at + PIECE <= spelling.length; at++) pieces.set(spelling.slice(at, at + PIECE), name)
    }
  }
  const wholes = new Map(whole.flatMap((text) => spellingsOf(text).map((one) => [asBytes(one), text])))
  return (content: string | Buffer): string[] => {
    const bytes = typeof content === 'string' ? asBytes(content) : content.toString('latin1')
    const found = new Set(
      [...wholes].filter(([spelling]) => bytes.includes(spelling)).map(([, name]) => name),
    )
    for (let at = 0; at + PIECE <= bytes.length; at++) {
      const name = pieces.get(bytes.slice(at, at + PIECE))
      if (name !== undefined) found.add(name)
    }
    return [...found]
  }
}

/** Which secrets stand in which files of a folder. Reading a file drops the process's locks on it, which nobody contends. */
const foundIn = (folder: string, detect: ReturnType<typeof detector>): Record<string, string[]> =>
  Object.fromEntries(
    readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map(({ name }) => [name, detect(readFileSync(join(folder, name)))] as const)
      .filter(([, found]) => found.length > 0),
  )

const temporaryFolder = () => mkdtempSync(join(tmpdir(), 'canary-'))

interface ListeningPost {
  url: string
  /** Every access token that was issued. */
  tokens: Set<string>
  close(): void
}

/** Passes everything on to a provider and keeps the tokens that it issues. */
async function overhear(origin: string): Promise<ListeningPost> {
  const tokens = new Set<string>()
  const server = createServer(async (incoming, outgoing) => {
    const { method = 'GET', url = '/' } = incoming
    const body = Buffer.concat(await incoming.toArray())
    const { authorization, 'content-type': type = '' } = incoming.headers
    const answer = await fetch(origin + url, {
      method,
      headers: { 'content-type': type, ...(authorization !== undefined && { authorization }) },
      ...(body.length > 0 && { body }),
    }).catch(() => undefined)
    if (!answer) return void incoming.socket.resetAndDestroy()
    const text = await answer.text()
    if (text.includes('access_token')) tokens.add((JSON.parse(text) as Json).access_token)
    outgoing.writeHead(answer.status, { 'content-type': answer.headers.get('content-type') ?? 'text/plain' })
    outgoing.end(text)
  })
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    tokens,
    close() {
      server.close()
      server.closeAllConnections()
    },
  }
}

describe('the search finds what is planted', () => {
  const detect = detector({ planted: secret }, ['fixed-value'])

  test('in every spelling, whole and in pieces', () => {
    for (const spelling of spellingsOf(secret)) {
      expect(detect(`before ${spelling} after`)).toEqual(['planted'])
      for (const at of [0, 7, spelling.length - PIECE])
        expect(detect(`x${spelling.slice(at, at + PIECE)}y`)).toEqual(['planted'])
    }
    for (const before of ['', 'a', 'ab', 'abc'])
      expect(detect(Buffer.from(`${before}${secret}z`).toString('base64'))).toEqual(['planted'])
    expect(detect(JSON.stringify({ body: JSON.stringify({ secret }) }))).toEqual(['planted'])
    expect(detect(Buffer.from('Bearer fixed-value').toString('base64'))).toEqual(['fixed-value'])
  })

  test('and nothing else', () => {
    expect(detect(random() + secret.slice(0, PIECE - 1) + random())).toEqual([])
    expect(detect(createHash('sha256').update(secret).digest('hex'))).toEqual([])
  })

  test('in a database, whether it stands in the file or in its log', () => {
    const folder = temporaryFolder()
    const database = new Database(join(folder, 'planted.db'))
    try {
      database.pragma('journal_mode = WAL')
      database.exec('CREATE TABLE t (padding TEXT, value TEXT)')
      database.pragma('wal_checkpoint(TRUNCATE)')
      database.prepare('INSERT INTO t VALUES (?, ?)').run('-'.repeat(4000), JSON.stringify({ secret }))
      expect(foundIn(folder, detect)).toEqual({ 'planted.db-wal': ['planted'] })
      database.pragma('wal_checkpoint(TRUNCATE)')
      expect(foundIn(folder, detect)).toEqual({ 'planted.db': ['planted'] })
    } finally {
      database.close()
      rmSync(folder, { recursive: true })
    }
  })
})

describe('after everything that can be done with a secret', () => {
  const folder = temporaryFolder()
  let sandbox: Sandbox
  let posts: ListeningPost[]
  let gateway: TestGateway
  let controls: Record<'commerceLayer' | 'discue' | 'apinizer', Control>
  let detect: ReturnType<typeof detector>
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
    await controls.apinizer.mint('credential', `${project}/user`, { password: told, ...more })
    return {
      path: `/credentials/${connection}:${project}:user`,
      body: { secret, description: 'After' },
      control: controls.apinizer,
      match: { path: project },
    }
  }

  const passwordOf = async ({ match }: Subject): Promise<string> =>
    (await controls.apinizer.state('credential', `${match.path}/user`)).passwordSha256
  const sha256OfSecret = createHash('sha256').update(secret).digest('hex')

  beforeAll(async () => {
    sandbox = await startSandbox({ limits: 'off' })
    posts = await Promise.all([overhear(sandbox.urls.commerceLayerAuth), overhear(sandbox.urls.apinizer)])
    const [commerceLayerAuth, login] = posts.map(({ url }) => url) as [string, string]
    const { commerceLayer, discue, apinizer } = sandbox.urls
    const { connections, ...rest } = configuration({ ...sandbox.urls, commerceLayerAuth }) as Json
    const more = {
      // Accounts that the providers do not know, so that what the gateway signs in with can be any text.
      'foreign-cl': {
        ...connections['commerce-layer'],
        clientId: { env: 'CL_CLIENT_ID' },
        clientSecret: { env: 'FOREIGN_SECRET' },
      },
      'foreign-login': { ...connections['apinizer-login'], clientSecret: { env: 'FOREIGN_SECRET' } },
      'foreign-apinizer': { ...connections['apinizer-readonly'], token: { env: 'FOREIGN_TOKEN' } },
      // A wait that a provider asks for is longer than these have time.
      'brief-cl': { ...connections['commerce-layer'], deadlineMs: 5000 },
      'brief-discue': { ...connections.discue, deadlineMs: 5000 },
      'brief-apinizer': { ...connections['apinizer-login'], baseUrl: apinizer, deadlineMs: 5000 },
      'foreign-discue': { ...connections.discue, apiKey: { env: 'FOREIGN_KEY' } },
    }
    const document = {
      ...rest,
      connections: {
        ...connections,
        'apinizer-login': { ...connections['apinizer-login'], baseUrl: login },
        ...more,
      },
    }
    gateway = await startTestGateway(document, {
      database: join(folder, 'gateway.db'),
      env: {
        FOREIGN_SECRET: canaries['the client secret of a connection'],
        FOREIGN_TOKEN: canaries['the token of a connection'],
        FOREIGN_KEY: canaries['the key of a connection'],
      },
    })
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
    await pages()
    // A token's first part says only how it is signed.
    const tokens = posts.flatMap((post) => [...post.tokens])
    const secretParts = tokens.flatMap((token) => token.split('.').slice(1))
    detect = detector(
      { ...canaries, ...Object.fromEntries(secretParts.map((part, at) => [`part ${at} of a token`, part])) },
      fixed,
    )
  }, 120_000)

  afterAll(async () => {
    await gateway?.close()
    for (const post of posts ?? []) post.close()
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
      const metadata = { added: canaries['metadata of a connection that hides it'] }
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
    await put(path, { secret: `${secret}!`, name: 'Keyed' }, { headers: { 'idempotency-key': 'key-1' } })
    await Promise.all(Array.from({ length: 24 }, (_, at) => put(path, { secret, name: `Name ${at}` })))
    const withSecretMetadata = await apinizerCredential('apinizer', {
      metadata: [{ key: 'k', value: told, secret: true }],
    })
    await put(withSecretMetadata.path, withSecretMetadata.body)
    await put(withSecretMetadata.path, { secret })
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

  /** Every kind of fault that the sandbox has, on reads and on writes; provider words echo the secret where they can. */
  async function faults(): Promise<void> {
    const statuses = [400, 401, 403, 404, 405, 408, 409, 410, 415, 422, 423, 500, 501, 502, 521]
    const ordinary: object[] = [
      ...statuses.flatMap((status) => [{ status }, { status, code: secret }]),
      ...[200, 401, 422, 500].map((status) => ({ status, applied: true, code: secret })),
      ...['empty', 'text'].flatMap((body) =>
        [200, 422, 500].map((status) => ({ status, body, applied: true })),
      ),
      ...['on-headers', 'before', 'after', 'mid-body'].map((reset) => ({ reset })),
      { status: 429, retryAfter: '0' },
      { status: 429, retryAfter: inHeader },
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
    ]
    const ofApinizer: object[] = [
      ...[200, 400, 401, 404, 409, 422, 500].flatMap((status) => [
        { failure: { status, resultMessage: secret } },
        { failure: { status, resultMessage: `Credential ${secret} was not found.` } },
        { failure: { status, resultMessage: `The username ${secret} is already used.` } },
      ]),
      { partialDeployment: { missing: true } },
      { partialDeployment: {} },
      { partialDeployment: { environments: ['production'] } },
      { partialDeployment: { environments: [secret] } },
      { partialDeployment: { environments: ['staging'], level: 'environment' } },
      { partialDeployment: { environments: ['production'], level: 'pod' } },
    ]
    const runs: [() => Promise<Subject>, string, object[]][] = [
      [() => commerceLayerCredential('brief-cl'), 'PATCH', ordinary],
      [() => commerceLayerCredential('brief-cl'), 'GET', ordinary],
      [() => discueClient('brief-discue'), 'PUT', ordinary],
      [() => apinizerCredential('brief-apinizer'), 'PUT', [...ordinary, ...ofApinizer]],
      [() => apinizerCredential('brief-apinizer'), 'GET', [...ordinary, ...ofApinizer]],
      [
        async () => ({ ...(await apinizerCredential('brief-apinizer')), body: { secret } }),
        'PATCH',
        [...ordinary, ...ofApinizer],
      ],
    ]
    for (const [make, method, list] of runs) {
      const reached = await Promise.all(
        list.map(async (fault) => {
          const { path, body, control, match } = await make()
          const order = await control.fault(fault, { match: { ...match, method }, times: 2 })
          await put(path, body)
          if (method === 'GET') await call('GET', path)
          const left = (await control.send('GET', '/faults')).faults.find(({ id }: Json) => id === order.id)
          return left?.used !== 0
        }),
      )
      expect(reached).toEqual(list.map(() => true))
    }
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
      const callers = get.security.length === 0 ? [null] : [keys.admin, keys.auditor, keys.reader, null]
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
      await call('GET', '/audit?limit=1000', { headers: { accept } })
  }

  test('the secrets have been everywhere', async () => {
    const count = (status: number) => replies.filter((reply) => reply.status === status).length
    for (const status of [200, 400, 401, 403, 404, 405, 409, 412, 413, 415, 422, 423, 502, 503, 504])
      expect(count(status), `replies with status ${status}`).toBeGreaterThan(0)
    expect(replies.length).toBeGreaterThan(1000)
    expect(gateway.logged.length).toBeGreaterThanOrEqual(replies.length)
    expect(posts.map(({ tokens }) => tokens.size > 0)).toEqual([true, true])
    const rotated = await apinizerCredential()
    expect((await put(rotated.path, rotated.body)).status).toBe(200)
    expect(await passwordOf(rotated)).toBe(sha256OfSecret)
    const audit = replies.filter(({ to }) => to.startsWith('GET /audit?limit'))
    expect(audit.some(({ text }) => text.includes('"fingerprint":"hmac-sha256:1:'))).toBe(true)
  })

  test('no reply tells any of them', () => {
    const leaks = replies.flatMap(({ to, text }) => detect(text).map((name) => `${to}: ${name}`))
    expect([...new Set(leaks)]).toEqual([])
  })

  test('no line of the log tells any of them', () => {
    expect(gateway.logged.flatMap((line) => detect(line).map((name) => `${name}: ${line}`))).toEqual([])
  })

  test('no file beside the database holds any of them, before and after a checkpoint', () => {
    expect(readdirSync(folder)).toEqual(
      expect.arrayContaining(['gateway.db', 'gateway.db-wal', 'gateway.db-shm']),
    )
    expect(readFileSync(join(folder, 'gateway.db-wal')).length).toBeGreaterThan(0)
    expect(foundIn(folder, detect)).toEqual({})
    const other = new Database(join(folder, 'gateway.db'))
    other.pragma('wal_checkpoint(TRUNCATE)')
    other.close()
    expect(readFileSync(join(folder, 'gateway.db')).includes('hmac-sha256:1:')).toBe(true)
    expect(foundIn(folder, detect)).toEqual({})
  })

  test('nor does one hold any while an outcome waits to be stored', async () => {
    const { path, body, control, match } = await apinizerCredential()
    await control.fault({ delayAfterMs: 300 }, { match: { ...match, method: 'PUT' } })
    const reply = put(path, body)
    const isUnderWay = async () =>
      (await control.requests()).some(({ method, path }) => method === 'PUT' && path.includes(match.path))
    await expect.poll(isUnderWay, { timeout: 10_000 }).toBe(true)
    const other = new Database(join(folder, 'gateway.db'))
    other.exec('BEGIN IMMEDIATE')
    try {
      const { status, text } = await reply
      expect([status, JSON.parse(text).type]).toEqual([500, '/problems/outcome-not-recorded'])
      expect(detect(text)).toEqual([])
      expect(foundIn(folder, detect)).toEqual({})
    } finally {
      other.exec('ROLLBACK')
      other.close()
    }
    await expect.poll(async () => (await put(path, body)).status, { timeout: 10_000 }).toBe(200)
    expect(foundIn(folder, detect)).toEqual({})
    expect(gateway.logged.flatMap(detect)).toEqual([])
  })
})

import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { type IncomingMessage, request } from 'node:http'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { PROGRAM } from '../../tools/build.ts'
import { configuration, environment, keys } from '../harness/configuration.ts'
import { controlOf, type Json } from '../harness/sandbox-calls.ts'

const entry = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url))

let folder = ''
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'start-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

let files = 0
/** A path in the folder of this suite that nothing has used before. */
const freshPath = (extension: string): string => join(folder, `${(files += 1)}.${extension}`)

function written(text: string): string {
  const path = freshPath('json')
  writeFileSync(path, text)
  return path
}

const children = new Set<ChildProcess>()
afterAll(async () => {
  for (const child of children) {
    if (child.exitCode !== null || child.signalCode !== null) continue
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
})

interface Running {
  child: ChildProcess
  /** Everything that it has printed so far. */
  printed: { out: string; err: string }
  /** How it ended. */
  ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
}

/** Runs one of the project's programs. It has the environment that is given here and nothing else, and a bounded life. */
function run(program: string, env: Record<string, string>, args: string[] = []): Running {
  const child = spawn(process.execPath, [program, ...args], {
    cwd: folder,
    // Compiled code is kept between the starts of this suite, which has many.
    env: { NODE_COMPILE_CACHE: join(folder, 'compiled'), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 25_000,
    killSignal: 'SIGKILL',
  })
  children.add(child)
  const printed = { out: '', err: '' }
  child.stdout.setEncoding('utf8').on('data', (text: string) => (printed.out += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (printed.err += text))
  const ended = once(child, 'close').then(([code, signal]) => ({ code, signal }))
  return { child, printed, ended }
}

const AUDIT_KEY = randomBytes(32).toString('base64')

/** An environment in which the gateway starts. */
const good = (document: object = configuration(inject('sandbox'))): Record<string, string> => ({
  ...environment,
  AUDIT_KEY,
  GATEWAY_CONFIG: written(JSON.stringify(document)),
  DATABASE: freshPath('db'),
  PORT: '0',
})

/** The lines of a start that is refused: on standard error, with exit code 1, and nothing on standard output. */
async function faultsOf(env: Record<string, string>): Promise<string[]> {
  const { printed, ended } = run(PROGRAM, env)
  expect(await ended).toEqual({ code: 1, signal: null })
  expect(printed.out).toBe('')
  return printed.err.trimEnd().split('\n')
}

interface Started extends Running {
  url: string
  /** The lines that it has logged so far. */
  log(): Json[]
  /** Ends it the way a supervisor does. */
  stop(signal?: 'SIGTERM' | 'SIGINT'): Promise<void>
}

async function started(env: Record<string, string>): Promise<Started> {
  const running = run(PROGRAM, env)
  const { child, printed, ended } = running
  const log = () =>
    printed.out
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line))
  const url = await new Promise<string>((resolve, reject) => {
    const look = () => {
      const line = log().find(({ message }) => message === 'listening')
      if (line) resolve(line.url)
    }
    child.stdout?.on('data', look)
    void ended.then(({ code }) => reject(new Error(`ended with ${code}: ${printed.err}`)))
  })
  const stop = async (signal: 'SIGTERM' | 'SIGINT' = 'SIGTERM') => {
    child.kill(signal)
    expect(await ended).toEqual({ code: 0, signal: null })
  }
  return { ...running, url, log, stop }
}

async function listen(): Promise<{ server: Server; port: number }> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { server, port: (server.address() as AddressInfo).port }
}

async function freePort(): Promise<number> {
  const { server, port } = await listen()
  server.close()
  await once(server, 'close')
  return port
}

/** Stands for whatever must not be printed. */
const VALUE = 'unprintable-5f0c1d7be2'

describe('a start is refused for', () => {
  test('every fault of the environment, all at once and without a value', async () => {
    const lines = await faultsOf({
      PORT: VALUE,
      LOG_LEVEL: VALUE,
      AUDIT_KEY: VALUE,
      GATEWAY_CONFIG: join(folder, `${VALUE}.json`),
    })
    expect(lines.toSorted()).toEqual([
      'AUDIT_KEY must be 32 bytes in base64; make one with: openssl rand -base64 32',
      'GATEWAY_CONFIG names a file that cannot be read (ENOENT)',
      'LOG_LEVEL is none of debug, info, warn, error',
      'PORT is no port number',
    ])
  })

  test('an environment that lacks everything', async () => {
    expect((await faultsOf({})).toSorted()).toEqual([
      'AUDIT_KEY must be 32 bytes in base64; make one with: openssl rand -base64 32',
      'GATEWAY_CONFIG must name the configuration file',
    ])
  })

  test.each([
    [Buffer.alloc(32, 5).toString('hex'), '65536'],
    [`0:${Buffer.alloc(32, 5).toString('base64')}`, '80.5'],
  ])('the audit key %s and the port %s', async (auditKey, port) => {
    const lines = await faultsOf({ ...good(), AUDIT_KEY: auditKey, PORT: port })
    expect(lines.toSorted()).toEqual([
      expect.stringMatching(/^AUDIT_KEY must be 32 bytes/),
      'PORT is no port number',
    ])
    expect(lines.join()).not.toContain(auditKey)
  })

  test('a port that is taken', async () => {
    const { server, port } = await listen()
    const lines = await faultsOf({ ...good(), PORT: String(port) })
    server.close()
    expect(lines.join()).toContain(`EADDRINUSE: address already in use 127.0.0.1:${port}`)
  })

  test('a database that cannot be opened', async () => {
    const lines = await faultsOf({ ...good(), DATABASE: join(written('{}'), 'gateway.db') })
    expect(lines).toHaveLength(1)
    expect(lines[0]).not.toMatch(/^\s+at /m)
  })

  test('a configuration that is no JSON', async () => {
    const lines = await faultsOf({ ...good(), GATEWAY_CONFIG: written(`{"apiKey":"${VALUE}"`) })
    expect(lines).toEqual(['configuration #: is not JSON'])
  })
})

const layer = {
  provider: 'commerce-layer',
  clientId: { env: 'CL_CLIENT_ID' },
  clientSecret: { env: 'CL_CLIENT_SECRET' },
}
const discue = { provider: 'discue', apiKey: { env: 'DISCUE_API_KEY' } }
const apinizer = {
  provider: 'apinizer',
  baseUrl: 'https://apinizer.example',
  token: { env: 'APINIZER_TOKEN' },
}
const allow = [{ actions: ['read'], kinds: ['credential'], ids: ['*'], fields: ['*'] }]
const key = (id: string) => ({ id, sha256: '0'.repeat(64) })

const issuer = { issuer: 'https://id.example', audience: 'gateway', algorithms: ['RS256'] }

const faulty = {
  connections: {
    // What a document's form alone shows to be wrong.
    'with-secret': { ...discue, apiKey: VALUE },
    'unknown-setting': { ...discue, timeout: VALUE },
    'no-encryption': { ...apinizer, baseUrl: 'http://apinizer.example' },
    query: { ...apinizer, baseUrl: `https://apinizer.example/?key=${VALUE}` },
    fragment: { ...apinizer, baseUrl: `https://apinizer.example/#${VALUE}` },
    userinfo: { ...apinizer, baseUrl: `https://user:${VALUE}@apinizer.example` },
    'no-url': { ...apinizer, baseUrl: VALUE },
    impatient: { ...apinizer, deadlineMs: 1 },
    // What shows only when the parts are held against each other, the providers and the environment.
    foreign: { ...discue, provider: VALUE },
    'Main Account': discue,
    'unset-key': { ...discue, apiKey: { env: 'NOT_SET_ANYWHERE' } },
    'wrong-setting': { ...discue, token: { env: 'APINIZER_TOKEN' } },
    'no-secret': { ...layer, clientSecret: undefined },
    'no-address': { ...apinizer, baseUrl: undefined },
    'auth-address': { ...discue, authUrl: 'https://auth.example' },
    'half-staged': { ...layer, baseUrl: `https://${VALUE}.example` },
    'bare-http': { ...apinizer, baseUrl: `http://${VALUE}.example`, allowHttp: true },
    'public-http': { ...apinizer, baseUrl: 'http://1.1.1.1', allowHttp: true, allowPrivateAddresses: true },
    matching: { ...discue, requireIfMatch: true },
    limitless: { ...discue, limits: { writes: [{ requests: 0, seconds: 1 }] } },
    'other-limits': { ...discue, limits: { deletes: [] } },
    agreeing: layer,
    disagreeing: { ...layer, limits: { writes: [] } },
    'other-half': { ...layer, authUrl: `https://${VALUE}.example` },
    selfish: { ...apinizer, self: ['apinizer:MyProject:api-user'] },
  },
  aliases: {
    typed: 7,
    lost: 'nowhere:abc',
    climbing: `discue:${VALUE}/..`,
    escaped: 'apinizer:MyProject:other%20user%40a.example',
    'half-escaped': `apinizer:MyProject:%2F${VALUE}`,
    halved: `apinizer:MyProject:${VALUE}\ud800`,
    decomposed: `apinizer:MyProject:${VALUE}e\u0301`,
  },
  callers: [
    { name: 'billing', keys: [key('k1')], allow },
    { name: 'billing', keys: [key('k2')], allow },
    { name: 'desk', keys: [key('k3'), key('k1')], allow },
    { name: 'plain', keys: [{ id: 'k4', sha256: VALUE }], allow },
    { name: 'acting', keys: [key('k5')], allow: [{ ...allow[0], actions: ['delete'] }] },
    { name: 'locked-out', allow },
    { name: 'everybody', jwt: { issuer: 'https://id.example', claims: {} }, allow },
    { name: 'nested', jwt: { issuer: 'https://id.example', claims: { act: { sub: VALUE } } }, allow },
    { name: 'emptied', jwt: { issuer: 'https://id.example', claims: { groups: [] } }, allow },
    {
      name: 'escaping',
      keys: [key('k6')],
      allow: [
        {
          ...allow[0],
          ids: [
            'apinizer:My%20Project:a%2Ab*',
            'apinizer:%zz',
            'apinizer:%00',
            'a\\b',
            'apinizer:e\u0301:*',
            `apinizer:%2F${VALUE}*`,
            `apinizer:%5C${VALUE}*`,
            `apinizer:e%CC%81${VALUE}:*`,
            'apinizer:%E2%80%AE*',
            'apinizer:P:\\*',
          ],
        },
      ],
    },
    { name: 'stray', jwt: { issuer: `https://${VALUE}.example`, claims: { sub: 'x' } }, allow },
  ],
  issuers: [
    issuer,
    issuer,
    { ...issuer, issuer: VALUE },
    { ...issuer, issuer: 'http://id.example' },
    { ...issuer, issuer: `${VALUE}-1`, jwksUrl: 'http://id.example/keys' },
    { ...issuer, issuer: `${VALUE}-2`, jwksUrl: `https://user:${VALUE}@id.example/keys` },
    { ...issuer, issuer: `${VALUE}-3`, jwksUrl: VALUE },
    { ...issuer, issuer: 'https://a.example', audience: undefined },
    { ...issuer, issuer: 'https://b.example', audience: [] },
    { ...issuer, issuer: 'https://c.example', algorithms: ['RS256', 'HS256'] },
    { ...issuer, issuer: 'https://d.example', algorithms: ['none'] },
    { ...issuer, issuer: 'https://e.example', algorithms: [] },
    { ...issuer, issuer: 'https://f.example', header: `${VALUE}: x` },
    { ...issuer, issuer: 'https://g.example', header: 'X-API-Key' },
    { ...issuer, issuer: 'https://h.example', secret: VALUE },
    VALUE,
  ],
}

/** Where each of them is, and how it is named. */
const faults = {
  '#/connections/with-secret/apiKey':
    'must be a reference such as { "env": "NAME" }; a secret never stands in the configuration',
  '#/connections/unknown-setting': '"timeout"',
  '#/connections/no-encryption/baseUrl':
    'must be https (http is for loopback hosts); in a private network http needs allowHttp',
  '#/connections/query/baseUrl': 'must have no query, fragment or user information',
  '#/connections/fragment/baseUrl': 'must have no query, fragment or user information',
  '#/connections/userinfo/baseUrl': 'must have no query, fragment or user information',
  '#/connections/no-url/baseUrl': 'must be an absolute URL',
  '#/connections/impatient/deadlineMs': '1000',
  '#/connections/foreign/provider': 'is none of commerce-layer, discue, apinizer',
  '#/connections/Main%20Account': 'is not a name',
  '#/connections/unset-key/apiKey/env': 'names NOT_SET_ANYWHERE, which is not set',
  '#/connections/wrong-setting': 'needs apiKey, and nothing else',
  '#/connections/no-secret': 'needs clientId and clientSecret, and nothing else',
  '#/connections/no-address/baseUrl': 'is required for this provider',
  '#/connections/auth-address/authUrl': 'is not used by this provider',
  '#/connections/half-staged/authUrl': 'is required beside baseUrl',
  '#/connections/other-half/baseUrl': 'is required beside authUrl',
  '#/connections/bare-http/allowHttp': 'needs allowPrivateAddresses',
  '#/connections/public-http/baseUrl': 'is no address of a private network',
  '#/connections/matching/requireIfMatch': 'cannot be met: this provider cannot be read',
  '#/connections/limitless/limits/writes/0/requests': '1',
  '#/connections/other-limits/limits': '"deletes"',
  '#/connections/disagreeing/limits/writes': 'differs from what agreeing says of the same host',
  '#/connections/selfish/self/0': 'is not a canonical id of this connection',
  '#/aliases/typed': 'string',
  '#/aliases/lost': 'leads to no connection',
  '#/aliases/climbing': 'the id has a part with a separator',
  '#/aliases/escaped':
    'is percent-encoded, and ids are plain text; write "apinizer:MyProject:other user@a.example"',
  '#/aliases/half-escaped': 'the id has a part with "%" in it; an id is plain text',
  '#/aliases/halved': 'the id has a part that is not well-formed Unicode',
  '#/aliases/decomposed': 'the id has a part that is not in Unicode normalization form C',
  '#/callers/1/name': 'is used twice',
  '#/callers/2/keys/1/id': 'is used twice',
  '#/callers/3/keys/0/sha256': 'must be a SHA-256 in lower-case hex',
  '#/callers/4/allow/0/actions/0': 'read',
  '#/callers/5': 'needs keys, jwt, or both',
  '#/callers/6/jwt/claims': 'must name a claim',
  '#/callers/7/jwt/claims/act': 'must be a text, a number, true or false, or a list of them',
  '#/callers/8/jwt/claims/groups': 'must not be empty',
  '#/callers/9/allow/0/ids/0':
    'is percent-encoded, and ids are plain text; write "apinizer:My Project:a\\\\*b*"',
  '#/callers/9/allow/0/ids/1': 'has a "%", which no id has',
  '#/callers/9/allow/0/ids/2': 'has a "%", which no id has',
  '#/callers/9/allow/0/ids/3': 'has a "\\" that does not stand before a "*"',
  '#/callers/9/allow/0/ids/4': 'is not in Unicode normalization form C',
  '#/callers/9/allow/0/ids/5': 'has a "%", which no id has',
  '#/callers/9/allow/0/ids/6': 'has a "%", which no id has',
  '#/callers/9/allow/0/ids/7': 'has a "%", which no id has',
  '#/callers/9/allow/0/ids/8': 'has a "%", which no id has',
  '#/callers/10/jwt/issuer': 'is none of the issuers',
  '#/issuers/1/issuer': 'is used twice',
  '#/issuers/2/issuer': 'must be an absolute URL',
  '#/issuers/3/issuer': 'must be https (http is for loopback hosts)',
  '#/issuers/4/jwksUrl': 'must be https (http is for loopback hosts)',
  '#/issuers/5/jwksUrl': 'must have no fragment or user information',
  '#/issuers/6/jwksUrl': 'must be an absolute URL',
  '#/issuers/7/audience': 'must be a text or a list of texts',
  '#/issuers/8/audience': 'must not be empty',
  '#/issuers/9/algorithms/1': 'must be one of RS256',
  '#/issuers/10/algorithms/0': 'must be one of RS256',
  '#/issuers/11/algorithms': '1',
  '#/issuers/12/header': 'must be the name of a header',
  '#/issuers/13/header': 'is where API keys stand',
  '#/issuers/14': '"secret"',
  '#/issuers/15': 'object',
}

test('a configuration is refused with every fault named by its place, all at once and without a value', async () => {
  const config = written(JSON.stringify(faulty))
  const lines = await faultsOf({ ...good(), PORT: VALUE, GATEWAY_CONFIG: config })
  const told = new Map(lines.map((line) => line.split(/: (.*)/s).slice(0, 2) as [string, string]))
  const expected = Object.keys(faults).map((at) => `configuration ${at}`)
  expect([...told.keys()].toSorted()).toEqual(['PORT is no port number', ...expected].toSorted())
  for (const [at, says] of Object.entries(faults)) expect(told.get(`configuration ${at}`)).toContain(says)
  expect(lines.join('\n')).not.toContain(VALUE)
})

describe('a start that succeeds', () => {
  test('logs JSON lines, serves, and ends on SIGTERM with code 0', async () => {
    const gateway = await started(good())
    const ready = await fetch(`${gateway.url}/health/ready`)
    expect([ready.status, await ready.json()]).toEqual([200, { status: 'ok', reasons: [] }])
    await gateway.stop()
    expect(gateway.printed.err).toBe('')
    const [made, listening, ...more] = gateway.log()
    expect(made).toMatchObject({ level: 'WARN', message: 'database made, for there was none' })
    expect(listening).toMatchObject({ level: 'INFO', message: 'listening', url: gateway.url })
    expect(more.map(({ message }) => message)).toEqual(['request', 'stopping'])
    expect(gateway.printed.out).not.toContain(AUDIT_KEY)
    await expect(fetch(`${gateway.url}/health/live`)).rejects.toThrow('fetch failed')
  })

  test('names each connection that speaks plain HTTP, and speaks it', async () => {
    const document = configuration(inject('sandbox')) as Json
    const { port } = new URL(inject('sandbox').apinizer)
    // This machine by an address that is none of the loopback hosts, so that it takes the allowance to reach it.
    document.connections['apinizer-plain'] = {
      ...document.connections['apinizer'],
      baseUrl: `http://[::ffff:127.0.0.1]:${port}`,
      allowPrivateAddresses: true,
      allowHttp: true,
      self: [],
    }
    const gateway = await started(good(document))
    const warned = gateway.log().filter(({ level }) => level === 'WARN')
    expect(warned).toMatchObject([
      { message: 'plain HTTP', connection: 'apinizer-plain' },
      { message: 'database made, for there was none' },
    ])
    await controlOf(inject('sandbox').apinizer).mint('credential', 'Plain/api-user', {})
    const reply = await fetch(`${gateway.url}/credentials/apinizer-plain:Plain:api-user`, {
      headers: { 'x-api-key': keys.admin },
    })
    expect(reply.status).toBe(200)
    await gateway.stop()
  })

  test('brings its OpenAPI document and the script of the API reference', async () => {
    const gateway = await started(good())
    const fetched = async (path: string) => (await fetch(new URL(path, gateway.url))).text()
    expect((await fetched('/docs/reference.js')).length).toBeGreaterThan(1e6)
    expect(await fetched('/openapi.yaml')).toBe(readFileSync(entry('openapi.yaml'), 'utf8'))
    await gateway.stop()
  })

  test('keeps its database to itself until it ends', async () => {
    const env = good()
    const gateway = await started(env)
    const [line, ...more] = await faultsOf(env)
    expect(line).toContain('another gateway process is running')
    expect(more).toEqual([])
    await gateway.stop()
  })

  test('ends with code 0 even when it is told to as soon as it listens', async () => {
    const gateway = await started(good())
    await gateway.stop('SIGINT')
  })

  test('answers what it has begun before it ends', async () => {
    const gateway = await started(good())
    const discue = controlOf(inject('sandbox').discue)
    const id = `start-${randomBytes(8).toString('hex')}`
    await discue.mint('api_clients', id)
    await discue.fault({ delayAfterMs: 500 }, { match: { path: id } })
    const sent = request(`${gateway.url}/credentials/discue:${id}`, {
      method: 'PUT',
      agent: false,
      headers: { 'x-api-key': keys.admin, 'content-type': 'application/json' },
    }).end(JSON.stringify({ name: `example.com/${id}` }))
    const answered = once(sent, 'response') as Promise<[IncomingMessage]>
    const isUnderWay = async () => (await discue.requests()).some(({ path }) => path.includes(id))
    await expect.poll(isUnderWay).toBe(true)
    const stopped = gateway.stop()
    const [reply] = await answered
    expect(reply.resume().statusCode).toBe(200)
    await stopped
  })

  test('is as quiet as it was told to be', async () => {
    const port = await freePort()
    const quiet = run(PROGRAM, { ...good(), LOG_LEVEL: 'error', PORT: String(port) })
    const isUp = () =>
      fetch(`http://127.0.0.1:${port}/health/live`).then(
        ({ ok }) => ok,
        () => false,
      )
    await expect.poll(isUp, { timeout: 15_000, interval: 50 }).toBe(true)
    quiet.child.kill('SIGTERM')
    expect(await quiet.ended).toEqual({ code: 0, signal: null })
    expect(quiet.printed).toEqual({ out: '', err: '' })
  })
})

describe('another audit key on the same database', () => {
  const another = randomBytes(32).toString('base64')
  const third = randomBytes(32).toString('base64')

  /** The key id in the fingerprint of a change that a gateway makes with this key. */
  async function keyIdInUse(env: Record<string, string>): Promise<string> {
    const project = `P${randomBytes(6).toString('hex')}`
    await controlOf(inject('sandbox').apinizer).mint('credential', `${project}/api-user`, {})
    const gateway = await started(env)
    const reply = await fetch(`${gateway.url}/credentials/apinizer:${project}:api-user`, {
      method: 'PUT',
      headers: { 'x-api-key': keys.admin, 'content-type': 'application/json' },
      body: JSON.stringify({ secret: 'rotated' }),
    })
    expect(reply.status).toBe(200)
    const { fields } = (await reply.json()) as Json
    await gateway.stop()
    return /^hmac-sha256:(\d+):[0-9a-f]{64}$/.exec(fields.secret.fingerprint)?.[1] ?? ''
  }

  test('is refused with what to do about it, and taken under a new id', async () => {
    const env = good()
    expect(await keyIdInUse(env)).toBe('1')

    const lines = await faultsOf({ ...env, AUDIT_KEY: another })
    expect(lines).toEqual([
      'AUDIT_KEY is not the key 1 that this database was written with; give a new key a new id: "2:<base64>"',
    ])

    expect(await keyIdInUse({ ...env, AUDIT_KEY: `2:${another}` })).toBe('2')
    expect((await faultsOf({ ...env, AUDIT_KEY: `2:${third}` })).join()).toContain('"3:<base64>"')
  })
})

describe('the demonstration', () => {
  test('makes the five changes, sees the sixth refused, and ends by itself', async () => {
    const { printed, ended } = run(entry('demo/main.ts'), {}, ['--once'])
    expect(await ended).toEqual({ code: 0, signal: null })
    expect(printed.err).toBe('')
    const [header, ...sections] = printed.out.split(/^(?=\d\. )/m)
    expect(header?.trim()).toBe('')
    expect(sections.map((section) => Number(section[0]))).toEqual([1, 2, 3, 4, 5, 6])
    for (const section of sections.slice(0, 5)) {
      expect(section).toContain('200 outcome applied')
      expect(section).toMatch(/✓ the provider applied one [A-Z]+ \w+\n\s+✓ exactly what was asked for: \{"/)
    }
    expect(sections[5]).toContain('422 /problems/secret-required-by-provider')
    expect(sections[5]).toContain('✓ refused before any upstream write')
    expect(printed.out).toContain('✓ an intent and an outcome for each of the five changes')
    expect(printed.out).not.toContain('✗')
  })
})

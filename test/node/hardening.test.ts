import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { registry } from '../../adapters/index.ts'
import { readConfig } from '../../src/config/read.ts'
import { readSettings } from '../../src/config/settings.ts'
import build, { PROGRAM } from '../../tools/build.ts'
import { configuration, environment } from '../harness/configuration.ts'
import { AUDIT_KEY, makeHome } from '../harness/gateway-process.ts'
import type { Json } from '../harness/sandbox-calls.ts'

let folder = ''
beforeAll(async () => {
  await build()
  folder = mkdtempSync(join(tmpdir(), 'hardening-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

const modeOf = (path: string): string => (statSync(path).mode & 0o777).toString(8)

test(
  'what the gateway makes is for its own user alone, and what is not becomes so',
  { timeout: 60_000 },
  async () => {
    const home = makeHome(inject('sandbox'), {
      databaseFolder: join(folder, 'deep', 'data'),
      prelude: 'umask 000',
    })
    const data = join(folder, 'deep', 'data')
    try {
      const first = await home.start()
      expect([modeOf(data), modeOf(join(data, '..'))]).toEqual(['700', '700'])
      const files = () => readdirSync(data).map((file) => `${file} ${modeOf(join(data, file))}`)
      expect(files().filter((file) => !file.endsWith(' 600'))).toEqual([])
      expect(files().length).toBeGreaterThanOrEqual(5)
      await first.stop()
      for (const file of readdirSync(data)) chmodSync(join(data, file), 0o644)
      const again = await home.start()
      expect(files().filter((file) => !file.endsWith(' 600'))).toEqual([])
      await again.stop()
    } finally {
      await home.leave()
    }
  },
)

test('SIGUSR1 opens no debugger', { timeout: 60_000 }, async () => {
  const home = makeHome(inject('sandbox'))
  try {
    const gateway = await home.start()
    process.kill(gateway.pid, 'SIGUSR1')
    // The second one is certainly handled when the first is: signals of one kind come in turn.
    for (let n = 0; n < 20; n++) expect((await fetch(`${gateway.url}/health/live`)).status).toBe(200)
    const socket = connect(9229, '127.0.0.1')
    const [outcome] = await Promise.race([
      once(socket, 'connect').then(() => ['open']),
      once(socket, 'error').then(() => ['closed']),
    ]).catch(() => ['closed'])
    socket.destroy()
    expect(outcome).toBe('closed')
    await gateway.stop()
  } finally {
    await home.leave()
  }
})

test('NODE_TLS_REJECT_UNAUTHORIZED=0 is refused in one line that says what to do instead', async () => {
  const configured = join(folder, 'gateway.json')
  writeFileSync(configured, JSON.stringify(configuration(inject('sandbox'))))
  const env = {
    ...environment,
    AUDIT_KEY,
    GATEWAY_CONFIG: configured,
    DATABASE: join(folder, 'x.db'),
    NODE_TLS_REJECT_UNAUTHORIZED: '0',
    NODE_NO_WARNINGS: '1',
  }
  const child = spawn(process.execPath, [PROGRAM], { env, timeout: 30_000 })
  let said = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text))
  const [code] = await once(child, 'close')
  expect(code).toBe(1)
  expect(said.trimEnd().split('\n')).toHaveLength(1)
  expect(said).toContain('NODE_EXTRA_CA_CERTS')
})

const faultsOf = (document: Json | string, variables: Record<string, string> = {}): string[] => {
  const text = typeof document === 'string' ? document : JSON.stringify(document)
  return readSettings({ ...environment, AUDIT_KEY, ...variables }, text, registry, true).faults
}
const usual = (): Json => configuration(inject('sandbox'))

test.each([
  ['one byte', Buffer.alloc(32, 7)],
  ['two in turn', Buffer.from(Array.from({ length: 32 }, (_, n) => n % 2))],
  ['zeros', Buffer.alloc(32)],
])('an audit key of %s is refused', (_, bytes) => {
  expect(faultsOf(usual(), { AUDIT_KEY: bytes.toString('base64') })).toEqual([
    'AUDIT_KEY is not random; make one with: openssl rand -base64 32',
  ])
})

test.each([
  ['secret\n', 'a newline at its end; take it off'],
  ['secret\r\n', 'a newline at its end; take it off'],
  ['sec\tret', 'a control character in it'],
  ['sec\u0000ret', 'a control character in it'],
  ['\u007f', 'a control character in it'],
])('a setting %j is named with what is wrong with it', (value, what) => {
  const [fault, ...more] = faultsOf(usual(), { CL_READER_SECRET: value })
  expect(fault).toBe(
    `configuration #/connections/cl-reader/clientSecret/env: names CL_READER_SECRET, which has ${what}`,
  )
  expect(more).toEqual([])
})

test('members that stand there twice are named, wherever they are', () => {
  const text = JSON.stringify(usual())
  const twice = text
    .replace('"connections":{', '"connections":{"discue":{},')
    .replace('"verifyWrites":false', '"verifyWrites":true,"verifyWrites":false')
    .replace('"aliases":{', '"aliases":{"__proto__":"x",')
  expect(faultsOf(twice).toSorted()).toEqual([
    'configuration #/aliases/__proto__: is there twice, or is named __proto__',
    'configuration #/connections/apinizer-unverified/verifyWrites: is there twice, or is named __proto__',
    'configuration #/connections/discue: is there twice, or is named __proto__',
  ])
})

describe('what can never match', () => {
  const rule = { actions: ['read'], kinds: ['credential'], ids: ['*'], fields: ['*'] }
  const slips: [string, object, string][] = [
    ['an id of no connection', { ids: ['apinzer:*'] }, 'ids/0'],
    ['an id of no connection, without a star', { ids: ['discue:*', 'disque:abcdefghijkl'] }, 'ids/1'],
    ['too many parts', { ids: ['discue:a*:b'] }, 'ids/0'],
    ['too few parts', { ids: ['apinizer:MyProject'] }, 'ids/0'],
    ['a key that the provider never has', { ids: ['discue:short'] }, 'ids/0'],
    ['a character that no id has', { ids: ['apinizer:a/*'] }, 'ids/0'],
    ['a field that nobody has', { fields: ['name', 'nmae'] }, 'fields/1'],
  ]
  const withRule = (more: object): Json => {
    const document = usual()
    document.callers[0].allow = [{ ...rule, ...more }]
    return document
  }
  test.each(slips)('is a fault on Node, and a warning on Workers: %s', (_, more, place) => {
    const text = JSON.stringify(withRule(more))
    const onNode = readConfig(text, environment, registry, true)
    expect(onNode.ok ? [] : onNode.faults.map(({ path }) => path)).toEqual([`#/callers/0/allow/0/${place}`])
    const onWorkers = readConfig(text, environment, registry, false)
    expect(onWorkers.ok && onWorkers.warnings.map(({ path }) => path)).toEqual([
      `#/callers/0/allow/0/${place}`,
    ])
  })

  test.each([
    ['a glob that may match', { ids: ['*', 'apinizer:My*:a', '*:MyProject:*', 'd*', 'commerce-layer:xYZ*'] }],
    ['the history of a connection that is no more', { actions: ['audit'], ids: ['former:*'] }],
    ['a field that can be audited alone', { actions: ['audit'], ids: ['apinizer:*'], fields: ['secret'] }],
    [
      'a kind or a field that another provider has',
      { ids: ['discue:*'], kinds: ['role'], fields: ['expiresAt'] },
    ],
  ])('is not %s', (_, more) => {
    expect(faultsOf(withRule(more))).toEqual([])
  })

  test('is an alias to nothing', () => {
    const document = usual()
    Object.assign(document.aliases, { lost: 'nowhere:x', short: 'apinizer:MyProject', odd: 'discue:short' })
    expect(faultsOf(document).map((fault) => fault.split(': ')[0])).toEqual(['configuration #/aliases/lost'])
    delete document.aliases.lost
    expect(faultsOf(document).map((fault) => fault.split(': ')[0])).toEqual([
      'configuration #/aliases/short',
      'configuration #/aliases/odd',
    ])
    const text = JSON.stringify(document)
    expect(readConfig(text, environment, registry, false).ok).toBe(true)
  })
})

describe('one account has one connection', () => {
  const discue = (key: string, more: object = {}) => ({ provider: 'discue', apiKey: { env: key }, ...more })
  const client = (id: string, more: object = {}) => ({
    provider: 'commerce-layer',
    clientId: { env: id },
    clientSecret: { env: 'CL_CLIENT_SECRET' },
    ...more,
  })
  const apinizer = (baseUrl: string, ...projects: string[]) => ({
    provider: 'apinizer',
    baseUrl,
    token: { env: 'APINIZER_TOKEN' },
    ...(projects.length > 0 && { projects }),
  })
  const HOST = 'https://apinizer.example'
  const variables = {
    ...environment,
    SAME_KEY: environment.DISCUE_API_KEY,
    SAME_ID: environment.CL_CLIENT_ID,
  }
  const faultsOfTwo = (one: object, two: object): string[] => {
    const read = readConfig(JSON.stringify({ connections: { one, two } }), variables, registry)
    return read.ok ? [] : read.faults.map(({ path, detail }) => `${path} ${detail}`)
  }

  const same: [string, object, object][] = [
    ['a key by one name', discue('DISCUE_API_KEY'), discue('DISCUE_API_KEY')],
    ['a key by two names', discue('DISCUE_API_KEY'), discue('SAME_KEY')],
    [
      'a key at two addresses',
      discue('DISCUE_API_KEY'),
      discue('SAME_KEY', { baseUrl: 'https://other.example' }),
    ],
    ['a client', client('CL_CLIENT_ID'), client('SAME_ID', { clientSecret: { env: 'CL_READER_SECRET' } })],
    ['a server', apinizer(HOST), apinizer(HOST)],
    ['a server, spelled otherwise', apinizer(HOST), apinizer('https://APINIZER.example:443')],
    ['a server of which one has all projects', apinizer(HOST, 'A'), apinizer(HOST)],
    ['a server with a project of both', apinizer(HOST, 'A', 'B'), apinizer(HOST, 'B', 'C')],
    ['a server of which one has admin', apinizer(HOST, 'A'), apinizer(HOST, 'admin')],
    [
      'a server with another way to sign in',
      apinizer(HOST),
      {
        provider: 'apinizer',
        baseUrl: HOST,
        clientId: { env: 'APINIZER_USER' },
        clientSecret: { env: 'APINIZER_PASSWORD' },
      },
    ],
  ]
  test.each(same)('two to %s are a fault', (_, one, two) => {
    const [found, ...more] = faultsOfTwo(one, two)
    expect(found).toMatch(/^#\/connections\/two leads to the account of one/)
    expect(more).toEqual([])
    expect(found).not.toContain(environment.DISCUE_API_KEY)
  })

  const apart: [string, object, object][] = [
    ['keys', discue('DISCUE_API_KEY'), discue('DISCUE_LIMITED_KEY')],
    ['clients', client('CL_CLIENT_ID'), client('CL_READER_ID')],
    ['servers', apinizer(HOST), apinizer('https://other.example')],
    ['ports', apinizer(HOST), apinizer(`${HOST}:8443`)],
    ['projects', apinizer(HOST, 'A', 'B'), apinizer(HOST, 'C')],
  ]
  test.each(apart)('two with different %s are none', (_, one, two) => {
    expect(faultsOfTwo(one, two)).toEqual([])
  })

  test('projects are for a provider that has them', () => {
    expect(faultsOfTwo(discue('DISCUE_API_KEY', { projects: ['A'] }), apinizer(HOST))).toEqual([
      '#/connections/one/projects is not used by this provider',
    ])
  })
})

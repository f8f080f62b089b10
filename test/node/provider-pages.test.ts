import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { registry } from '../../adapters/index.ts'
import { readConfig } from '../../src/config/read.ts'
import { problems } from '../../src/model/problems.ts'
import { configuration, keys } from '../harness/configuration.ts'
import { startTestGateway, type TestGateway } from '../harness/gateway.node.ts'
import type { Json } from '../harness/sandbox-calls.ts'

// What the pages for operators say is tried: their snippets, their commands, and what they say of refusals.

const PROVIDERS = 'docs/providers'
const pageOf = (provider: string): string => readFileSync(join(PROVIDERS, `${provider}.md`), 'utf8')
const names = Object.keys(registry)

let folder = ''
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'pages-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

const blocks = (page: string, language: string): string[] =>
  [...page.matchAll(new RegExp(`^ *\`\`\`${language}\\n(.*?)^ *\`\`\``, 'gms'))].map(([, text = '']) => text)

/** A block is a document, its outermost members, or connections. */
function documentIn(block: string): Json {
  const text = block.startsWith('{')
    ? block
    : block.startsWith('"issuers"')
      ? `{ "connections": {}, ${block} }`
      : `{ "connections": { ${block} } }`
  return JSON.parse(text)
}

test('every provider has a page, and every page a provider', () => {
  expect(readdirSync(PROVIDERS).toSorted()).toEqual(names.map((name) => `${name}.md`).toSorted())
})

describe('a configuration in a page', () => {
  const pages = ['README.md', ...names.map((name) => `${PROVIDERS}/${name}.md`)]
  const snippets = pages.flatMap((page) =>
    blocks(readFileSync(page, 'utf8'), 'json').map((block, at) => [page, at + 1, block] as const),
  )

  test('stands in every page, and everything else in the README', () => {
    for (const page of pages) expect(snippets.map(([of]) => of)).toContain(page)
    expect(snippets.filter(([page]) => page === 'README.md')).toHaveLength(3)
  })

  test.each(snippets)('%s, %i: is taken once the keys tool has made its keys', async (page, at, block) => {
    const document = documentIn(block)
    const path = join(folder, `${page.replaceAll('/', '-')}-${at}.json`)
    writeFileSync(path, JSON.stringify(document))
    for (const { name, jwt } of document.callers ?? []) {
      if (jwt) continue
      const made = spawn(process.execPath, ['tools/keys.ts', 'create', name, '--write', '--config', path])
      expect(await once(made, 'close')).toEqual([0, null])
    }
    // Set is what the page names outside of the snippet, and nothing else.
    const prose = readFileSync(page, 'utf8').replace(block, '')
    const variables = [...prose.matchAll(/\b[A-Z]+(?:_[A-Z]+)+\b/g)].map(([name]) => [name, 'x'] as const)
    const read = readConfig(readFileSync(path, 'utf8'), Object.fromEntries(variables), registry)
    expect(read.ok ? [] : read.faults).toEqual([])
  })
})

/** What a page's table of refusals says: a problem, and what was met. */
const refusalsIn = (provider: string): { slug: string; met: string }[] =>
  [
    ...(pageOf(provider).split('## What a refusal means')[1] ?? '').matchAll(/^\| `([\w-]+)` \| (.*?) \|/gm),
  ].map(([, slug = '', met = '']) => ({ slug, met }))

describe('the refusals in a page', () => {
  const usual = [...Object.keys(problems).filter((slug) => slug.startsWith('upstream-')), 'not-found']

  test.each(names)('%s: exist, and none is missing that every provider can cause', (provider) => {
    const told = refusalsIn(provider).map(({ slug }) => slug)
    expect(told.filter((slug) => !Object.hasOwn(problems, slug))).toEqual([])
    expect(told).toEqual([...new Set(told)])
    expect(told).toEqual(expect.arrayContaining([...usual, 'not-taken', 'outcome-unknown']))
  })

  /** A status in code style is what alone leads to the problem, without any text. */
  const statuses = names.flatMap((provider) =>
    refusalsIn(provider).flatMap(({ slug, met }) =>
      [...met.matchAll(/`(\d{3})`/g)].map(([, status = '']) => ({ provider, slug, status })),
    ),
  )

  /** Reads are answered well, writes with the status that stands first in the path, and tokens are given to everybody. */
  const answers: Record<string, object> = {
    token: { access_token: 'token', expires_in: 7200, scope: 'provisioning-api' },
    'commerce-layer': { data: { id: 'abcdefghij', type: 'api_credentials', attributes: { name: 'Before' } } },
    apinizer: {
      status: 'SUCCESS',
      resultList: [
        {
          username: 'user',
          email: 'a@example.com',
          fullName: 'A',
          enabled: true,
          roleNameList: [],
          ipList: [],
        },
      ],
    },
  }
  const provider = createServer((request, response) => {
    const [, kind = '', status] = request.url?.split('/') ?? []
    const good = kind === 'token' || request.method === 'GET'
    response.writeHead(good ? 200 : Number(status), { 'content-type': 'application/json' })
    response.end(good ? JSON.stringify(answers[kind]) : '')
  })
  const changes: Record<string, { key: string; body: object }> = {
    'commerce-layer': { key: 'abcdefghij', body: { name: 'After' } },
    discue: { key: 'abcdefghij', body: { name: 'After' } },
    apinizer: { key: 'Project:user', body: { secret: 'another-password' } },
  }

  let gateway: TestGateway
  beforeAll(async () => {
    provider.listen(0, '127.0.0.1')
    await once(provider, 'listening')
    const url = `http://127.0.0.1:${(provider.address() as AddressInfo).port}`
    const { connections, callers } = configuration({
      commerceLayer: '',
      commerceLayerAuth: `${url}/token`,
      discue: '',
      apinizer: '',
    }) as Json
    const made = statuses.map(({ provider, status }) => [
      `${provider}-${status}`,
      { ...connections[provider], baseUrl: `${url}/${provider}/${status}`, deadlineMs: 1500, self: [] },
    ])
    // Those whose rules name connections that are not here would be at fault.
    const everywhere = callers.filter(({ allow }: Json) => allow.every(({ ids }: Json) => ids.includes('*')))
    gateway = await startTestGateway({ connections: Object.fromEntries(made), callers: everywhere })
  })
  afterAll(async () => {
    await gateway.close()
    provider.close()
  })

  test('name the usual statuses for each provider', () => {
    for (const provider of names) {
      const named = statuses.filter((one) => one.provider === provider).map(({ status }) => status)
      expect(named).toEqual(expect.arrayContaining(['401', '403', '404', '409', '422', '423', '429', '500']))
    }
  })

  // What a 429 holds back, it holds back for a whole host: last.
  test.each(statuses.toSorted((a, b) => Number(a.status === '429') - Number(b.status === '429')))(
    '$provider: $status is $slug',
    async ({ provider, status, slug }) => {
      const { key, body } = changes[provider] ?? { key: '', body: {} }
      const reply = await fetch(`${gateway.url}/credentials/${provider}-${status}:${key}`, {
        method: 'PUT',
        headers: { 'x-api-key': keys.admin, 'content-type': 'application/json' },
        body: JSON.stringify(body),
      })
      expect(((await reply.json()) as Json).type).toBe(`/problems/${slug}`)
    },
  )
})

test('the first steps of the README, as they stand, lead to a gateway that knows the key', async () => {
  const steps = readFileSync('README.md', 'utf8').split('## Configure it')[1] ?? ''
  const [document = ''] = blocks(steps, 'json')
  const [commands = '', request = ''] = blocks(steps, 'sh')
  const home = mkdtempSync(join(folder, 'home-'))
  for (const part of ['package.json', 'node_modules', 'tools', 'src', 'adapters', 'dist'])
    symlinkSync(resolve(part), join(home, part))
  writeFileSync(join(home, 'gateway.json'), document)

  const script = commands.replaceAll('…', 'some-secret')
  const child = spawn('bash', ['-euc', script], {
    cwd: home,
    env: { PATH: process.env['PATH'], HOME: home, PORT: '0' },
    // A group of its own: the shell, npm and the gateway end together.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let printed = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (printed += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (printed += text))
  const closed = once(child, 'close')
  onTestFinished(async () => {
    if (child.exitCode === null) process.kill(-(child.pid ?? NaN), 'SIGKILL')
    await closed
  })
  const listening = /^\{.*"message":"listening".*$/m
  await expect.poll(() => printed).toMatch(listening)

  const { url } = JSON.parse(listening.exec(printed)?.[0] ?? '')
  const [key = ''] = /^cgw_\S+$/m.exec(printed) ?? []
  const [, header = '', path = ''] =
    /-H "([\w-]+): \$KEY" http:\/\/127\.0\.0\.1:8787(\/\S+)/.exec(request) ?? []
  const asked = (text: string) => fetch(url + path, { headers: { [header]: text } })
  const reply = await asked(key)
  expect(reply.status).toBe(200)
  expect(((await reply.json()) as Json).data).toMatchObject([{ name: 'apinizer' }])
  expect((await asked(`${key.slice(0, -1)}_`)).status).toBe(401)
})

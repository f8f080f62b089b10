import { randomBytes } from 'node:crypto'
import { rmSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Sandbox, startSandbox } from '../../sandbox/server.ts'
import { keys } from '../configuration.ts'
import type { Json } from '../sandbox-calls.ts'
import type { AnyHome } from './gateway-process.ts'
import {
  type Client,
  compile,
  generate,
  heyApi,
  nodeFetch,
  nodeHttp,
  openapiFetch,
  urllib,
} from './generated-clients.ts'
import { runtimes } from './homes.ts'
import { type Providers, providersOf } from './operations.ts'

// Clients as their makers deliver them, against the gateway in a process of its own. No test says how an id is encoded.

let sandbox: Sandbox
let providers: Providers
beforeAll(async () => {
  sandbox = await startSandbox({ limits: 'off' })
  providers = providersOf(sandbox.urls)
})
afterAll(() => sandbox.close())

const generated = fileURLToPath(new URL('../../node_modules/.generated-clients/', import.meta.url))
const fresh = (): string => randomBytes(5).toString('hex')

const names = [
  'api-user',
  'other user',
  'a+b@c.example',
  "o'brien (2)!",
  'star*~',
  'semi;colon,comma=&$',
  'münchen',
  '名前',
  '😀 smile',
  '[brackets]{braces}|^`"<>',
]

/** Each of its calls is a process of its own. */
const pythons = ['other user', 'a+b@c.example', 'star*~', '😀 smile']

const program = `
import createClient from 'openapi-fetch'
import type { paths } from './openapi-fetch'
import { client } from './hey-api/client.gen'
import { getAudit, getCredentialsId, putCredentialsId } from './hey-api'

const api = createClient<paths>({ baseUrl: 'http://gateway.example' })
const id = 'apinizer:MyProject:other user'
const read = await api.GET('/credentials/{id}', { params: { path: { id } } })
const told: string | undefined = read.data?.id
const named: readonly string[] | undefined = read.data?.unreadable
const change = await api.PUT('/credentials/{id}', { params: { path: { id }, query: { dryRun: 'true' } }, body: { enabled: false } })
if (change.data && 'plan' in change.data) change.data.plan.changed satisfies boolean
else change.data?.changeId satisfies string | undefined
change.error?.type satisfies string | undefined
change.error?.status satisfies number | undefined
const page = await api.GET('/audit', { params: { query: { resource: id } } })
page.response.status satisfies number

const same = await getCredentialsId({ client, path: { id } })
same.data?.id satisfies string | undefined
const second = await putCredentialsId({ client, path: { id }, body: { enabled: false }, headers: { 'if-match': '"x"' } })
second.error?.type satisfies string | undefined
const events = await getAudit({ client, query: { resource: id } })
events.data satisfies unknown
export { named, told }
`

describe.each(runtimes)('on $runtime', ({ runtime, makeHome }) => {
  const folder = `${generated}${runtime}`
  let home: AnyHome
  let url: string
  let made: { sdk: Json; client: Json }
  beforeAll(async () => {
    home = makeHome(sandbox.urls)
    url = (await home.start()).url
    made = await generate(url, folder)
  })
  afterAll(async () => {
    await home.leave()
    rmSync(folder, { recursive: true, force: true })
  })

  const clients: [string, () => Client, string[]?][] = [
    ['openapi-fetch', () => openapiFetch(url, keys.admin)],
    ['hey-api', () => heyApi(url, keys.admin, made)],
    ['Node’s fetch', () => nodeFetch(url, keys.admin)],
    ['Node’s http', () => nodeHttp(url, keys.admin)],
    ['Python’s urllib', () => urllib(url, keys.admin, '/'), pythons],
    ['Python’s urllib, with nothing safe', () => urllib(url, keys.admin, ''), pythons],
  ]

  describe.each(clients)('%s', (_, make, some = names) => {
    test('names every resource, by its id and by what a reply has for it', { timeout: 120_000 }, async () => {
      const client = make()
      const project = `P${fresh()}`
      const [credential, role, permission, renamed] = [fresh(), fresh(), fresh(), `${fresh()}${fresh()}`]
      const { apinizer, commerceLayer, discue } = providers
      for (const name of names)
        await apinizer.mint('credential', `${project}/${name}`, { description: 'before' })
      await commerceLayer.mint('api_credentials', credential)
      await commerceLayer.mint('roles', role)
      await commerceLayer.mint('permissions', permission)
      await discue.mint('api_clients', renamed, { name: `before.${renamed}` })
      const subjects: ['credential' | 'role' | 'permission', string, object][] = [
        ...some.map((name): ['credential', string, object] => [
          'credential',
          `apinizer:${project}:${name}`,
          { secret: 's', description: `after ${name}` },
        ]),
        ['credential', `commerce-layer:${credential}`, { reference: 'r' }],
        ['role', `commerce-layer:${role}`, { reference: 'r' }],
        ['permission', `commerce-layer:${permission}`, { reference: 'r' }],
        ['credential', `discue:${renamed}`, { name: `after.${renamed}` }],
      ]
      for (const [kind, id, body] of subjects) {
        const read = await client.get(kind, id)
        expect([id, read.status, read.body.id]).toEqual([id, 200, id])
        const changed = await client.put(kind, read.body.id, body)
        expect([id, changed.status, changed.body[kind]?.id]).toEqual([id, 200, id])
        const again = await client.get(kind, changed.body[kind].id)
        expect([id, again.status, again.body]).toEqual([id, 200, expect.objectContaining({ id })])
        const events = await client.list('audit', { resource: again.body.id, limit: '100' })
        expect([id, events.body.data.map(({ resource }: Json) => resource)]).toEqual([id, [id, id]])
        expect((await client.list('changes', { resource: again.body.id })).body.data).toMatchObject([
          { resource: id },
        ])
      }
      for (const name of some) {
        const { description } = await apinizer.state('credential', `${project}/${name}`)
        expect(description).toBe(`after ${name}`)
      }
      // Page by page.
      const id = `apinizer:${project}:${some.at(-1)}`
      const paged: string[] = []
      for (let cursor: string | null | undefined; cursor !== null;) {
        const page = await client.list('audit', { resource: id, limit: '1', ...(cursor && { cursor }) })
        paged.push(...page.body.data.map(({ type }: Json) => type))
        cursor = page.body.nextCursor
      }
      expect(paged).toEqual(['outcome', 'intent'])
    })

    test('reads problems', { timeout: 60_000 }, async () => {
      const client = make()
      const project = `P${fresh()}`
      const id = `apinizer:${project}:other user`
      await providers.apinizer.mint('credential', `${project}/other user`, {})
      await providers.apinizer.mint('credential', 'MyProject/gateway-itself', {})
      const problems = {
        404: await client.get('credential', `apinizer:${project}:nobody at all`),
        '404 of an alias': await client.get('credential', 'no-such-alias'),
        409: await client.put('credential', 'apinizer:MyProject:gateway-itself', { secret: 's' }),
        412: await client.put(
          'credential',
          id,
          { secret: 's' },
          { 'if-match': 'W/"0123456789abcdefghijklmnopqrstuv-gzip"' },
        ),
        422: await client.put('credential', id, { redirectUri: 'https://a.example' }),
      }
      for (const [named, { status, body }] of Object.entries(problems)) {
        expect([named, status, body.status]).toEqual([named, parseInt(named), parseInt(named)])
        expect(body.type).toMatch(/^\/problems\/[a-z-]+$/)
        expect(body.detail.length).toBeGreaterThan(10)
      }
      expect(problems['422'].body.errors).toMatchObject([{ pointer: '#/redirectUri' }])
      expect(decodeURIComponent(problems['412'].body.instance)).toBe(`/credentials/${id}`)
      expect(problems['412'].body.instance).toMatch(/^[!-~]+$/)
    })
  })

  test('the types that are generated admit what the gateway takes', { timeout: 120_000 }, async () => {
    await compile(folder, program)
  })
})

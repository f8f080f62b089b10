import { randomBytes } from 'node:crypto'
import { rmSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Sandbox, startSandbox } from '../../sandbox/server.ts'
import { keys } from '../harness/configuration.ts'
import type { AnyHome } from '../harness/gateway-process.ts'
import { runtimes } from '../harness/homes.ts'
import { type Providers, providersOf } from '../harness/operations.ts'
import type { Json } from '../harness/sandbox-calls.ts'
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
import { isInstalled } from './installed.ts'

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

// Where a type were `any`, the lines that expect an error would have none, and that is one.
const program = `
import createClient from 'openapi-fetch'
import type { paths } from './openapi-fetch'
import { client } from './hey-api/client.gen'
import { listAuditEvents, listChanges, getCredential, updateCredential } from './hey-api'

const id = 'apinizer:MyProject:other user'
// A list comes as NDJSON or CSV too: which media types it reads is told to openapi-fetch once.
type Read = 'application/json' | 'application/problem+json'
const api = createClient<paths, Read>({ baseUrl: 'http://gateway.example' })

const read = await api.GET('/credentials/{id}', { params: { path: { id } }, headers: { 'if-none-match': '"x"' } })
read.data?.id satisfies string | undefined
read.data?.etag satisfies string | null | undefined
read.data?.unreadable satisfies readonly string[] | undefined
// @ts-expect-error
read.data?.id satisfies number | undefined
// @ts-expect-error
await api.GET('/credentials/{id}', {})

const change = await api.PUT('/credentials/{id}', {
  params: { path: { id }, query: { dryRun: 'true' }, header: { 'if-match': '"x"' } },
  body: { enabled: false },
})
if (change.error) {
  change.error.type satisfies string
  change.error.status satisfies number
  change.error.errors?.[0]?.pointer satisfies string | undefined
  // @ts-expect-error
  change.error.type satisfies number
} else if (change.data.outcome === 'planned') {
  change.data.plan.changed satisfies boolean
  // @ts-expect-error
  change.data.plan.changed satisfies string
} else {
  change.data.outcome satisfies 'applied'
  change.data.credential.id satisfies string
  // @ts-expect-error
  change.data.changeId satisfies number
}
// @ts-expect-error
await api.PUT('/credentials/{id}', { params: { path: { id } }, body: { enabled: 'no' } })

const page = await api.GET('/audit', { params: { query: { resource: id, limit: 1 } } })
page.data?.data[0]?.resource satisfies string | null | undefined
page.data?.nextCursor satisfies string | null | undefined
page.error?.type satisfies string | undefined
// @ts-expect-error
page.data?.nextCursor satisfies number | undefined
const changes = await api.GET('/changes', { params: { query: { resource: id } } })
changes.data?.data[0]?.state satisfies string | undefined
// @ts-expect-error
changes.data?.data[0]?.state satisfies number | undefined

const same = await getCredential({ client, path: { id } })
same.data?.id satisfies string | undefined
// @ts-expect-error
same.data?.id satisfies number | undefined
const second = await updateCredential({ client, path: { id }, body: { enabled: false }, headers: { 'if-match': '"x"' } })
second.error?.type satisfies string | undefined
// @ts-expect-error
second.error?.type satisfies number | undefined
if (second.data?.outcome === 'planned') second.data.plan.changed satisfies boolean
else {
  second.data?.outcome satisfies 'applied' | undefined
  // @ts-expect-error
  second.data?.outcome satisfies number | undefined
}
const events = await listAuditEvents({ client, query: { resource: id, limit: 1 } })
events.data?.data[0]?.resource satisfies string | null | undefined
events.data?.nextCursor satisfies string | null | undefined
// @ts-expect-error
events.data?.nextCursor satisfies number | undefined
const others = await listChanges({ client, query: { resource: id } })
others.data?.data[0]?.state satisfies string | undefined
// @ts-expect-error
others.data?.data[0]?.state satisfies number | undefined
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

  const clients: [string, () => Client][] = [
    ['openapi-fetch', () => openapiFetch(url, keys.admin)],
    ['hey-api', () => heyApi(url, keys.admin, made)],
    ['Node’s fetch', () => nodeFetch(url, keys.admin)],
    ['Node’s http', () => nodeHttp(url, keys.admin)],
  ]
  if (isInstalled('python3')) {
    clients.push(['Python’s urllib', () => urllib(url, keys.admin)])
    clients.push(['Python’s urllib, with nothing safe', () => urllib(url, keys.admin, { safe: '' })])
  }

  describe.each(clients)('%s', (_, make) => {
    let client: Client
    beforeEach(() => {
      client = make()
    })
    afterEach(() => client.close?.())

    test('names every resource, by its id and by what a reply has for it', { timeout: 120_000 }, async () => {
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
        ...names.map((name): ['credential', string, object] => [
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
      for (const name of names) {
        const { description } = await apinizer.state('credential', `${project}/${name}`)
        expect(description).toBe(`after ${name}`)
      }
      const referenced = { attributes: { reference: 'r' } }
      expect(await commerceLayer.state('api_credentials', credential)).toMatchObject(referenced)
      expect(await commerceLayer.state('roles', role)).toMatchObject(referenced)
      expect(await commerceLayer.state('permissions', permission)).toMatchObject(referenced)
      expect(await discue.state('api_clients', renamed)).toMatchObject({ name: `after.${renamed}` })
      // Page by page.
      const id = `apinizer:${project}:${names.at(-1)}`
      const paged: string[] = []
      for (let cursor: string | null | undefined; cursor !== null;) {
        const page = await client.list('audit', { resource: id, limit: '1', ...(cursor && { cursor }) })
        paged.push(...page.body.data.map(({ type }: Json) => type))
        cursor = page.body.nextCursor
      }
      expect(paged).toEqual(['outcome', 'intent'])
    })

    test('reads problems', { timeout: 60_000 }, async () => {
      const project = `P${fresh()}`
      const id = `apinizer:${project}:other user`
      await providers.apinizer.mint('credential', `${project}/other user`, {})
      await providers.apinizer.mint('credential', 'MyProject/gateway-itself', {})
      const careful = fresh()
      await providers.commerceLayer.mint('roles', careful)
      const { etag } = (await client.get('credential', id)).body
      expect((await client.get('credential', id, { 'if-none-match': etag })).status).toBe(304)
      const first = await client.put(
        'credential',
        id,
        { secret: 's', description: 'one' },
        { 'if-match': etag },
      )
      expect(first.status).toBe(200)
      const problems = {
        404: await client.get('credential', `apinizer:${project}:nobody at all`),
        '404 of an alias': await client.get('credential', 'no-such-alias'),
        409: await client.put('credential', 'apinizer:MyProject:gateway-itself', { secret: 's' }),
        412: await client.put('credential', id, { secret: 's', description: 'two' }, { 'if-match': etag }),
        422: await client.put('credential', id, { redirectUri: 'https://a.example' }),
        428: await client.put('role', `cl-careful:${careful}`, { reference: 'r' }),
      }
      for (const [named, { status, body }] of Object.entries(problems)) {
        expect([named, status, body.status]).toEqual([named, parseInt(named), parseInt(named)])
        expect(body.type).toMatch(/^\/problems\/[a-z-]+$/)
        expect(body.detail.length).toBeGreaterThan(10)
      }
      expect(problems['422'].body.errors).toMatchObject([{ pointer: '#/redirectUri' }])
      expect(decodeURIComponent(problems['412'].body.instance)).toBe(`/credentials/${id}`)
      expect(problems['412'].body.instance).toMatch(/^[!-~]+$/)
      expect((await client.get('credential', id)).body).toMatchObject({ description: 'one' })
    })
  })

  test('the types that are generated admit what the gateway takes', { timeout: 120_000 }, async () => {
    await compile(folder, program)
  })
})

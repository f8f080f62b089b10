import { gatewayFetch, useGateway } from '#gateway'
import type { BrowserContext, Page } from 'playwright-core'
import { Validator } from '@seriousme/openapi-schema-validator'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { problemResponse } from '../../src/http/operation.ts'
import { type ProblemSlug, problems } from '../../src/model/problems.ts'
import { keys } from '../harness/configuration.ts'
import {
  call,
  mintApinizer,
  mintCommerceLayer,
  mintDiscue,
  providers,
  put,
} from '../harness/gateway-calls.ts'
import type { Json } from '../harness/sandbox-calls.ts'
import { type OpenChromium, openChromium } from './chromium.ts'

useGateway()

interface DocumentedOperation {
  path: string
  method: string
  tag: string
  summary: string
  examples: Record<string, { summary: string; value: object }>
}

const document = async (): Promise<Json> => (await gatewayFetch('/openapi.json')).json()

const operationsOf = ({ paths }: Json): DocumentedOperation[] =>
  Object.entries<Json>(paths).flatMap(([path, operations]) =>
    Object.entries<Json>(operations).map(([method, { tags, summary, requestBody }]) => ({
      path,
      method: method.toUpperCase(),
      tag: tags[0],
      summary,
      examples: requestBody?.content['application/json'].examples ?? {},
    })),
  )

describe('the OpenAPI document', () => {
  test('is valid OpenAPI 3.1, and every reference in it leads somewhere', async () => {
    const validator = new Validator()
    expect(await validator.validate(await document())).toEqual({ valid: true })
    expect(validator.version).toBe('3.1')
  })

  test('says the same as YAML', async () => {
    const yaml = await (await gatewayFetch('/openapi.yaml')).text()
    expect(parse(yaml)).toEqual(await document())
  })

  test('names every operation once', async () => {
    const summaries = operationsOf(await document()).map(({ summary }) => summary)
    expect(new Set(summaries).size).toBe(summaries.length)
  })

  test('has examples that the providers they name would take', async () => {
    const types = { credential: 'api_credentials', role: 'roles', permission: 'permissions' } as const
    const ids = {
      'commerce-layer': async (kind: keyof typeof types) =>
        `commerce-layer:${await mintCommerceLayer(types[kind])}`,
      discue: async () => `discue:${await mintDiscue()}`,
      apinizer: async () => (await mintApinizer()).id,
    }
    const changes = operationsOf(await document()).filter(({ method }) => method === 'PUT')
    expect(changes.map(({ path }) => path)).toEqual(['/credentials/{id}', '/roles/{id}', '/permissions/{id}'])
    for (const { path, examples } of changes) {
      const kind = path.split('/')[1]?.slice(0, -1) as keyof typeof types
      for (const [provider, { value }] of Object.entries(examples)) {
        const id = await ids[provider as keyof typeof ids](kind)
        const plan = await put(`${path.replace('{id}', id)}?dryRun=true`, value)
        expect(plan, `${provider}'s example of a ${kind}`).toMatchObject({
          status: 200,
          body: { plan: { changed: true } },
        })
      }
    }
  })
})

describe('what the page is made of', () => {
  test('scripts are files of this origin: none inline, none evaluated', async () => {
    const response = await gatewayFetch('/docs')
    const policy = new Map(
      response.headers
        .get('content-security-policy')
        ?.split('; ')
        .map((directive) => {
          const [name = '', ...sources] = directive.split(' ')
          return [name, sources] as const
        }),
    )
    expect(policy.get('default-src')).toEqual(["'none'"])
    expect(policy.get('script-src')).toEqual(["'self'"])
    expect(policy.get('connect-src')).toEqual(["'self'"])
    const scripts = (await response.text()).match(/<script\b.*?<\/script>/gs)
    expect(scripts).toEqual(['<script type="module" src="/docs/start.js"></script>'])
  })

  test.each(['/docs/reference.js', '/docs/start.js'])('%s is served from here', async (path) => {
    const response = await gatewayFetch(path)
    expect(response.status).toBe(200)
    expect(response.headers.get('content-type')).toBe('text/javascript; charset=utf-8')
    expect(response.headers.get('x-content-type-options')).toBe('nosniff')
    expect(await response.text()).toContain('createApiReference')
  })
})

describe('in a browser', { timeout: 120_000 }, () => {
  let chromium: OpenChromium
  let origin: string
  let context: BrowserContext
  let page: Page
  /** What a page of ours must never do. */
  let faults: string[]

  beforeAll(async () => {
    chromium = await openChromium()
    origin = new URL((await gatewayFetch('/health/live')).url).origin
  }, 120_000)
  afterAll(() => chromium?.close())

  beforeEach(async () => {
    faults = []
    context = await chromium.browser.newContext({ viewport: { width: 1440, height: 1000 } })
    context.setDefaultTimeout(60_000)
    context.on('request', (request) => {
      const url = new URL(request.url())
      if (url.origin !== origin && url.protocol !== 'data:') faults.push(`request to ${url}`)
    })
    context.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) faults.push(`console: ${message.text()}`)
    })
    context.on('weberror', (error) => faults.push(`page error: ${error.error()}`))
    await context.addInitScript(
      `addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI }) =>
        console.error('policy violated', violatedDirective, blockedURI))`,
    )
    page = await context.newPage()
    page.on('websocket', (socket) => faults.push(`socket to ${socket.url()}`))
  })
  afterEach(async () => {
    await context?.close()
    expect(faults).toEqual([])
  })

  const sidebarLink = ({ summary, method }: DocumentedOperation) =>
    page
      .getByRole('complementary')
      .getByRole('link', { name: `${summary} HTTP Method: ${method}`, exact: true })

  async function openReference(): Promise<DocumentedOperation[]> {
    const operations = operationsOf(await document())
    await page.goto(`${origin}/docs`)
    await page.getByRole('heading', { name: 'Credential gateway', exact: true }).waitFor()
    return operations
  }

  test('the reference lists the operations by tag, what matters most first', async () => {
    const byTag = Map.groupBy(await openReference(), ({ tag }) => tag)
    expect([...byTag.keys()].slice(0, 3)).toEqual(['Credentials', 'Roles', 'Permissions'])
    await sidebarLink([...byTag.values()].at(-1)?.at(-1) as DocumentedOperation).waitFor()
    const entries = await page.locator('aside a[href^="#tag/"]').allInnerTexts()
    expect(entries.map((entry) => entry.split('\n')[0])).toEqual(
      [...byTag].flatMap(([tag, operations]) => [tag, ...operations.map(({ summary }) => summary)]),
    )
  })

  test('the reference offers no service of its maker', async () => {
    await openReference()
    await page.getByRole('link', { name: 'Powered by Scalar' }).waitFor()
    expect(await page.locator('a[href^="http"]').count()).toBe(1)
    for (const service of [/Ask AI/, /Generate MCP/, /^Configure$/]) {
      expect(await page.getByText(service).count(), String(service)).toBe(0)
    }
  })

  test('the reference shows every operation', async () => {
    for (const operation of await openReference()) {
      await sidebarLink(operation).click()
      const shown = page.getByRole('region', { name: operation.summary, exact: true })
      await shown.getByRole('heading', { name: operation.summary, exact: true }).waitFor()
      expect(await shown.innerText()).toContain(operation.path)
    }
  })

  test('the reference shows the example of every provider', async () => {
    const changes = (await openReference()).filter(({ method }) => method === 'PUT')
    for (const change of changes) {
      await sidebarLink(change).click()
      const shown = page.getByRole('group', { name: `Request Example for put${change.path}` })
      const examples = Object.values(change.examples)
      let chosen = examples[0]?.summary ?? ''
      for (const { summary, value } of examples) {
        if (summary !== chosen) {
          await shown.getByRole('button', { name: chosen }).click()
          await page.getByRole('option', { name: summary }).click()
          chosen = summary
        }
        for (const field of Object.keys(value)) await shown.getByText(`"${field}":`).waitFor()
      }
    }
  })

  test('a change that is sent from the reference is applied, and the key is not kept', async () => {
    const id = await mintDiscue('example.com/before')
    await openReference()
    await page.getByRole('textbox', { name: 'Bearer Token' }).first().fill(keys.admin)
    await page.getByRole('button', { name: 'Test Request (put /credentials/{id})' }).click()
    const client = page.getByRole('dialog')
    await client
      .getByRole('row')
      .filter({ has: page.getByRole('checkbox', { name: 'Include id in request' }) })
      .getByRole('combobox', { name: 'Value' })
      .fill(`discue:${id}`)
    await client
      .getByRole('region', { name: 'Request Body' })
      .getByRole('textbox')
      .fill('{"name":"example.com/after"}')
    const sent = page.waitForRequest((request) => request.method() === 'PUT')
    await client.getByRole('button', { name: /^Send put/ }).click()

    await client.getByRole('link', { name: '200 OK' }).waitFor()
    const answer = client.getByRole('region', { name: 'Response', exact: true })
    await answer.getByText('"applied"').waitFor()
    // Nothing is switched on that was not asked for, such as a dry run.
    expect((await sent).url()).toBe(`${origin}/credentials/discue:${id}`)
    const entries = (await providers().discue.ledger()).filter((entry) => entry.id === id)
    expect(entries).toMatchObject([
      { before: { name: 'example.com/before' }, after: { name: 'example.com/after' } },
    ])
    expect(JSON.stringify(await context.storageState({ indexedDB: true }))).not.toContain(keys.admin)
  })

  test('every problem has a page, and its type leads there', async () => {
    for (const [slug, { title, status, text }] of Object.entries(problems)) {
      const problem = problemResponse({ slug: slug as ProblemSlug, detail: '' }, 'request', '/')
      const { type } = (await problem.json()) as { type: string }
      const response = await page.goto(new URL(type, origin).href)
      expect(response?.status(), slug).toBe(200)
      expect(await page.title()).toBe(title)
      expect(await page.getByRole('heading').allInnerTexts()).toEqual([title])
      const shown = await page.locator('body').innerText()
      expect(shown).toContain(`${slug}, status ${status}`)
      expect(shown).toContain(text.replaceAll('`', ''))
    }
    await page.getByRole('link', { name: 'API reference' }).click()
    await page.getByRole('heading', { name: 'Credential gateway', exact: true }).waitFor()
  })
})

test('a problem that does not exist has no page', async () => {
  expect(await call('GET', '/problems/no-such-problem')).toMatchObject({
    status: 404,
    body: { type: '/problems/not-found' },
  })
})

import { gatewayFetch } from '#gateway'
import { runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { expect, test, vi } from 'vitest'
import { openLog } from '../../src/lib/log.ts'
import { problems } from '../../src/model/problems.ts'
import worker from '../../src/worker.ts'
import { canaryText, canaryToken, searchFor } from '../harness/canary-search.ts'
import { environment, keys, sha256 } from '../harness/configuration.ts'
import { freshId, mintApinizer, providers } from '../harness/gateway-calls.ts'
import type { Json } from '../harness/sandbox-calls.ts'

// The same secrets as on Node, through the Worker, its objects and their storage.

const secret = canaryText()
const misplaced = canaryText()
const memberName = canaryText()
const inHeader = canaryToken()
const told = canaryText()
const adminKey = `cgw_admin_${canaryToken()}`

const variables = env as unknown as Record<string, string>
const config = variables['GATEWAY_CONFIG'] ?? ''
const changed = {
  ...env,
  GATEWAY_CONFIG: config.replace(sha256(keys.admin), sha256(adminKey)),
  LOG_LEVEL: 'debug',
}

/** Everything that the Worker has answered and logged. */
const replies: string[] = []
const statuses = new Set<number>()
const logged: string[] = []
/** Every access token that a provider issued. */
const tokens: string[] = []

async function call(method: string, path: string, body?: unknown, headers: Record<string, string> = {}) {
  const init = {
    method,
    headers: { 'x-api-key': adminKey, 'content-type': 'application/json', ...headers },
    ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  }
  const response = await worker.fetch(new Request(new URL(path, 'https://gateway.example'), init), changed)
  const text = await response.text()
  statuses.add(response.status)
  replies.push([response.status, ...[...response.headers].map((pair) => pair.join(': ')), text].join('\n'))
  return { status: response.status, text }
}
const put = (path: string, body: unknown, headers?: Record<string, string>) =>
  call('PUT', path, body, headers)

/** All that an object has stored: every row of every table, and its key-value pairs. */
const storedBy = (name: string) =>
  runInDurableObject(env.CONNECTIONS.getByName(name), (_, { storage }) => {
    const tables = storage.sql
      .exec("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_cf%' ESCAPE '\\'")
      .toArray()
      .map(({ name }) => String(name))
    const rows = tables.map(
      (table) => [table, storage.sql.exec(`SELECT * FROM "${table}"`).toArray()] as const,
    )
    return { rows: Object.fromEntries(rows), pairs: [...storage.kv.list({ prefix: '' })] }
  })

test(
  'neither replies nor the log nor the storage of any object tell a secret',
  { timeout: 60_000 },
  async () => {
    const record = (...line: unknown[]) => void logged.push(line.map(String).join(' '))
    for (const level of ['log', 'info', 'warn', 'error', 'debug'] as const)
      vi.spyOn(console, level).mockImplementation(record)
    const { fetch: really } = globalThis
    vi.spyOn(globalThis, 'fetch').mockImplementation(async (...request) => {
      const response = await really(...request)
      const [, token] = /"access_token":"([^"]+)"/.exec(await response.clone().text()) ?? []
      if (token !== undefined) tokens.push(token)
      return response
    })
    const { apinizer, commerceLayer, discue } = providers()
    const credential = freshId()
    await commerceLayer.mint('api_credentials', credential, {
      attributes: { client_secret: told, name: 'Before' },
    })
    const client = `${freshId()}${freshId()}`
    await discue.mint('api_clients', client, { name: 'before' })
    const subjects = [
      [`/credentials/commerce-layer:${credential}`, { name: 'After' }],
      [`/credentials/cl-hiding:${credential}`, { metadata: { hidden: misplaced } }],
      [`/credentials/discue:${client}`, { name: `example.com/${client}` }],
      [`/credentials/apinizer:${(await project()).key}`, { secret, description: 'After' }],
      [`/credentials/apinizer-login:${(await project()).key}`, { secret }],
    ] as const
    // An object sets the level of its own environment when it wakes up; they share one log.
    await Promise.all(subjects.map(([path]) => call('GET', path)))
    openLog('debug', (line) => console.log(line.trimEnd()))

    for (const [path, body] of subjects) {
      await put(`${path}?dryRun=true`, body)
      const keyed = { 'idempotency-key': 'key-1', 'x-request-id': `"${inHeader}"`, traceparent: inHeader }
      for (let time = 0; time < 2; time++) expect((await put(path, body, keyed)).status).toBe(200)
      await put(path, { ...body, more: misplaced }, keyed)
      await put(path, body, { 'if-match': `"${inHeader}"` })
      await put(path, body, { 'x-api-key': inHeader })
      await put(path, body, { authorization: `Bearer ${inHeader}` })
      await put(`${path}?mode=${inHeader}`, body)
      for (const wrong of [
        { secret: [misplaced] },
        { [memberName]: misplaced },
        { enabled: misplaced, roles: misplaced, expiresAt: misplaced },
        `{"secret":"${misplaced}`,
        `{"secret":${JSON.stringify(misplaced)},"secret":1}`,
        misplaced,
      ])
        await put(path, wrong)
      await call('GET', path)
      await call('DELETE', path, { secret })
    }
    for (const fault of [
      { status: 400 },
      { status: 401 },
      { status: 500, applied: true },
      { failure: { status: 422, resultMessage: secret } },
      { failure: { status: 500, resultMessage: `The username ${secret} is already used.` } },
      { reset: 'before' },
      { reset: 'mid-body' },
      { wrongType: true },
      { partialDeployment: {} },
    ]) {
      const { key, name } = await project()
      await apinizer.fault(fault, { match: { method: 'PUT', path: name }, times: 3 })
      await put(`/credentials/apinizer-login:${key}`, { secret, description: 'After' })
    }
    for (const path of [
      '/audit?limit=1000',
      '/changes?limit=1000',
      '/providers',
      '/connections',
      '/health/ready',
    ])
      await call('GET', path)
    for (const slug of Object.keys(problems)) await call('GET', `/problems/${slug}`)
    replies.push(await (await gatewayFetch('/openapi.json')).text())

    const search = searchFor({
      'a secret that a caller sends': secret,
      'a secret in a place where none belongs': misplaced,
      'a secret as the name of a member': memberName,
      'a secret in a header': inHeader,
      'a secret that the provider tells': told,
      'the key of a caller': adminKey.slice(-43),
      'the audit key': { whole: variables['AUDIT_KEY'] ?? '' },
      ...Object.fromEntries(
        Object.entries(environment).flatMap(([name, whole]) =>
          /_ID$|_USER$/.test(name) ? [] : [[name, { whole }]],
        ),
      ),
      ...Object.fromEntries(
        // The head and the claims of a JWT are no secrets by themselves; its signature is.
        tokens.map((token, at) => [`token ${at}`, token.split('.').at(-1) ?? '']),
      ),
    })
    expect(tokens.length).toBeGreaterThan(1)
    for (const status of [200, 400, 401, 405, 412, 422, 502, 504]) expect([...statuses]).toContain(status)
    expect(replies.flatMap(search)).toEqual([])
    expect(logged.filter((line) => line.includes('"message":"change"')).length).toBeGreaterThan(5)
    expect(logged.flatMap(search)).toEqual([])

    const { connections } = JSON.parse(config) as { connections: Json }
    for (const name of ['_gateway', ...Object.keys(connections)]) {
      const stored = await storedBy(name)
      if (subjects.some(([path]) => path.includes(`/${name}:`))) {
        expect(stored.rows['audit']?.length).toBeGreaterThan(1)
        expect(stored.rows['idempotency']?.length).toBe(1)
      }
      expect([name, search(JSON.stringify(stored))]).toEqual([name, []])
    }
  },
)

async function project(): Promise<{ key: string; name: string }> {
  const { id, project: name } = await mintApinizer({ password: told })
  return { key: id.slice(id.indexOf(':') + 1), name }
}

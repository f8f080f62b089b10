import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Sandbox, startSandbox } from '../../sandbox/server.ts'
import { call, type Control, controlOf, discueHeaders } from '../harness/sandbox-calls.ts'

let sandbox: Sandbox
let control: Control

beforeAll(async () => {
  sandbox = await startSandbox()
  control = controlOf(sandbox.urls.discue)
})
afterAll(() => sandbox.close())
beforeEach(() => control.reset())

const id = '5bc2be68-7498-4853-aa64-4be0ca62934e'
const staging = 'V1StGXR8_Z5jdHi6B-myT'

const put = (path: string, body: unknown, headers: Record<string, string> = {}) =>
  call('PUT', `${sandbox.urls.discue}${path}`, { headers: { ...discueHeaders, ...headers }, body })
const update = (body: unknown, headers: Record<string, string> = {}) =>
  put(`/api_clients/${id}`, body, headers)

describe('the order of checks', () => {
  const wrong = { accept: 'text/html', 'content-type': 'text/plain' }
  test.each([
    ['unknown key', 'PUT', `/api_clients/x`, { ...wrong, 'x-api-key': 'wrong' }, '{', 401, 'Unauthorized'],
    [
      'key without the scope',
      'GET',
      '/api_clients/x',
      { ...wrong, 'x-api-key': 'sandbox-discue-limited-key' },
      undefined,
      403,
      'Forbidden',
    ],
    ['method', 'GET', '/api_clients/x', wrong, undefined, 405, 'Method Not Allowed'],
    ['method', 'DELETE', '/api_clients/x', wrong, undefined, 405, 'Method Not Allowed'],
    ['method', 'GET', '/api_clients', wrong, undefined, 405, 'Method Not Allowed'],
    ['accept', 'PUT', '/api_clients/x', wrong, '{', 406, 'Not Acceptable'],
    [
      'content type',
      'PUT',
      '/api_clients/x',
      { 'content-type': 'text/plain' },
      '{',
      415,
      'Unsupported Media Type',
    ],
    ['no JSON', 'PUT', '/api_clients/x', {}, '{', 400, 'Bad Request'],
    ['unknown client', 'PUT', '/api_clients/x', {}, '{"name":""}', 404, 'Not Found'],
    [
      'client of another organization',
      'PUT',
      '/api_clients/0b9f5c1e-3d0a-4a55-9f2e-7c1d2a6f4e11',
      {},
      '{"name":""}',
      404,
      'Not Found',
    ],
    ['empty name', 'PUT', `/api_clients/${id}`, {}, '{"name":""}', 422, 'Unprocessable Entity'],
    ['null name', 'PUT', `/api_clients/${id}`, {}, '{"name":null}', 422, 'Unprocessable Entity'],
    ['another id', 'PUT', `/api_clients/${id}`, {}, '{"id":"other"}', 422, 'Unprocessable Entity'],
    ['a list', 'PUT', `/api_clients/${id}`, {}, '[]', 422, 'Unprocessable Entity'],
    [
      'name of another',
      'PUT',
      `/api_clients/${id}`,
      {},
      '{"name":"example.com/staging"}',
      422,
      'Unprocessable Entity',
    ],
    ['unknown path', 'PUT', `/queues/${id}`, {}, '{}', 404, 'Not Found'],
  ])('%s: %s %s', async (_, method, path, headers, body, status, title) => {
    const reply = await call(method, `${sandbox.urls.discue}${path}`, {
      headers: { ...discueHeaders, ...headers },
      ...(body !== undefined && { body }),
    })
    expect(reply.status).toBe(status)
    expect(reply.json).toEqual({ title, status })
    expect(reply.headers.get('content-type')).toBe('application/json')
    expect(await control.ledger()).toEqual([])
  })

  test('no key at all', async () => {
    const reply = await call('PUT', `${sandbox.urls.discue}/api_clients/${id}`, { body: '{}' })
    expect(reply.json).toEqual({ title: 'Unauthorized', status: 401 })
  })
})

describe('an update', () => {
  test('works with and without the version, and survives the update of nothing', async () => {
    const unversioned = sandbox.urls.discue.replace('/v1', '')
    const renamed = await call('PUT', `${unversioned}/api_clients/${id}`, {
      headers: discueHeaders,
      body: { name: 'example.com/renamed', unknown: true },
    })
    expect(renamed.json.api_client).toEqual({ id, name: 'example.com/renamed' })
    const nothing = await call('PUT', `${sandbox.urls.discue}/api_clients/${id}`, {
      headers: { 'x-api-key': 'sandbox-discue-key' },
    })
    expect([nothing.status, nothing.json.api_client.name]).toEqual([200, 'example.com/renamed'])
    expect((await update({ name: 'example.com/renamed' })).status).toBe(200)
  })

  test('is printed prettily on request', async () => {
    const pretty = await put(`/api_clients/${id}?pretty=true`, { name: 'x' })
    expect(pretty.text).toContain('\n  "api_client": {\n    "id"')
    expect((await put(`/api_clients/${id}?pretty=false`, { name: 'x' })).text).not.toContain('\n')
  })

  test('has no rate limit headers', async () => {
    expect(
      [...(await update({ name: 'x' })).headers.keys()].filter((name) => name.includes('ratelimit')),
    ).toEqual([])
  })
})

test('a client is created without a body', async () => {
  const reply = await call('POST', `${sandbox.urls.discue}/api_clients`, {
    headers: { 'x-api-key': 'sandbox-discue-key' },
  })
  expect(reply.status).toBe(200)
  const { id: created, name } = reply.json.api_client
  expect(await control.state('api_clients', created)).toMatchObject({ name })
})

describe('the lock-out', () => {
  const badKeys = async (count: number) => {
    const statuses = []
    for (let at = 0; at < count; at += 1)
      statuses.push((await update({ name: 'x' }, { 'x-api-key': `guess-${at}` })).status)
    return statuses
  }

  test('follows five bad keys in a minute, and hits valid keys too, for a minute', async () => {
    expect(await badKeys(4)).toEqual([401, 401, 401, 401])
    expect((await update({ name: 'still open' })).status).toBe(200)
    expect(await badKeys(1)).toEqual([401])
    const locked = await update({ name: 'locked' })
    expect(locked.json).toEqual({ title: 'Forbidden', status: 403 })
    await control.advance(59_000)
    expect((await update({ name: 'locked' })).status).toBe(403)
    await control.advance(2_000)
    expect((await update({ name: 'open again' })).status).toBe(200)
    expect((await control.ledger()).map(({ after }) => after.name)).toEqual(['still open', 'open again'])
  })

  test('does not follow bad keys that are further apart', async () => {
    for (let at = 0; at < 3; at += 1) {
      expect(await badKeys(2)).toEqual([401, 401])
      await control.advance(31_000)
    }
    expect((await update({ name: 'x' })).status).toBe(200)
  })

  test('grows with every further bad key, and can be configured', async () => {
    await control.settings({ lockout: { badKeys: 2, withinSeconds: 60, forSeconds: 10 } })
    expect(await badKeys(3)).toEqual([401, 401, 403])
    await control.advance(9_000)
    await badKeys(1)
    await control.advance(9_000)
    expect((await update({ name: 'x' })).status).toBe(403)
    await control.advance(2_000)
    expect((await update({ name: 'x' })).status).toBe(200)
  })
})

test('rate limits are an option', async () => {
  await control.settings({ rateLimit: { perMinute: 2 } })
  const first = await put(`/api_clients/${staging}`, { name: 'a' })
  expect(first.headers.get('x-ratelimit-limit')).toBe('2')
  expect(first.headers.get('x-ratelimit-remaining')).toBe('1')
  expect(Number(first.headers.get('x-ratelimit-reset'))).toBeGreaterThan(1_600_000_000)
  await put(`/api_clients/${staging}`, { name: 'b' })
  const third = await put(`/api_clients/${staging}`, { name: 'c' })
  expect(third.json).toEqual({ title: 'Too Many Requests', status: 429 })
  await control.advance(61_000)
  expect((await put(`/api_clients/${staging}`, { name: 'd' })).status).toBe(200)
})

import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Sandbox, startSandbox } from '../../sandbox/server.ts'
import {
  call,
  commerceLayerAs,
  type Control,
  controlOf,
  discueHeaders,
  type Json,
  patch,
} from '../harness/sandbox-calls.ts'

let sandbox: Sandbox
let control: Control

beforeAll(async () => {
  sandbox = await startSandbox()
  control = controlOf(sandbox.urls.discue)
})
afterAll(() => sandbox.close())
beforeEach(() => control.reset())

const id = '5bc2be68-7498-4853-aa64-4be0ca62934e'
const update = (name = 'example.com/changed') =>
  call('PUT', `${sandbox.urls.discue}/api_clients/${id}`, { headers: discueHeaders, body: { id, name } })
const applied = async () => (await control.ledger()).length
const expected = { api_client: { id, name: 'example.com/changed' } }

describe('connections that are cut', () => {
  test.each([
    ['on-headers', 0],
    ['before', 0],
    ['after', 1],
    ['mid-body', 1],
  ])('%s: %i applied, no complete answer', async (reset, count) => {
    await control.fault({ reset })
    await expect(update()).rejects.toThrow()
    expect(await applied()).toBe(count)
    const [seen] = await control.requests()
    expect(seen.applied).toBe(count === 1)
    expect(seen.status).toBe(reset === 'mid-body' ? 200 : undefined)
    expect((await update()).status).toBe(200)
  })

  test('mid-body: the status line and half of the body did arrive', async () => {
    await control.fault({ reset: 'mid-body' })
    const response = await fetch(`${sandbox.urls.discue}/api_clients/${id}`, {
      method: 'PUT',
      headers: discueHeaders,
      body: '{}',
    })
    expect(response.status).toBe(200)
    await expect(response.text()).rejects.toThrow()
  })
})

describe('delays', () => {
  test.each(['delayBeforeMs', 'delayAfterMs'])('%s holds the answer back', async (delay) => {
    await control.fault({ [delay]: 120 })
    const begun = performance.now()
    expect((await update()).status).toBe(200)
    expect(performance.now() - begun).toBeGreaterThan(100)
  })

  test('a client that gives up does not keep the change from being applied', async () => {
    await control.fault({ delayBeforeMs: 100 })
    const given = fetch(`${sandbox.urls.discue}/api_clients/${id}`, {
      method: 'PUT',
      headers: discueHeaders,
      body: '{"name":"example.com/late"}',
      signal: AbortSignal.timeout(30),
    })
    await expect(given).rejects.toThrow()
    await expect.poll(applied, { timeout: 3000 }).toBe(1)
  })

  test('drip sends the whole answer in pieces', async () => {
    await control.fault({ drip: { chunkBytes: 20, everyMs: 5 } })
    expect((await update()).json).toMatchObject(expected)
  })
})

describe('answers that are wrong', () => {
  test('a status that was not applied, and one that was', async () => {
    await control.fault({ status: 503, retryAfter: '7' })
    const refused = await update()
    expect(refused.json).toEqual({ title: 'Service Unavailable', status: 503 })
    expect(refused.headers.get('retry-after')).toBe('7')
    expect(await applied()).toBe(0)
    await control.fault({ status: 502, applied: true })
    expect((await update()).json).toEqual({ title: 'Bad Gateway', status: 502 })
    expect(await applied()).toBe(1)
  })

  test.each([
    ['empty', ''],
    ['text', 'The request could not be handled.'],
  ])('a status with a body that is %s', async (body, text) => {
    await control.fault({ status: 429, body })
    const reply = await update()
    expect([reply.status, reply.text]).toEqual([429, text])
    expect(reply.headers.get('content-type')).not.toBe('application/json')
  })

  test('truncated: complete by its length, half by its content', async () => {
    await control.fault({ truncate: true })
    const reply = await update()
    expect(reply.status).toBe(200)
    expect(reply.json).toBeUndefined()
    expect(Number(reply.headers.get('content-length'))).toBe(reply.text.length)
    expect(JSON.stringify(expected).slice(0, 20)).toBe(reply.text.slice(0, 20))
    expect(await applied()).toBe(1)
  })

  test('wrong types', async () => {
    await control.fault({ wrongType: true })
    expect((await update()).json).toEqual(['unexpected'])
    await control.fault({ wrongType: 'numbers' })
    expect((await update()).json.api_client).toEqual({ id: id.length, name: 19 })
  })

  test('another content type', async () => {
    await control.fault({ contentType: 'text/html' })
    const reply = await update()
    expect(reply.headers.get('content-type')).toBe('text/html')
    expect(reply.json).toMatchObject(expected)
  })

  test('a redirect that was not applied', async () => {
    await control.fault({ redirect: { status: 307, location: 'http://127.0.0.1:1/elsewhere' } })
    const reply = await update()
    expect([reply.status, reply.headers.get('location')]).toEqual([307, 'http://127.0.0.1:1/elsewhere'])
    expect(await applied()).toBe(0)
  })

  test('too much of it', async () => {
    await control.fault({ oversize: 3_000_000 })
    const reply = await update()
    expect(reply.text.length).toBe(3_000_000)
    expect(typeof reply.json).toBe('string')
  })
})

describe('the list of faults', () => {
  test('matches by method and path, in order, as often as it was told', async () => {
    await control.fault({ status: 500 }, { match: { method: 'POST' } })
    await control.fault({ status: 501 }, { match: { path: 'another' } })
    await control.fault({ status: 502 }, { match: { method: 'put', path: id.slice(0, 8) }, times: 2 })
    await control.fault({ status: 503 }, { times: null })
    const statuses = []
    for (let at = 0; at < 5; at += 1) statuses.push((await update()).status)
    expect(statuses).toEqual([502, 502, 503, 503, 503])
    const { faults } = await control.send('GET', '/faults')
    expect(faults.map((one: Json) => [one.fault.status, one.used])).toEqual([
      [500, 0],
      [501, 0],
      [503, 3],
    ])
    await control.send('DELETE', `/faults/${faults[2].id}`)
    expect((await update()).status).toBe(200)
    await control.send('DELETE', '/faults')
    expect((await control.send('GET', '/faults')).faults).toEqual([])
  })

  test('leaves the control API alone', async () => {
    await control.fault({ reset: 'on-headers' }, { times: null })
    expect(await control.ledger()).toEqual([])
    expect(await control.requests()).toEqual([])
  })
})

test('token endpoints refuse in shapes of their own', async () => {
  const { commerceLayerAuth, apinizer } = sandbox.urls
  await controlOf(commerceLayerAuth).fault({ status: 500 }, { match: { path: '/oauth/' } })
  const token = await call('POST', `${commerceLayerAuth}/oauth/token`, { body: '{}' })
  expect(token.json.errors[0]).toMatchObject({ status: 500, code: 'INTERNAL_SERVER_ERROR' })
  await controlOf(apinizer).fault({ status: 500 }, { match: { path: '/auth/token' } })
  const other = await call('POST', `${apinizer}/apiops/auth/token`, { body: '' })
  expect([other.status, other.json]).toEqual([
    500,
    { error: 'server_error', error_description: expect.any(String) },
  ])
})

test('each provider refuses in its own shape', async () => {
  const { commerceLayer, apinizer } = sandbox.urls
  const as = await commerceLayerAs(sandbox)
  const body = patch('roles', 'xYZkjABcde', {})
  const match = { method: 'PATCH' }
  for (const [fault, code] of [
    [{ status: 401 }, 'INVALID_TOKEN'],
    [{ status: 401, code: 'UNAUTHORIZED' }, 'UNAUTHORIZED'],
    [{ status: 409 }, 'RECORD_NOT_UNIQUE'],
    [{ status: 500 }, 'INTERNAL_SERVER_ERROR'],
  ] as const) {
    await controlOf(commerceLayer).fault(fault, { match })
    const reply = await as('PATCH', '/api/roles/xYZkjABcde', body)
    expect(reply.status).toBe(fault.status)
    expect(reply.json.errors).toEqual([
      { code, title: expect.any(String), detail: expect.any(String), status: String(fault.status) },
    ])
    expect(reply.headers.get('x-ratelimit-limit')).toBe('50')
  }
  await controlOf(apinizer).fault({ status: 500 })
  expect((await call('GET', `${apinizer}/apiops/projects/MyProject/credentials/`)).json).toEqual({
    status: 'FAILURE',
    resultMessage: expect.any(String),
  })
})

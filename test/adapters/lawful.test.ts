import { expect, test } from 'vitest'
import { z } from 'zod'
import { registry } from '../../adapters/index.ts'
import { Secret } from '../../src/lib/secret.ts'
import type { Adapter, KindSpec, UpstreamRequest } from '../../src/model/adapter.ts'
import { held, lawful } from './lawful.ts'

/** The suites rely on the laws being held to, so a breach of each is tried here. */

const anything = z.unknown()

test.each<[string, (input: { list: number[] }) => unknown]>([
  ['fetches', () => fetch('https://provider.example')],
  ['reads the clock', () => Date.now()],
  ['reads the clock as an object', () => new Date()],
  ['reads the clock as text', () => Date()],
  ['reads the monotonic clock', () => performance.now()],
  ['draws a number', () => Math.random()],
  ['draws an id', () => crypto.randomUUID()],
  ['draws bytes', () => crypto.getRandomValues(new Uint8Array(1))],
  ['sets a timer', () => setTimeout(() => {}, 0)],
  ['puts work off', () => queueMicrotask(() => {})],
  ['changes what it was given', (input) => input.list.push(1)],
  ['throws', () => JSON.parse('{')],
])('an adapter that %s breaks a law', (_, call) => {
  expect(() => held(call, anything)({ list: [] })).toThrow()
})

test('an adapter that remembers breaks a law', () => {
  let calls = 0
  expect(() => held(() => (calls += 1), anything)()).toThrow('unequal outputs')
})

test('an adapter may read dates and keep secrets', () => {
  const call = held((text: string) => [new Date(text).toISOString(), new Secret(text)], anything)
  expect(call('2025-12-31T23:59:59Z')[0]).toBe('2025-12-31T23:59:59.000Z')
})

test('the world is as it was after a call', () => {
  const names = () => [Date, Date.now, fetch, Math.random, setTimeout, crypto.randomUUID, performance.now]
  const before = names()
  held(() => 1, anything)()
  expect(() => held(() => Math.random(), anything)()).toThrow()
  expect(names()).toEqual(before)
  expect(Object.keys(crypto)).toEqual([])
})

const credential = registry.discue.kinds.credential
if (!credential) throw new TypeError('discue has no credentials')
const ref = { api_client_id: '5bc2be68-7498-4853-aa64-4be0ca62934e' }
const having = (spec: object): KindSpec<'credential'> => {
  const adapter: Adapter = { ...registry.discue, kinds: { credential: { ...credential, ...spec } } }
  return lawful(adapter).kinds.credential ?? credential
}

const request: UpstreamRequest = { method: 'PUT', template: '/x/{api_client_id}', ref, headers: {}, body: {} }
test.each<[string, object]>([
  ['a parameter that the ref lacks', { ...request, template: '/x/{id}' }],
  ['a template that is no path', { ...request, template: 'https://elsewhere.example/' }],
  ['a header in another case', { ...request, headers: { 'Content-Type': 'application/json' } }],
  ['a body that is not JSON', { ...request, body: { name: undefined } }],
  ['a number that is not JSON', { ...request, body: { name: Number.NaN } }],
  ['a member that the port does not know', { ...request, url: 'https://elsewhere.example/' }],
])('a request with %s breaks a law', (_, value) => {
  expect(having({ plan: () => ({ ok: true, value: request }) }).plan(ref, {}, undefined).ok).toBe(true)
  expect(() => having({ plan: () => ({ ok: true, value }) }).plan(ref, {}, undefined)).toThrow()
})

const response = { status: 200, headers: {}, body: {} }
const fault = { pointer: '#/name', code: 'upstream-validation-failed', detail: 'is not valid' }
const refusal = { problem: 'upstream-failed', detail: 'no' }
test.each<[string, object]>([
  ['a field that the adapter does not have', { outcome: 'applied', values: { email: 'a@b.example' } }],
  ['a value of another type', { outcome: 'applied', values: { name: ['example.com'] } }],
  [
    'a success that is not deployed',
    { outcome: 'applied', deployment: { success: false, environments: [] } },
  ],
  ['an outcome that there is not', { outcome: 'fine' }],
  ['a problem that there is not', { outcome: 'rejected', refusal: { ...refusal, problem: 'bad-luck' } }],
  ['no detail', { outcome: 'rejected', refusal: { ...refusal, detail: '' } }],
  ['more than a refusal has', { outcome: 'rejected', refusal: { ...refusal, body: {} } }],
  [
    'a pointer to no field',
    { outcome: 'rejected', refusal: { ...refusal, errors: [{ ...fault, pointer: '#/email' }] } },
  ],
  [
    'a detail that is no text',
    { outcome: 'rejected', refusal: { ...refusal, errors: [{ ...fault, detail: Object }] } },
  ],
])('a report with %s breaks a law', (_, report) => {
  const good = { outcome: 'rejected', refusal: { ...refusal, errors: [fault] } }
  expect(having({ parse: () => good }).parse(ref, response)).toEqual(good)
  expect(() => having({ parse: () => report }).parse(ref, response)).toThrow()
})

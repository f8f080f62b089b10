import { describe, expect, test } from 'vitest'
import { discue } from '../../adapters/discue.ts'
import { answer, translate } from './translation.ts'

const id = '5bc2be68-7498-4853-aa64-4be0ca62934e'
const credential = translate('discue', 'credential', `discue:${id}`)

test('can be renamed and not read', () => {
  expect(credential.spec.read).toBeUndefined()
  expect(Object.keys(credential.spec.fields)).toEqual(['name'])
})

test('takes ids of both spellings that the documentation shows', () => {
  const { checkKey } = credential.spec
  expect(checkKey('_A36cABAOqhBdNeZeXB0l')).toBeUndefined()
  expect(checkKey(id)).toBeUndefined()
  for (const key of ['', 'short', 'a b c d e f g h', '5bc2be68.7498', 'x'.repeat(65)]) {
    expect(checkKey(key)).toBeDefined()
  }
})

test('reads the name that newer clients of the vendor call alias', () => {
  const body = { api_client: { id, alias: 'example.com/dev' } }
  expect(credential.parse(answer(200, body))).toEqual({
    outcome: 'applied',
    values: { name: 'example.com/dev' },
  })
})

test('succeeds without telling the name', () => {
  expect(credential.parse(answer(200, { api_client: { id } }))).toEqual({ outcome: 'applied' })
})

describe('the documented errors', () => {
  test.each([
    [400, 'Bad Request', 'upstream-validation-failed'],
    [401, 'Unauthorized', 'upstream-unauthorized'],
    [402, 'Payment Required', 'upstream-failed'],
    [403, 'Forbidden', 'upstream-unauthorized'],
    [404, 'Not Found', 'not-found'],
    [405, 'Method Not Allowed', 'upstream-failed'],
    [406, 'Not Acceptable', 'upstream-failed'],
    [409, 'Conflict', 'upstream-conflict'],
    [415, 'Unsupported Media Type', 'upstream-failed'],
    [422, 'Unprocessable Entity', 'upstream-validation-failed'],
    [423, 'Locked', 'upstream-locked'],
  ])('%i %s means %s', (status, title, problem) => {
    expect(credential.parse(answer(status, { title, status }))).toMatchObject({
      outcome: 'rejected',
      refusal: { problem },
    })
  })

  // The gateway takes these for a rate limit, a refusal or an unknown outcome before it asks the adapter.
  test.each([
    [429, 'Too Many Requests'],
    [500, 'Internal Server Error'],
    [501, 'Not Implemented'],
    [503, 'Service Unavailable'],
  ])('%i %s is no success', (status, title) => {
    expect(credential.parse(answer(status, { title, status })).outcome).not.toBe('applied')
  })

  test.each([400, 422])('%i is about the name, the one thing that varies', (status) => {
    expect(credential.parse(answer(status, { title: 'A title', status }))).toMatchObject({
      refusal: { errors: [{ pointer: '#/name' }] },
    })
  })

  test.each([401, 403])('%i never asks for another attempt: keys that fail lock the account', (status) => {
    const parsed = credential.parse(answer(status, { title: 'A title', status }))
    expect(parsed.outcome === 'rejected' && parsed.refusal.staleToken).toBeFalsy()
  })
})

test('signs in with the key alone, in a header of its own', () => {
  expect(discue.auth).toEqual([{ scheme: 'header', header: 'X-API-KEY', prefix: '', setting: 'apiKey' }])
})

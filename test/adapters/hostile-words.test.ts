import { describe, expect, test } from 'vitest'
import { registry } from '../../adapters/index.ts'
import type { UpstreamResponse } from '../../src/model/adapter.ts'
import type { Json } from '../harness/sandbox-calls.ts'

// A provider says what it likes; what comes out of an adapter is made of words that it already had.

const SECRET = 'hunter2-correct-horse'
const LARGE = 20_000

const respond = (status: number, body: unknown): UpstreamResponse => ({
  status,
  headers: { 'x-said': SECRET, location: `/${SECRET}` },
  body,
})

describe('commerce layer', () => {
  const { credential } = registry['commerce-layer'].kinds
  const refusalOf = (errors: object[]): Json => {
    const told = credential?.parse({ id: 'xYZkjABcde' }, respond(422, { errors }))
    return told?.outcome === 'rejected' ? told.refusal : undefined
  }
  const echoing = (pointer: string, error: string) => ({
    title: SECRET,
    detail: `name is ${SECRET}`,
    code: SECRET,
    status: SECRET,
    source: { pointer },
    meta: { error, value: SECRET, [SECRET]: SECRET },
  })

  test('a refused value is named by its field and its known fault, in words of our own', () => {
    const refusal = refusalOf([
      echoing('/data/attributes/name', 'blank'),
      echoing('/data/attributes/expires_in', `less than ${SECRET}`),
      echoing(`/data/attributes/${SECRET}`, 'constructor'),
      echoing(SECRET, SECRET),
    ])
    expect(refusal).toEqual({
      problem: 'upstream-validation-failed',
      detail: 'the provider refused the values (status 422)',
      errors: [
        { pointer: '#/name', code: 'upstream-validation-failed', detail: 'must not be blank' },
        {
          pointer: '#/tokenLifetime',
          code: 'upstream-validation-failed',
          detail: 'was refused by the provider',
        },
        { pointer: '#', code: 'upstream-validation-failed', detail: 'was refused by the provider' },
        { pointer: '#', code: 'upstream-validation-failed', detail: 'was refused by the provider' },
      ],
    })
  })

  test('faults without end are not all told', () => {
    const refusal = refusalOf(Array.from({ length: LARGE }, () => echoing('/data/attributes/name', 'taken')))
    expect(refusal.errors).toHaveLength(100)
  })
})

describe('apinizer', () => {
  const { credential } = registry.apinizer.kinds
  const parse = (status: number, body: unknown): Json =>
    credential?.parse({ projectName: 'MyProject', username: 'api-user' }, respond(status, body))
  const deployedTo = (names: readonly string[], success = false) =>
    parse(200, {
      status: 'SUCCESS',
      resultMessage: SECRET,
      deploymentResult: {
        success,
        detail: SECRET,
        detailList: names.map((envName) => ({
          envName,
          podName: SECRET,
          podIp: SECRET,
          detail: SECRET,
          success,
        })),
      },
    }).deployment

  test.each([['production'], ['Test Ortamı (İstanbul)'], ['eu-west_1/blue.2']])(
    'an environment is called by its name: %s',
    (name) => {
      expect(deployedTo([name])).toEqual({ success: false, environments: [{ name, success: false }] })
    },
  )

  test.each([
    [`password=${SECRET}`],
    [`{"secret":"${SECRET}"}`],
    [`${SECRET}\n`],
    [` ${SECRET}`],
    [`Bearer: ${SECRET}`],
    [`${SECRET} `.repeat(4)],
    [''],
  ])('what is no name is not repeated: %j', (name) => {
    const environments = [{ name: 'unnamed', success: false }]
    expect(deployedTo([name, name])).toEqual({ success: false, environments })
  })

  test('environments without end are not told apart', () => {
    const names = Array.from({ length: LARGE }, (_, n) => `env-${n}`)
    const { environments } = deployedTo(names, true)
    expect(environments).toHaveLength(101)
    expect(environments.at(-1)).toEqual({ name: 'unnamed', success: true })
  })

  test('of a message only the beginning is looked at, and nothing is repeated', () => {
    const message = (words: string) => parse(400, { status: 'FAILURE', resultMessage: words })
    const known = message(`Role ${SECRET} was not found.`)
    expect(known.refusal.errors).toMatchObject([{ pointer: '#/roles' }])
    const long = message(`role ${SECRET} `.repeat(LARGE) + 'not found')
    expect(long.refusal).toEqual({
      problem: 'upstream-validation-failed',
      detail: 'the provider refused the values',
    })
    expect(JSON.stringify([known, long])).not.toContain(SECRET)
  })
})

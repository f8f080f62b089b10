import { useGateway } from '#gateway'
import { beforeAll, describe, expect, test } from 'vitest'
import {
  type Answer,
  eventsOf,
  freshId,
  get,
  mintApinizer,
  mintCommerceLayer,
  mintDiscue,
  providers,
  put,
} from '../harness/gateway-calls.ts'
import type { Json } from '../harness/sandbox-calls.ts'

useGateway()

/** One resource at one provider, a change of it, and what the provider itself says afterwards. */
interface Subject {
  path: string
  body: object
  /** What a fault has to match so that it hits only writes to this resource. */
  match: { method: string; path: string }
  id: string
  applied(): Promise<boolean>
  control: ReturnType<typeof providers>['discue']
}

const subjects: Record<string, (connection?: string) => Promise<Subject>> = {
  async 'commerce-layer'(connection = 'commerce-layer') {
    const key = await mintCommerceLayer('roles', { name: 'Before' })
    const control = providers().commerceLayer
    return {
      path: `/roles/${connection}:${key}`,
      id: `${connection}:${key}`,
      body: { name: 'After' },
      match: { method: 'PATCH', path: key },
      applied: async () => (await control.state('roles', key)).attributes.name === 'After',
      control,
    }
  },
  async discue(connection = 'discue') {
    const key = await mintDiscue()
    const name = `example.com/after-${key}`
    const control = providers().discue
    return {
      path: `/credentials/${connection}:${key}`,
      id: `${connection}:${key}`,
      body: { name },
      match: { method: 'PUT', path: key },
      applied: async () => (await control.state('api_clients', key)).name === name,
      control,
    }
  },
  async apinizer(connection = 'apinizer') {
    const { id: key, project, state } = await mintApinizer()
    const id = key.replace('apinizer:', `${connection}:`)
    return {
      path: `/credentials/${id}`,
      id,
      body: { secret: 'after', description: 'after' },
      match: { method: 'PUT', path: project },
      applied: async () => (await state()).description === 'after',
      control: providers().apinizer,
    }
  },
}
const all = Object.keys(subjects)
/** Connections that nobody else needs: a provider that says when to come back holds back everybody on its connection. */
const spendable: Record<string, string> = {
  'commerce-layer': 'cl-spent',
  discue: 'discue-spent',
  apinizer: 'apinizer-spent',
}
const subject = (name: string, connection?: string): Promise<Subject> => {
  const make = subjects[name]
  if (!make) throw new Error(name)
  return make(connection)
}

/** A reply never claims more than what happened, and never denies what may have; the audit says the same. */
async function expectHonest(reply: Answer, { id, applied }: Subject): Promise<void> {
  const truth = await applied()
  if (reply.status === 200) expect(truth).toBe(true)
  const denies = ['rejected', 'not_sent'].includes(reply.body.outcome)
  if (denies) expect(truth).toBe(false)
  const events = await eventsOf(id)
  expect(events.map(({ type }) => type).filter((type) => type !== 'attempt')).toEqual(['intent', 'outcome'])
  expect(events.at(-1)).toMatchObject({ outcome: reply.body.outcome, changeId: reply.body.changeId })
  expect(events.at(-1).upstream.attempts).toBeLessThanOrEqual(3)
  expect(events.at(-1).upstream.attempts).toBe(events.filter(({ type }) => type === 'attempt').length + 1)
}

const problem = (reply: Answer): unknown[] => [reply.status, reply.body.type, reply.body.outcome]

describe.each(all)('%s', (name) => {
  test.each<[string, object]>([
    ['a reset before the body is read', { reset: 'on-headers' }],
    ['a reset before applying', { reset: 'before' }],
    ['a reset after applying', { reset: 'after' }],
    ['a reset in the middle of the answer', { reset: 'mid-body' }],
    ['half of the answer', { truncate: true }],
    ['an answer of another type', { wrongType: true }],
    ['an answer with numbers for texts', { wrongType: 'numbers' }],
    ['an answer that is no JSON', { status: 200, applied: true, body: 'text' }],
    ['an answer that says it is a page', { contentType: 'text/html; charset=utf-8' }],
    ['500 without applying', { status: 500 }],
    ['500 after applying', { status: 500, applied: true }],
    ['502', { status: 502 }],
    ['408', { status: 408, applied: true }],
    ['503 without Retry-After', { status: 503 }],
    ['an endless answer', { oversize: 3 << 20 }],
  ])('once %s: the repeat or the read-back settles it', async (_, fault) => {
    const made = await subject(name)
    await made.control.fault(fault, { match: made.match, times: 1 })
    const reply = await put(made.path, made.body)
    expect(reply.status).toBe(200)
    await expectHonest(reply, made)
  })

  test.each<[string, object]>([
    ['a reset before applying', { reset: 'before' }],
    ['a reset after applying', { reset: 'after' }],
    ['500', { status: 500 }],
    ['an answer of another type', { wrongType: true }],
  ])('always %s: never a plain failure, never more than three attempts', async (_, fault) => {
    const made = await subject(name)
    await made.control.fault(fault, { match: made.match, times: 3 })
    const reply = await put(made.path, made.body)
    if (reply.status !== 200) {
      expect(problem(reply)).toEqual([504, '/problems/outcome-unknown', 'unknown'])
      expect(reply.headers.get('retry-after')).toBe('1')
      expect(reply.body.instance).toBe(`/changes/${reply.body.changeId}`)
    }
    await expectHonest(reply, made)
  })

  test.each<[string, object, number, string]>([
    ['401', { status: 401, code: 'UNAUTHORIZED' }, 502, 'upstream-unauthorized'],
    ['403', { status: 403 }, 502, 'upstream-unauthorized'],
    ['404', { status: 404 }, 404, 'not-found'],
    ['409', { status: 409 }, 409, 'upstream-conflict'],
    ['415', { status: 415 }, 502, 'upstream-failed'],
    ['422', { status: 422 }, 422, 'upstream-validation-failed'],
    ['423', { status: 423 }, 423, 'upstream-locked'],
    ['501', { status: 501 }, 502, 'upstream-failed'],
    [
      'a redirect',
      { redirect: { status: 307, location: 'http://127.0.0.1:65529/' } },
      502,
      'upstream-failed',
    ],
    ['an empty 404', { status: 404, body: 'empty' }, 404, 'not-found'],
    ['a 422 that is no JSON', { status: 422, body: 'text' }, 422, 'upstream-validation-failed'],
  ])('%s is a refusal, and not sent again', async (_, fault, status, slug) => {
    const made = await subject(name)
    await made.control.fault(fault, { match: made.match, times: 3 })
    const reply = await put(made.path, made.body)
    expect(problem(reply)).toEqual([status, `/problems/${slug}`, 'rejected'])
    await expectHonest(reply, made)
    const { method, path } = made.match
    const sent = (await made.control.requests()).filter(
      (seen) => seen.method === method && seen.path.includes(path),
    )
    // A token that was there before is exchanged once; a key that does not change is never sent again.
    const renews = status === 502 && 'code' in fault && name.startsWith('commerce-layer')
    if (renews) expect([1, 2]).toContain(sent.length)
    else expect(sent).toHaveLength(1)
  })

  test('429 is waited for when the wait fits, and reported when it does not', async () => {
    const made = await subject(name)
    await made.control.fault({ status: 429, retryAfter: '0' }, { match: made.match, times: 2 })
    const reply = await put(made.path, made.body)
    expect(reply.status).toBe(200)
    expect(reply.body.upstream.attempts).toBe(3)
    await expectHonest(reply, made)

    const spent = await subject(name, spendable[name])
    await spent.control.fault({ status: 429, retryAfter: '7200', body: 'empty' }, { match: spent.match })
    const refused = await put(spent.path, spent.body)
    expect(problem(refused)).toEqual([503, '/problems/upstream-rate-limited', 'rejected'])
    // An hour is as far as the gateway looks ahead.
    expect(refused.headers.get('retry-after')).toBe('3600')
    await expectHonest(refused, spent)
  })

  test('an answer that drips in is waited for', async () => {
    const made = await subject(name)
    await made.control.fault({ drip: { chunkBytes: 64, everyMs: 5 } }, { match: made.match })
    const reply = await put(made.path, made.body)
    expect(reply.status).toBe(200)
    await expectHonest(reply, made)
  })
})

describe('a sign-in', () => {
  test('that is refused sends nothing', async () => {
    const key = await mintCommerceLayer('roles')
    const path = `/roles/cl-locked-out:${key}`
    const reply = await put(path, { name: 'x' })
    expect([reply.status, reply.body.type]).toEqual([502, '/problems/upstream-unauthorized'])
    const seen = (await providers().commerceLayer.requests()).filter((request) => request.path.includes(key))
    expect(seen).toEqual([])
  })
})

describe('reading', () => {
  test.each<[string, object, number, string]>([
    ['a failure', { status: 500 }, 502, 'upstream-failed'],
    ['no access', { status: 403 }, 502, 'upstream-unauthorized'],
    ['half of an answer', { truncate: true }, 502, 'upstream-failed'],
    ['an answer of another type', { wrongType: true }, 502, 'upstream-failed'],
    ['a rate limit', { status: 429, retryAfter: '600' }, 503, 'upstream-rate-limited'],
  ])('%s refuses a change before any write', async (_, fault, status, slug) => {
    for (const name of ['commerce-layer', 'apinizer']) {
      const made = await subject(name, spendable[name])
      await made.control.fault(fault, { match: { ...made.match, method: 'GET' }, times: 3 })
      const reply = await put(made.path, made.body)
      expect([reply.status, reply.body.type]).toEqual([status, `/problems/${slug}`])
      expect(await made.applied()).toBe(false)
      expect(await eventsOf(made.id)).toEqual([])
    }
  })

  test('is repeated after a passing failure', async () => {
    const made = await subject('apinizer')
    await made.control.fault({ reset: 'before' }, { match: { ...made.match, method: 'GET' }, times: 2 })
    expect((await get(made.path)).status).toBe(200)
  })
})

describe('a provider that is silent', () => {
  test.each(['commerce-layer', 'discue'])('%s: the deadline ends in what is known', async (name) => {
    const made = await subject(name, name === 'discue' ? 'discue-short' : 'cl-short')
    await made.control.fault({ delayBeforeMs: 5000 }, { match: made.match, times: 3 })
    const reply = await put(made.path, made.body)
    expect(problem(reply)).toEqual([504, '/problems/outcome-unknown', 'unknown'])
  })

  test('a late application after the old values were read is found by the next attempt', async () => {
    const made = await subject('commerce-layer', 'cl-short')
    await made.control.fault({ delayAfterMs: 5000 }, { match: made.match })
    const reply = await put(made.path, made.body)
    expect(reply.status).toBe(200)
    await expectHonest(reply, made)
  })
})

describe('apinizer deployments', () => {
  const degraded = [
    ['without a result', { environments: [], missing: true }, []],
    ['that failed at the top', { environments: [], level: 'top' }, []],
    ['that failed in an environment', { environments: ['staging'], level: 'environment' }, ['staging']],
    ['that failed on a pod', { environments: ['production'], level: 'pod' }, ['production']],
  ] as const

  test.each(degraded)('%s: repeated once, then partial', async (_, partialDeployment, failed) => {
    const made = await subject('apinizer')
    await made.control.fault({ partialDeployment }, { match: made.match, times: 2 })
    const reply = await put(made.path, made.body)
    expect(problem(reply)).toEqual([502, '/problems/partially-applied', 'partial'])
    const environments: Json[] = reply.body.deployment?.environments ?? []
    expect(environments.filter(({ success }) => !success).map(({ name }) => name)).toEqual(failed)
    await expectHonest(reply, made)
    expect(await made.applied()).toBe(true)
    const [, , outcome] = await eventsOf(made.id)
    expect(outcome.upstream.attempts).toBe(2)
  })

  test.each(degraded)('%s: the repeat is the repair', async (_, partialDeployment) => {
    const made = await subject('apinizer')
    await made.control.fault({ partialDeployment }, { match: made.match, times: 1 })
    const reply = await put(made.path, made.body)
    expect(reply.status).toBe(200)
    expect(reply.body.upstream.attempts).toBe(2)
    await expectHonest(reply, made)
  })

  test('that fails after a partial one stays partial', async () => {
    const made = await subject('apinizer')
    await made.control.fault(
      { partialDeployment: { environments: ['staging'], level: 'environment' } },
      { match: made.match },
    )
    await made.control.fault({ status: 403 }, { match: made.match })
    const reply = await put(made.path, made.body)
    expect(problem(reply)).toEqual([502, '/problems/partially-applied', 'partial'])
    expect(await made.applied()).toBe(true)
  })

  test.each([
    ['The credential svc was not found.', 404, 'not-found'],
    ['User does not have required permission.', 502, 'upstream-unauthorized'],
    ['Username is already used in another project.', 409, 'upstream-conflict'],
    ['ipList is not valid.', 422, 'upstream-validation-failed'],
  ])('a FAILURE with status 200 is no success: %s', async (resultMessage, status, slug) => {
    const made = await subject('apinizer')
    await made.control.fault({ failure: { resultMessage, status: 200 } }, { match: made.match })
    const reply = await put(made.path, made.body)
    expect(problem(reply)).toEqual([status, `/problems/${slug}`, 'rejected'])
    expect(JSON.stringify(reply.body)).not.toContain(resultMessage)
  })
})

describe('the gateway’s own account', () => {
  test('without the permission at Commerce Layer is 502, not the caller’s fault', async () => {
    const key = await mintCommerceLayer('roles')
    const reply = await put(`/roles/cl-reader:${key}`, { name: 'Nope' })
    expect(problem(reply)).toEqual([502, '/problems/upstream-unauthorized', 'rejected'])
  })

  test('with a key that lacks the scope at Discue is 502, and the key is not tried again', async () => {
    const key = await mintDiscue()
    const reply = await put(`/credentials/discue-limited:${key}`, { name: `a.${key}` })
    expect(problem(reply)).toEqual([502, '/problems/upstream-unauthorized', 'rejected'])
    const tries = (await providers().discue.requests()).filter(({ path }) => path.includes(key))
    expect(tries).toHaveLength(1)
  })

  test('signs in at Apinizer’s token endpoint too', async () => {
    const { id, project } = await mintApinizer()
    const reply = await put(`/credentials/${id.replace('apinizer:', 'apinizer-login:')}`, {
      secret: 'by-login',
    })
    expect(reply.status).toBe(200)
    const login = { project, username: `user-${project}`, password: 'by-login' }
    expect(await providers().apinizer.send('POST', '/login', login)).toEqual({ success: true })
  })
})

describe('values that the provider refuses', () => {
  let key = ''
  beforeAll(async () => {
    key = await mintCommerceLayer('api_credentials')
  })

  test('are named by the caller’s own field names', async () => {
    const reply = await put(`/credentials/commerce-layer:${key}`, { roles: [freshId()] })
    expect(problem(reply)).toEqual([422, '/problems/upstream-validation-failed', 'rejected'])
    expect(reply.body.errors).toMatchObject([{ pointer: '#/roles' }])
  })

  test('at Discue speak of the name', async () => {
    const name = `example.com/${freshId()}`
    await mintDiscue(name)
    const reply = await put(`/credentials/discue:${await mintDiscue()}`, { name })
    expect(problem(reply)).toEqual([422, '/problems/upstream-validation-failed', 'rejected'])
    expect(reply.body.errors).toMatchObject([{ pointer: '#/name' }])
  })

  test('at Apinizer are told from an absent credential', async () => {
    const { id } = await mintApinizer()
    const unknownRole = await put(`/credentials/${id}`, { secret: 's', roles: [freshId()] })
    expect(problem(unknownRole)).toEqual([422, '/problems/upstream-validation-failed', 'rejected'])
    const absent = await put(`${`/credentials/${id}`}x`, { secret: 's' })
    expect([absent.status, absent.body.type]).toEqual([404, '/problems/not-found'])
  })
})

import { gatewayFetch, useGateway } from '#gateway'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { openLog } from '../../src/lib/log.ts'
import { keys } from '../harness/configuration.ts'
import {
  type DocumentedOperation,
  type DocumentedRequest,
  isPublic,
  operationsIn,
  requestsOf,
  type Target,
} from '../harness/documented-requests.ts'
import {
  type Answer,
  call,
  freshId,
  get,
  mintApinizer,
  mintCommerceLayer,
  mintDiscue,
  providers,
  put,
} from '../harness/gateway-calls.ts'
import type { Json } from '../harness/sandbox-calls.ts'
import { type Forge, openForge, unknownArrivals } from '../harness/unknown-arrivals.ts'

// Every operation that is not public × every bad way of coming in. The operations are those of /openapi.json.

useGateway()

type Headers = Record<string, string>

let document: Json
let requests: DocumentedRequest[]
let forge: Forge

/** Traces of what must not get through, and of what must. */
const [barred, admitted] = [freshTraces(), freshTraces()]

function freshTraces() {
  const prefix = Array.from({ length: 16 }, () => Math.floor(Math.random() * 16).toString(16)).join('')
  let count = 0
  return {
    next: () => `00-${prefix}${(count += 1).toString(16).padStart(16, '0')}-${'b2'.repeat(8)}-01`,
    count: () => count,
    /** The requests that any provider got in these traces. */
    async upstream(): Promise<{ path: string; trace: string }[]> {
      const logs = await Promise.all(Object.values(providers()).map((provider) => provider.requests()))
      return logs
        .flat()
        .map(({ path, headers }) => ({ path, trace: headers.traceparent ?? '' }))
        .filter(({ trace }) => trace.startsWith(`00-${prefix}`))
    },
  }
}

async function mint(connection: string, kind: string): Promise<string> {
  if (connection === 'apinizer') return (await mintApinizer()).id
  if (connection === 'discue') return `discue:${await mintDiscue()}`
  const types = { credential: 'api_credentials', role: 'roles', permission: 'permissions' } as const
  return `${connection}:${await mintCommerceLayer(types[kind as keyof typeof types])}`
}

/** A change whose end nobody knows. */
async function openChange(): Promise<Target> {
  const key = await mintDiscue()
  await providers().discue.fault({ reset: 'before' }, { match: { method: 'PUT', path: key }, times: 2 })
  const { body } = await put(`/credentials/discue:${key}`, { name: `a.${key}` })
  expect(body.outcome).toBe('unknown')
  const id: string = body.changeId
  const absent = id.replace(/.{12}$/, '0123456789ab')
  return { of: 'change', id, connection: 'discue', kind: 'credential', absent }
}

/** A resource at the provider of the example, or a change. */
async function resolve(example: string, kind: string | undefined): Promise<Target> {
  if (kind === undefined) return openChange()
  const [connection = '', ...parts] = example.split(':')
  const absent = [connection, ...parts.map(freshId)].join(':')
  return { of: 'resource', id: await mint(connection, kind), connection, kind, absent }
}

beforeAll(async () => {
  document = await (await gatewayFetch('/openapi.json')).json()
  requests = await requestsOf(document, resolve)
  forge = await openForge()
  // Every object on Workers is awake from here on: one that wakes up opens the log anew.
  expect((await get('/audit')).status).toBe(200)
})

interface Arrived {
  requestId: string
  answer: Answer
}

/** One cell: the request as it is, but for how it comes in. */
async function arrive(
  { method, path, body }: Pick<DocumentedRequest, 'method' | 'path' | 'body'>,
  headers: Headers,
  traces = barred,
): Promise<Arrived> {
  const traceparent = traces.next()
  const requestId = traceparent.slice(3, 35)
  const sent = { ...headers, traceparent, 'x-request-id': requestId }
  return { requestId, answer: await call(method, path, body, { key: null, headers: sent }) }
}

/** What an answer says of the caller; that to HEAD has no body. */
const told = (method: string, { status, headers, body }: Answer): unknown[] => [
  status,
  method === 'HEAD' && body === '' ? headers.get('content-type') : body.type,
  headers.get('www-authenticate'),
]
const refusal = (
  method: string,
  status: number,
  slug: string,
  challenge: string | null = null,
): unknown[] => [status, method === 'HEAD' ? 'application/problem+json' : `/problems/${slug}`, challenge]

/** Sends all of the requests in one way, and compares every answer with what it should be. */
async function expectRefused(
  cells: readonly DocumentedRequest[],
  headers: Headers,
  status: number,
  slug: string,
  challenge: string | null = null,
): Promise<Arrived[]> {
  expect(cells.length).toBeGreaterThan(0)
  const arrived = await Promise.all(cells.map((request) => arrive(request, headers)))
  const named = (of: (request: DocumentedRequest, index: number) => unknown[]) =>
    Object.fromEntries(cells.map((request, index) => [request.name, of(request, index)]))
  expect(named(({ method }, index) => told(method, (arrived[index] as Arrived).answer))).toEqual(
    named(({ method }) => refusal(method, status, slug, challenge)),
  )
  return arrived
}

/** What the log says of callers that nobody knows, while something is done. */
async function unknownIn<T>(work: () => Promise<T>): Promise<{ done: T; counted: Json[] }> {
  const lines: Json[] = []
  openLog('warn', (line) => void lines.push(JSON.parse(line)))
  const done = await work()
  return { done, counted: lines.filter(({ message }) => message === 'unauthenticated') }
}

const CHALLENGE = 'Bearer realm="credential-gateway"'
const BAD_BEARER = `${CHALLENGE}, error="invalid_token"`

/** The refusals of known callers that have to be in the audit, by connection, caller and problem. */
const owed = new Map<string, { count: number; again: () => Promise<Arrived> }>()

/** Known callers are audited: under the connection of what they asked for, else under the gateway itself. */
async function expectDenied(
  cells: readonly DocumentedRequest[],
  caller: string,
  headers: Headers,
  refused: { status: number; slug: string; challenge?: string; early?: true },
): Promise<Arrived[]> {
  const { status, slug, challenge, early } = refused
  for (const request of cells) {
    const connection = (early ? undefined : request.target?.connection) ?? '_gateway'
    const name = [connection, caller, slug].join(' ')
    const again = () => arrive(request, headers)
    owed.set(name, { count: (owed.get(name)?.count ?? 0) + 1, again })
  }
  const { done, counted } = await unknownIn(() => expectRefused(cells, headers, status, slug, challenge))
  expect(counted).toEqual([])
  return done
}

const withTarget = (of?: Target['of']): DocumentedRequest[] =>
  requests.filter(({ target }) => target && (of === undefined || target.of === of))

const keyed = (key: string): Headers => ({ 'x-api-key': key })

test('the document says which operations need a caller, and those are all but the public ones', () => {
  const operations = operationsIn(document)
  const needing = operations.filter(({ operation }) => !operation.security)
  expect(needing).toEqual(operations.filter((operation) => !isPublic(operation)))
  const used = new Set(requests.map(({ name }) => name.split(' ').slice(0, 2).join(' ')))
  expect([...used]).toEqual(needing.map(({ method, template }) => `${method} ${template}`))
})

describe('a caller that nobody knows', () => {
  let before: number | undefined

  test.each(unknownArrivals)('with %s is refused everywhere, and counted', async (_, make) => {
    const headers = await make(forge)
    const places = ['authorization', 'x-api-key', 'cf-access-jwt-assertion'].filter((name) => name in headers)
    const isBearer = /^Bearer \S/.test(headers['authorization'] ?? '') || places[0]?.startsWith('cf-')
    const { done, counted } = await unknownIn(() =>
      places.length > 1
        ? expectRefused(requests, headers, 400, 'invalid-header')
        : expectRefused(requests, headers, 401, 'unauthenticated', isBearer ? BAD_BEARER : CHALLENGE),
    )
    expect(counted.map(({ requestId }) => requestId).toSorted()).toEqual(
      done.map(({ requestId }) => requestId).toSorted(),
    )
    // The gateway's own count goes on by one each.
    const first: number = before ?? counted[0].unknown
    expect(counted.map(({ unknown }) => unknown)).toEqual(counted.map((__, index) => first + index))
    before = first + counted.length
  })
})

describe('a caller that is known', () => {
  test('by a key that has expired is refused everywhere', async () => {
    const expired = { status: 401, slug: 'unauthenticated', early: true } as const
    await expectDenied(requests, 'expired', keyed(keys.expired), { ...expired, challenge: CHALLENGE })
    const bearer = { authorization: `Bearer ${keys.expired}` }
    await expectDenied(requests, 'expired', bearer, { ...expired, challenge: BAD_BEARER })
  })

  test.each<[string, string[]]>([
    ['viewer', ['read']],
    ['blind', ['write', 'plan']],
    ['planner', ['plan']],
    ['examiner', ['audit']],
    ['resolver', ['resolve']],
    ['gate', ['read', 'write', 'plan']],
  ])('as %s is forbidden what it has no right to', async (caller, rights) => {
    const cells = requests.filter(({ needs }) => needs !== undefined && !rights.includes(needs))
    const headers =
      caller === 'gate'
        ? { authorization: `Bearer ${await forge.sign()}` }
        : keyed(keys[caller as keyof typeof keys])
    await expectDenied(cells, caller, headers, { status: 403, slug: 'forbidden' })
  })

  /** All of an answer but what tells one request from another. */
  const essence = ({ status, headers, body }: Answer): unknown => {
    const { instance: _i, requestId: _r, ...same } = typeof body === 'string' ? {} : body
    const own = ['x-request-id', 'traceparent', 'date', 'content-length']
    return [status, same, [...headers].filter(([name]) => !own.includes(name))]
  }

  /** What is hidden, and what is not there, look alike to everybody: request by request. */
  const expectAlike = (answers: Arrived[][]): void => {
    const [hidden, ...others] = answers.map((arrived) => arrived.map(({ answer }) => essence(answer)))
    for (const other of others) expect(other).toEqual(hidden)
  }
  const absent = { status: 404, slug: 'not-found' }
  const admin = keyed(keys.admin)
  const atAbsent = (request: DocumentedRequest) => ({ ...request, path: request.absent as string })
  /** The same at a connection that there is not. */
  const atNowhere = (request: DocumentedRequest): DocumentedRequest => {
    const target = request.target as Target
    const path = request.path.replace(
      encodeURIComponent(target.id),
      encodeURIComponent(`no-connection:${freshId()}`),
    )
    return { ...request, path, target: { ...target, connection: '_gateway' } }
  }

  test.each<[string, (request: DocumentedRequest) => 'narrow' | 'reader' | 'clerk']>([
    ['another’s id', () => 'narrow'],
    ['another’s kind', ({ target }) => (target?.kind === 'credential' ? 'clerk' : 'reader')],
  ])('finds nothing at %s, as if nothing were there', async (_, by) => {
    for (const [caller, cells] of Map.groupBy(withTarget('resource'), by)) {
      const denied = (own: DocumentedRequest[]) => expectDenied(own, caller, keyed(keys[caller]), absent)
      const nowhere = cells.map(atNowhere)
      expectAlike([
        await denied(cells),
        await denied(cells.map(atAbsent)),
        await denied(nowhere),
        await expectRefused(nowhere, admin, 404, 'not-found'),
      ])
    }
  })

  test('finds nothing at another’s change, as if nothing were there', async () => {
    const cells = withTarget('change')
    const missing = cells.map(atAbsent)
    // The connection is none of the caller's, so it is not asked whether it has the change.
    const unheard = (request: DocumentedRequest) => ({
      ...request,
      target: { ...(request.target as Target), connection: '_gateway' },
    })
    expectAlike([
      await expectDenied(cells, 'clerk', keyed(keys.clerk), absent),
      await expectDenied(cells.map(unheard), 'narrow', keyed(keys.narrow), absent),
      await expectDenied(missing.map(unheard), 'narrow', keyed(keys.narrow), absent),
      // Nobody who hears of everything is denied what there never was: it is no refusal of the caller.
      await expectRefused(missing, keyed(keys.clerk), 404, 'not-found'),
      await expectRefused(missing, admin, 404, 'not-found'),
    ])
  })

  test('is forbidden another’s field, and told only of those that there are', async () => {
    const cells = withTarget('resource').filter(({ body }) => body !== undefined)
    const headers = keyed(keys.labeller)
    const [name, value] = ['correct-horse', 'battery-staple']
    const spoilt = cells.map((cell) => ({ ...cell, body: { ...(cell.body as object), [name]: value } }))
    const answers = await expectDenied(spoilt, 'labeller', headers, { status: 403, slug: 'forbidden' })
    for (const [index, { answer }] of answers.entries()) {
      const body = cells[index]?.body as object
      const { detail } = answer.body
      expect(detail).toMatch(
        new RegExp(`may not (write|plan) ${Object.keys(body).join(', ')}, a field that is not known of`),
      )
      for (const text of [name, value, ...Object.values(body).filter((one) => typeof one === 'string')])
        expect(JSON.stringify(answer.body)).not.toContain(text)
    }
  })

  test('whose limit is spent is refused everywhere', async () => {
    for (let n = 0; n < 3; n++) expect((await get('/providers', { key: keys.limited })).status).toBe(200)
    const spent = { status: 429, slug: 'rate-limited', early: true } as const
    const answers = await expectDenied(requests, 'limited', keyed(keys.limited), spent)
    for (const { answer } of answers) {
      expect(answer.headers.get('ratelimit')).toMatch(/^"caller";r=0;t=\d+$/)
      expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(3000)
    }
  })
})

describe('what is open to everybody', () => {
  const open = (): (DocumentedOperation & { path: string })[] =>
    operationsIn(document)
      .filter(isPublic)
      .map((one) => {
        const slugs: string[] = one.operation.parameters?.[0].schema.enum ?? []
        return { ...one, path: one.template.replace('{slug}', slugs[0] ?? '') }
      })

  test('takes any credential for none', async () => {
    const chosen = unknownArrivals.filter(([name]) =>
      ['a key that was revoked', 'two keys at once', 'a token that has expired'].includes(name),
    )
    expect(chosen).toHaveLength(3)
    const ways = [...(await Promise.all(chosen.map(([, make]) => make(forge)))), keyed(keys.expired)]
    const { counted } = await unknownIn(async () => {
      for (const { method, path } of open()) {
        const { answer: plain } = await arrive({ method, path }, {})
        expect([path, plain.status, plain.body === '']).toEqual([path, 200, method === 'HEAD'])
        for (const headers of ways) {
          const { answer } = await arrive({ method, path }, headers)
          expect([path, answer.status, answer.body]).toEqual([path, plain.status, plain.body])
        }
      }
    })
    expect(counted).toEqual([])
  })

  test('is the question which methods there are, and the answer tells nothing else', async () => {
    const operations = operationsIn(document)
    const allowed = (template: string) =>
      operations.filter((one) => one.template === template).map(({ method }) => method)
    const targets = [
      ...open().map(({ template, path }) => ({ template, paths: [path] })),
      ...requests.map(({ name, path, absent = path }) => ({
        template: name.split(' ')[1] as string,
        paths: [path, absent],
      })),
    ]
    const preflight = {
      origin: 'https://elsewhere.example',
      'access-control-request-method': 'PUT',
      'access-control-request-headers': 'x-api-key',
    }
    for (const { template, paths } of targets) {
      const answers: Answer[] = []
      for (const path of paths) {
        for (const headers of [{}, keyed(keys.admin), keyed(keys.narrow), keyed(keys.expired)]) {
          const { answer } = await arrive({ method: 'OPTIONS', path }, { ...preflight, ...headers })
          answers.push(answer)
        }
      }
      for (const { status, headers, body } of answers) {
        expect([status, body.type]).toEqual([405, '/problems/method-not-allowed'])
        expect(headers.get('allow')?.split(', ').toSorted()).toEqual(allowed(template).toSorted())
        expect([...headers.keys()].filter((name) => name.startsWith('access-control-'))).toEqual([])
        expect(body.detail).toBe(answers[0]?.body.detail)
      }
    }
  })
})

// What follows is about all cells above.

test('of all that was refused, nothing has been heard by any provider', async () => {
  expect(barred.count()).toBeGreaterThan(requests.length * unknownArrivals.length)
  expect(await barred.upstream()).toEqual([])
})

test('the same requests of a caller that may are answered, and HEAD as GET', async () => {
  const admin = keyed(keys.admin)
  const heard: [string, string][] = []
  for (const request of requests) {
    const { requestId, answer } = await arrive(request, admin, admitted)
    // Discue lets nobody have a name that somebody has: that is its own word.
    const answered = answer.body.type === '/problems/upstream-validation-failed' ? 200 : answer.status
    expect([request.name, answered]).toEqual([request.name, 200])
    heard.push([requestId, request.name])
    if (request.method !== 'HEAD') continue
    const { answer: full } = await arrive({ ...request, method: 'GET' }, admin, admitted)
    expect([answer.body, answer.headers.get('content-type')]).toEqual(['', full.headers.get('content-type')])
    expect(answer.headers.get('etag')).toBe(full.headers.get('etag'))
  }
  // So a request that had got through would have been seen, and the one for a token too.
  const upstream = await admitted.upstream()
  expect(upstream.map(({ path }) => path)).toContain('/oauth/token')
  const traces = new Set(upstream.map(({ trace }) => trace.slice(3, 35)))
  const silent = heard.filter(([requestId]) => !traces.has(requestId)).map(([, name]) => name)
  expect(silent.filter((name) => name.startsWith('PUT') && !name.endsWith('as a plan'))).toEqual([])
})

describe('in the audit', () => {
  afterAll(() => void vi.useRealTimers())

  test('every refusal of a known caller is counted, folded by connection, caller and problem', async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    // After the minute one more of each tells how many there were, or the gateway itself has just told of those before it.
    vi.setSystemTime(Date.now() + 61_000)
    for (const { again } of owed.values()) await again()
    vi.setSystemTime(Date.now() + 61_000)
    const told = async () => {
      const { body } = await get('/audit?limit=1000')
      const refused: Json[] = body.data.filter(({ type }: Json) => type === 'refused')
      const found = Map.groupBy(refused, ({ connection, actor, refusal: { problem } }) =>
        [connection, actor.caller, problem].join(' '),
      )
      const firstAndAll = (events: Json[]): number[] => [
        events.at(-1).refusal.count,
        events.reduce((sum, event) => sum + event.refusal.count, 0),
      ]
      return Object.fromEntries([...found].map(([name, events]) => [name, firstAndAll(events)]))
    }
    const all = Object.fromEntries([...owed].map(([name, { count }]) => [name, [1, 1 + count]]))
    await expect.poll(told).toEqual(all)
  })
})

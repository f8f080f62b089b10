import { createHash, randomUUID } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Sandbox, startSandbox } from '../../sandbox/server.ts'
import { answered, newTrace, type Put, type Reply, request, send } from '../harness/clients.ts'
import { keys, sha256 } from '../harness/configuration.ts'
import { report, tally } from '../harness/figures.ts'
import { type GatewayProcess, type Home, makeHome } from '../harness/gateway-process.ts'
import {
  appliedBy,
  clearFaults,
  mintApinizer,
  mintRole,
  type Operation,
  operationNamed,
  type Providers,
  providersOf,
  type Target,
  writesTo,
} from '../harness/operations.ts'
import type { Json } from '../harness/sandbox-calls.ts'
import { until } from '../harness/waiting.ts'
import { auditIn, brokenLinks } from './comparison.ts'
import { campaignMs, scale } from './scale.ts'

/** Callers beyond the first, so that the bound of one does not hide that of a connection. */
const others = Array.from({ length: 9 }, (_, n) => {
  const text = `cgw_many${n}_${createHash('sha256').update(`many ${n}`).digest('base64url')}`
  const allow = [
    { actions: ['write'], kinds: ['credential', 'role', 'permission'], ids: ['*'], fields: ['*'] },
  ]
  return {
    text,
    caller: { name: `many-${n}`, keys: [{ id: `many${n}`, sha256: sha256(text) }], allow },
  }
})

let sandbox: Sandbox
let providers: Providers
let home: Home
let gateway: GatewayProcess
beforeAll(async () => {
  sandbox = await startSandbox({ limits: 'off' })
  providers = providersOf(sandbox.urls)
  home = makeHome(sandbox.urls, { deadlineMs: 20_000, callers: others.map(({ caller }) => caller) })
  gateway = await home.start()
})
beforeEach(() => clearFaults(providers))
afterAll(async () => {
  await home.leave()
  await sandbox.close()
})

const times = <T>(count: number, make: (n: number) => T): T[] =>
  Array.from({ length: count }, (_, n) => make(n))

const appliedTo = async ({ upstream }: Target): Promise<Json[]> =>
  (await appliedBy(providers)).filter(({ path }) => path.includes(upstream))
const writesOf = async ({ upstream }: Target): Promise<Json[]> =>
  (await writesTo(providers)).filter(({ path }) => path.includes(upstream))

describe('one writer per resource', () => {
  test(
    'the provider sees changes one at a time, in the order of their intents',
    { timeout: campaignMs },
    async () => {
      const { clients, puts } = scale.races.line
      const role = await mintRole(providers)
      const left = times(puts, (n) => n).values()
      let busy = 0
      await Promise.all(
        times(clients, async () => {
          for (const n of left) {
            const put: Put = { trace: newTrace(), path: role.path, body: { name: `Role ${n}` } }
            await until(
              'the change was taken',
              async () => {
                const reply = await send(gateway.url, put)
                if (reply?.status === 200) return true
                expect([reply?.status, reply?.body.type]).toEqual([409, '/problems/credential-busy'])
                expect(reply?.headers.get('retry-after')).toBe('1')
                busy += 1
                return false
              },
              { within: campaignMs, every: 50 },
            )
          }
        }),
      )
      const applied = await appliedTo(role)
      expect(applied).toHaveLength(puts)
      expect(applied.filter(({ overlapped }) => overlapped)).toEqual([])
      const resource = role.path.replace('/roles/', '')
      const events = auditIn(home.database).filter((event) => event.resource === resource)
      const intents = events
        .filter(({ type }) => type === 'intent')
        .map(({ upstream }) => (upstream as Json).traceparent)
      expect(applied.map(({ traceparent }) => traceparent)).toEqual(intents)
      // Each intent is followed by its own outcome before the next one begins.
      expect(events.map(({ type }) => type)).toEqual(
        times(puts * 2, (n) => (n % 2 === 0 ? 'intent' : 'outcome')),
      )
      report('races, one line', { clients, puts, 'refused as busy': busy, overlapped: 0 })
    },
  )

  test('a counter with If-Match loses no update', { timeout: campaignMs }, async () => {
    const { clients, increments } = scale.races.counter
    const role = await mintRole(providers, { metadata: { counter: 0, kept: 'yes' } })
    const url = gateway.url + role.path
    const statuses: number[] = []
    await Promise.all(
      times(clients, async () => {
        for (let n = 0; n < increments; n++) {
          await until(
            'the counter was raised',
            async () => {
              const seen = await answered('GET', url)
              const metadata = { counter: seen.body.metadata.counter + 1 }
              const headers = { 'if-match': seen.headers.get('etag') ?? '' }
              const reply = await answered('PUT', url, { metadata }, { headers })
              statuses.push(reply.status)
              return reply.status === 200
            },
            { within: campaignMs, every: 50 },
          )
        }
      }),
    )
    const counts = tally(statuses)
    expect(Object.keys(counts).filter((status) => !['200', '409', '412'].includes(status))).toEqual([])
    expect(counts[200]).toBe(clients * increments)
    const { attributes } = await providers.commerceLayer.state('roles', role.id)
    expect(attributes.metadata).toEqual({ counter: clients * increments, kept: 'yes' })
    report('races, counter', { clients, increments: clients * increments, replies: counts })
  })
})

describe('one Idempotency-Key', () => {
  /** What two replies to the same request must have in common. */
  const essence = ({ status, body }: Reply) => ({ status, body })

  test.each(scale.races.keyed)(
    '%s: one effect, however often and whenever it is sent',
    { timeout: campaignMs },
    async (name) => {
      const operation = operationNamed(name, providers)
      const target = await operation.mint()
      await operation.control.fault(
        { delayBeforeMs: 300 },
        { match: { method: operation.method, path: target.upstream } },
      )
      const idempotencyKey = randomUUID()
      const again = () =>
        answered('PUT', gateway.url + target.path, operation.body(1), {
          headers: { 'idempotency-key': idempotencyKey },
        })

      const { atOnce, later, afterRestart } = scale.races
      const [made = [], refused = []] = partition(
        await Promise.all(times(atOnce, again)),
        ({ status }) => status === 200,
      )
      expect(refused.map(({ status, body }) => [status, body.type])).toEqual(
        times(atOnce - 1, () => [409, '/problems/request-in-progress']),
      )
      expect(refused.every(({ headers }) => headers.get('retry-after') === '1')).toBe(true)
      const [first] = made as [Reply]
      expect(first.headers.get('idempotency-replayed')).toBeNull()

      const replays: Reply[] = []
      for (let n = 0; n < later; n++) replays.push(await again())
      await gateway.kill()
      gateway = await home.start()
      for (let n = 0; n < afterRestart; n++) replays.push(await again())

      expect(replays.map(essence)).toEqual(replays.map(() => essence(first)))
      expect(replays.every(({ headers }) => headers.get('idempotency-replayed') === 'true')).toBe(true)
      expect(await writesOf(target)).toHaveLength(1)
      expect(await appliedTo(target)).toHaveLength(1)
      report(`races, one key, ${name}`, {
        'at once': atOnce,
        later,
        'after a restart': afterRestart,
        effects: 1,
      })
    },
  )

  test('with another body is refused, also while the first is under way', async () => {
    const role = await mintRole(providers)
    await providers.commerceLayer.fault(
      { delayBeforeMs: 300 },
      { match: { method: 'PATCH', path: role.upstream } },
    )
    const headers = { 'idempotency-key': randomUUID() }
    const first = answered('PUT', gateway.url + role.path, { name: 'One' }, { headers })
    await until('the write is under way', async () => (await writesOf(role)).length === 1)
    const meanwhile = await answered('PUT', gateway.url + role.path, { name: 'Two' }, { headers })
    expect(meanwhile.status).toBe(409)
    expect((await first).status).toBe(200)
    const afterwards = await answered('PUT', gateway.url + role.path, { name: 'Two' }, { headers })
    expect([afterwards.status, afterwards.body.type]).toEqual([422, '/problems/idempotency-key-reused'])
    expect(await writesOf(role)).toHaveLength(1)
  })
})

describe('a late replay brings no old secret back', () => {
  const opens = async (project: string, password: string): Promise<boolean> =>
    (await providers.apinizer.send('POST', '/login', { project, username: `svc-${project}`, password }))
      .success
  const put = (target: Target, secret: string, idempotencyKey: string) =>
    answered('PUT', gateway.url + target.path, { secret }, { headers: { 'idempotency-key': idempotencyKey } })

  test('when the old change was applied', async () => {
    const target = await mintApinizer(providers)
    const [older, newer] = [randomUUID(), randomUUID()]
    expect((await put(target, 'old secret', older)).status).toBe(200)
    expect((await put(target, 'new secret', newer)).status).toBe(200)
    const replay = await put(target, 'old secret', older)
    expect([replay.status, replay.headers.get('idempotency-replayed')]).toEqual([200, 'true'])
    expect(await writesOf(target)).toHaveLength(2)
    expect(await opens(target.project, 'new secret')).toBe(true)
    expect(await opens(target.project, 'old secret')).toBe(false)
  })

  test.each([
    ['was applied after all', { reset: 'after' }],
    ['was never applied', { reset: 'before' }],
    ['stayed partial', { partialDeployment: { environments: ['staging'], level: 'environment' } }],
  ])('when the old change was unsettled and %s, before and after a restart', async (_, fault) => {
    const target = await mintApinizer(providers)
    const [older, newer] = [randomUUID(), randomUUID()]
    const { id } = await providers.apinizer.fault(fault, {
      match: { path: target.upstream, method: 'PATCH' },
      times: null,
    })
    const unsettled = await put(target, 'old secret', older)
    expect(['unknown', 'partial']).toContain(unsettled.body.outcome)
    await providers.apinizer.send('DELETE', `/faults/${id}`)
    expect((await put(target, 'new secret', newer)).status).toBe(200)
    const { length } = await writesOf(target)

    for (const restart of [false, true]) {
      if (restart) {
        await gateway.kill()
        gateway = await home.start()
      }
      const replay = await put(target, 'old secret', older)
      expect([replay.status, replay.body.type]).toEqual([409, '/problems/superseded'])
    }
    expect(await writesOf(target)).toHaveLength(length)
    expect(await opens(target.project, 'new secret')).toBe(true)
    expect(await opens(target.project, 'old secret')).toBe(false)
  })

  test('when both waited in the same line', async () => {
    const target = await mintApinizer(providers)
    const match = { path: target.upstream, method: 'PATCH' }
    await providers.apinizer.fault({ delayBeforeMs: 200, reset: 'after' }, { match, times: 3 })
    const [older, newer] = [randomUUID(), randomUUID()]
    const first = put(target, 'old secret', older)
    await until('the old change is under way', async () => (await writesOf(target)).length > 0)
    const second = put(target, 'new secret', newer)
    const third = first.then(() => put(target, 'old secret', older))
    expect((await first).body.outcome).toBe('unknown')
    expect((await second).status).toBe(200)
    expect((await third).body.type).toBe('/problems/superseded')
    expect(await opens(target.project, 'new secret')).toBe(true)
  })
})

describe('what may wait', () => {
  let number = 0

  /** Changes that are sent and not waited for: their replies, as they come. */
  function crowd(operation: Operation, holdMs = 1500) {
    const replies: Reply[] = []
    const pending: Promise<void>[] = []
    const add = (target: Target, count: number, key: string = keys.admin) => {
      for (let n = 0; n < count; n++) {
        const sent = request('PUT', gateway.url + target.path, operation.body((number += 1)), { key })
        pending.push(sent.then((reply) => void (reply && replies.push(reply))))
      }
    }
    return {
      replies,
      add,
      /** A resource with one change at the provider, that stays there for `holdMs`, and more behind it. */
      async line(waiting: number, key?: string): Promise<Target> {
        const target = await operation.mint()
        const match = { method: operation.method, path: target.upstream }
        await operation.control.fault({ delayBeforeMs: holdMs }, { match })
        add(target, 1, key)
        await until('the first is at the provider', async () => (await writesOf(target)).length === 1)
        add(target, waiting, key)
        return target
      },
      refused: (count: number) => until(`${count} are refused`, () => replies.length >= count),
      everyStatus: async () => {
        await Promise.all(pending)
        return tally(replies.map(({ status }) => status))
      },
    }
  }
  const verdict = ({ status, body, headers }: Reply) => [status, body.type, headers.get('retry-after')]

  test('16 on a resource, then 409', async () => {
    const { line, refused, replies, everyStatus } = crowd(operationNamed('commerce layer role', providers))
    const target = await line(16 + 4)
    await refused(4)
    expect(replies.map(verdict)).toEqual(times(4, () => [409, '/problems/credential-busy', '1']))
    expect(await everyStatus()).toEqual({ 200: 1 + 16, 409: 4 })
    expect(await appliedTo(target)).toHaveLength(1 + 16)
  })

  test('32 of a caller on a connection, then 503; another caller may still wait', async () => {
    const operation = operationNamed('discue client', providers)
    const { line, add, refused, replies, everyStatus } = crowd(operation)
    const [target] = await Promise.all([line(8 + 3), line(12), line(12)])
    await refused(3)
    expect(replies.map(verdict)).toEqual(times(3, () => [503, '/problems/upstream-unavailable', '1']))
    add(target, 1, others[0]?.text)
    // A line that is empty takes a change at once, whatever waits elsewhere.
    const free = await operation.mint()
    expect((await answered('PUT', gateway.url + free.path, operation.body((number += 1)))).status).toBe(200)
    expect(replies).toHaveLength(3)
    expect(await everyStatus()).toEqual({ 200: 3 + 32 + 1, 503: 3 })
  })

  test('256 on a connection, then 503; across connections nothing waits for anything', async () => {
    const { line, refused, replies, everyStatus } = crowd(
      operationNamed('apinizer password', providers),
      5000,
    )
    const callers = others.map(({ text }) => text)
    await Promise.all(times(17, (n) => line(n < 16 ? 16 : 3, callers[n >> 1])))
    await refused(3)
    expect(replies.map(verdict)).toEqual(times(3, () => [503, '/problems/upstream-unavailable', '1']))
    for (const name of ['commerce layer credential', 'discue client'] as const) {
      const other = operationNamed(name, providers)
      const target = await other.mint()
      const reply = await answered('PUT', gateway.url + target.path, other.body((number += 1)))
      expect(reply.status).toBe(200)
    }
    expect(replies).toHaveLength(3)
    expect(await everyStatus()).toEqual({ 200: 17 + 256, 503: 3 })
  })
})

test('all of it left chains that hold', () => {
  expect(brokenLinks(auditIn(home.database))).toEqual([])
})

function partition<T>(values: readonly T[], test: (value: T) => boolean): [T[], T[]] {
  return [values.filter(test), values.filter((value) => !test(value))]
}

import { randomBytes } from 'node:crypto'
import { type Cursor, runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { drizzle } from 'drizzle-orm/durable-sqlite'
import { v7 as uuidv7 } from 'uuid'
import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { openLedger } from '../../src/ledger/ledger.ts'
import * as schema from '../../src/ledger/schema.ts'
import type { Kind } from '../../src/model/enums.ts'
import worker, { Connection } from '../../src/worker.ts'
import type { Env } from '../../src/worker/environment.ts'
import { keys } from '../harness/configuration.ts'
import { freshId, mintApinizer, mintCommerceLayer, mintDiscue, providers } from '../harness/gateway-calls.ts'

afterEach(() => vi.restoreAllMocks())

/** What Cloudflare bills, but for time and bytes, and what a provider counts. */
interface Cost {
  /** Rows that SQL wrote: every index that a row stands in counts as one more. */
  written: number
  read: number
  /** Alarms set: each is billed as one row written, and as one request when it goes off. */
  alarms: number
  /** Requests of the Worker to the object. */
  calls: number
  /** Methods of the requests to the provider, in order. */
  provider: string
  /** Token requests. */
  signIns: number
  /** Timers left running: an object is billed for its time in memory until the last of them has ended. */
  timers: number
}

const nothing: Cost = { written: 0, read: 0, alarms: 0, calls: 0, provider: '', signIns: 0, timers: 0 }
const asked: Cost = { ...nothing, calls: 1 }
/**
 * Two events (a row and four indexes, and one more for the outcome), the change (a row and three indexes; at its end a row and one
 * index), and what is applied now (a row).
 */
const change: Cost = { ...asked, written: 18, read: 23, alarms: 1 }
/** Where the provider can be read, older changes are looked for that the read might prove. */
const readable: Cost = { ...change, read: 27 }
/** A secret counts for the ETag with the intent already, in the row of what is applied now. */
const secretive: Cost = { ...readable, written: 19, read: 30 }

const costs = {
  'Commerce Layer: a credential': { ...readable, provider: 'GET PATCH' },
  'Commerce Layer: a role': { ...readable, provider: 'GET PATCH' },
  'Commerce Layer: a permission': { ...readable, provider: 'GET PATCH' },
  'Commerce Layer: the role of a credential': { ...readable, provider: 'GET PATCH GET' },
  'Discue: a client': { ...change, provider: 'PUT' },
  'Apinizer: everything': { ...secretive, provider: 'GET PUT GET' },
  'Apinizer: the password alone': { ...secretive, provider: 'GET PATCH' },
  'a resource that was never changed': { ...change, written: 19, read: 20, provider: 'PUT' },
  'two changes, one after the other': {
    ...change,
    written: 36,
    read: 46,
    calls: 2,
    provider: 'PUT PUT',
  },
  'with a key': { ...change, written: 25, read: 27, provider: 'PUT' },
  'with a key, while another one has expired': { ...change, written: 26, read: 30, provider: 'PUT' },
  // The alarm is set before the object knows that there is nothing to do.
  'with a key that came before': { ...asked, read: 2, alarms: 1 },
  'nothing to change': { ...change, written: 11, read: 15, provider: 'GET' },
  'a dry run': { ...asked, provider: 'GET' },
  'a GET where the provider can be read': { ...asked, read: 1, provider: 'GET' },
  'a GET where it cannot': { ...asked, read: 1 },
  'an alarm with nothing left to do': { ...nothing, read: 5 },
  'an object that is made anew': { ...nothing, read: 71 },
  'a refused attempt': { ...asked, written: 8, read: 7, alarms: 1 },
  'a refused attempt in the same minute': { ...asked, written: 1, read: 2 },
} satisfies Record<string, Cost>

const name = () => ({ name: `example.com/${freshId()}` })
const secret = () => ({ secret: `secret-${freshId()}` })
const withKey = (key = `${freshId()}${freshId()}`) => ({ 'idempotency-key': key })

/** Resources that have been changed before, one of each kind. */
const known = { credential: '', role: '', permission: '', client: '', user: '' }
beforeAll(async () => {
  known.credential = `/credentials/commerce-layer:${await mintCommerceLayer('api_credentials')}`
  known.role = `/roles/commerce-layer:${await mintCommerceLayer('roles')}`
  known.permission = `/permissions/commerce-layer:${await mintCommerceLayer('permissions')}`
  known.client = `/credentials/discue:${await mintDiscue()}`
  known.user = `/credentials/${(await mintApinizer()).id}`
})

type Connected = 'commerce-layer' | 'discue' | 'apinizer'
type Act = (traceparent: string) => Promise<unknown>

/** What is done, and on the object of which connection it is counted. */
const acts: Record<keyof typeof costs, [Connected, () => Act | Promise<Act>]> = {
  'Commerce Layer: a credential': ['commerce-layer', () => put(known.credential, name())],
  'Commerce Layer: a role': ['commerce-layer', () => put(known.role, name())],
  'Commerce Layer: a permission': ['commerce-layer', () => put(known.permission, { reference: freshId() })],
  'Commerce Layer: the role of a credential': [
    'commerce-layer',
    async () => {
      // From one to the other and back, so that there is always something to change.
      await put(known.credential, { roles: ['rEaDoNlYrO'] })(traceparent())
      return put(known.credential, { roles: ['ABCRtyUpBa'] })
    },
  ],
  'Discue: a client': ['discue', () => put(known.client, name())],
  'Apinizer: everything': ['apinizer', () => put(known.user, { ...name(), ...secret() })],
  'Apinizer: the password alone': ['apinizer', () => put(known.user, secret())],
  'a resource that was never changed': [
    'discue',
    async () => put(`/credentials/discue:${await mintDiscue()}`, name()),
  ],
  'two changes, one after the other': [
    'discue',
    () => inTurn(put(known.client, name()), put(known.client, name())),
  ],
  'with a key': ['discue', () => put(known.client, name(), withKey())],
  'with a key, while another one has expired': [
    'discue',
    async () => {
      await inObject('discue', ({ sql }) =>
        sql.exec('UPDATE idempotency SET expires_at = 1 WHERE rowid = (SELECT min(rowid) FROM idempotency)'),
      )
      return put(known.client, name(), withKey())
    },
  ],
  'with a key that came before': [
    'discue',
    async () => {
      const again = put(known.client, name(), withKey())
      await again(traceparent())
      return again
    },
  ],
  'nothing to change': [
    'commerce-layer',
    async () => {
      const again = put(known.role, name())
      await again(traceparent())
      return again
    },
  ],
  'a dry run': ['commerce-layer', () => put(`${known.role}?dryRun=true`, name())],
  'a GET where the provider can be read': ['commerce-layer', () => request('GET', known.role)],
  'a GET where it cannot': ['discue', () => request('GET', known.client)],
  'an alarm with nothing left to do': [
    'discue',
    () => () => runInDurableObject(stubOf('discue'), (object) => (object as Connection).alarm()),
  ],
  'an object that is made anew': [
    'discue',
    () => () =>
      runInDurableObject(stubOf('discue'), (_, state) => new Connection(state, env).events({ limit: 0 })),
  ],
  'a refused attempt': ['discue', () => refused()],
  'a refused attempt in the same minute': ['discue', () => refused()],
}

const stubOf = (connection: string): unknown => env.CONNECTIONS.getByName(connection)
const inObject = <T>(connection: string, task: (storage: ObjectStorage) => T): Promise<T> =>
  runInDurableObject(stubOf(connection), (_, { storage }) => task(storage))
type ObjectStorage = Parameters<Parameters<typeof runInDurableObject>[1]>[1]['storage']

let counted = { alarms: 0, calls: 0 }
/** The environment, with the Worker's requests to its objects counted. */
const counting: Env = {
  ...env,
  CONNECTIONS: {
    getByName: (connection) =>
      new Proxy(stubOf(connection) as Record<string, (request: unknown) => unknown>, {
        get: (stub, method: string) => (request: unknown) => {
          counted.calls += 1
          return stub[method]?.(request)
        },
      }),
  },
}

const traceparent = (trace = randomBytes(16).toString('hex')) =>
  `00-${trace}-${randomBytes(8).toString('hex')}-01`

function request(method: string, path: string, body?: object, headers = {}, status = 200): Act {
  return async (traceparent) => {
    const init = {
      method,
      headers: { 'x-api-key': keys.admin, 'content-type': 'application/json', traceparent, ...headers },
      ...(body && { body: JSON.stringify(body) }),
    }
    const response = await worker.fetch(new Request(new URL(path, 'https://gateway.example'), init), counting)
    expect(response.status, await response.text()).toBe(status)
  }
}
const put = (path: string, body: object, headers?: object) => request('PUT', path, body, headers)
const refused = (): Act => request('PUT', known.client, name(), { 'x-api-key': keys.reader }, 403)
const inTurn =
  (...several: Act[]): Act =>
  async (traceparent) => {
    for (const act of several) await act(traceparent)
  }

/** Counts the timers that are neither cleared nor done. */
function watchTimers(): () => number {
  const running = new Set<unknown>()
  const { setTimeout, clearTimeout } = globalThis
  const { timeout } = AbortSignal
  vi.spyOn(globalThis, 'setTimeout').mockImplementation(((task: () => void, ms?: number) => {
    const timer = setTimeout(() => {
      running.delete(timer)
      task()
    }, ms)
    running.add(timer)
    return timer
  }) as typeof setTimeout)
  vi.spyOn(globalThis, 'clearTimeout').mockImplementation((timer) => {
    running.delete(timer)
    clearTimeout(timer)
  })
  // Nothing clears such a timer.
  vi.spyOn(AbortSignal, 'timeout').mockImplementation((ms) => {
    const signal = timeout.call(AbortSignal, ms)
    running.add(signal)
    return signal
  })
  return () => {
    vi.restoreAllMocks()
    return running.size
  }
}

/** Does `act` and counts what it costs on the connection's object and at the provider. */
async function costOf(connection: Connected, act: Act): Promise<Cost> {
  // An alarm that is set already is not set again.
  await runDurableObjectAlarm(stubOf(connection))
  const cursors: Cursor[] = []
  const counts = { alarms: 0, calls: 0 }
  await inObject(connection, (storage) => {
    const exec = storage.sql.exec.bind(storage.sql)
    const setAlarm = storage.setAlarm.bind(storage)
    storage.sql.exec = (query, ...bindings) => {
      const cursor = exec(query, ...bindings)
      cursors.push(cursor)
      return cursor
    }
    storage.setAlarm = (at) => {
      counts.alarms += 1
      // Later than a test lasts, so that it never goes off in the middle of a count.
      return setAlarm(at + 3_600_000)
    }
  })
  const trace = randomBytes(16).toString('hex')
  counted = counts
  const timersLeft = watchTimers()
  await act(traceparent(trace))
  const timers = timersLeft()
  await inObject(connection, (storage) => {
    Reflect.deleteProperty(storage.sql, 'exec')
    Reflect.deleteProperty(storage, 'setAlarm')
  })
  const { commerceLayer, discue, apinizer } = providers()
  const log = await { 'commerce-layer': commerceLayer, discue, apinizer }[connection].requests()
  const seen = log.filter(({ headers }) => String(headers.traceparent).includes(trace))
  const requests = seen.filter(({ path }) => path !== '/oauth/token')
  return {
    written: cursors.reduce((sum, { rowsWritten }) => sum + rowsWritten, 0),
    read: cursors.reduce((sum, { rowsRead }) => sum + rowsRead, 0),
    ...counts,
    provider: requests.map(({ method }) => method).join(' '),
    signIns: seen.length - requests.length,
    timers,
  }
}

test('the first change of a connection signs in', async () => {
  expect(await costOf('commerce-layer', put(known.role, name()))).toEqual({
    ...change,
    written: 19,
    read: 17,
    provider: 'GET PATCH',
    signIns: 1,
  })
})

const rows = Object.entries(acts).map(([what, [connection, make]]) => ({
  what,
  connection,
  make,
  cost: costs[what as keyof typeof costs],
}))

describe('on a young object', () => {
  beforeAll(async () => {
    for (const path of [known.credential, known.permission])
      await put(path, { reference: 'a' })(traceparent())
    await put(known.client, name(), withKey())(traceparent())
    await put(known.user, { ...name(), ...secret() })(traceparent())
  })
  test.each(rows)('$what', async ({ connection, make, cost }) => {
    expect(await costOf(connection, await make())).toEqual(cost)
  })
})

/** A thousand changes with a key each: half of them of the resource itself, the others of one that nobody else changes. */
async function age(connection: string, path: string): Promise<void> {
  const [, route = '', resource = ''] = path.split('/')
  const kind = route.slice(0, -1) as Kind
  await runInDurableObject(stubOf(connection), async (_, { storage }) => {
    const db = drizzle(storage, { schema })
    const ledger = openLedger(db, async (write) => db.transaction(write))
    for (let made = 0; made < 1000; made++) {
      const changeId = uuidv7()
      const id = made % 2 === 0 ? resource : `${resource}-other`
      const draft = {
        changeId,
        actor: { caller: 'admin', key: 'admin', address: null },
        alias: null,
        kind,
        resource: id,
        fields: {},
        widens: false,
        reason: null,
        requestId: null,
        upstream: {},
      }
      const reserve = {
        caller: 'admin',
        subject: '',
        kind,
        resource: id,
        key: changeId,
        fingerprint: changeId,
      }
      await ledger.append({ connection, draft: { ...draft, type: 'intent', outcome: null }, reserve })
      const outcome = made % 4 < 2 ? 'applied' : 'rejected'
      await ledger.append({ connection, draft: { ...draft, type: 'outcome', outcome }, answer: {} })
    }
  })
}

describe('after 2,000 events more, all the same', () => {
  beforeAll(async () => {
    await inObject('discue', ({ sql }) => sql.exec('DELETE FROM refusals'))
    await age('commerce-layer', known.role)
    await age('discue', known.client)
    await age('apinizer', known.user)
  })
  test.each(rows)('$what', async ({ connection, make, cost }) => {
    expect(await costOf(connection, await make())).toEqual(cost)
  })
})

import { useGateway } from '#gateway'
import { describe, expect, test } from 'vitest'
import { keys } from '../harness/configuration.ts'
import {
  call,
  eventsOf,
  freshId,
  get,
  mintApinizer,
  mintCommerceLayer,
  providers,
  put,
} from '../harness/gateway-calls.ts'
import type { Json } from '../harness/sandbox-calls.ts'

// A caller that may plan or write a field and not read it learns nothing of its value, whatever it asks for.

useGateway()

/** What Apinizer holds, values to ask for that are equal, nearer and wider, and those that are told apart by whoever reads. */
const fields: Record<string, { is: unknown; asked: unknown[] }> = {
  expiresAt: {
    is: '2027-01-31T10:20:30.456Z',
    asked: [
      '2027-01-31T10:20:30.456Z',
      '2027-01-31T10:20:30.455Z',
      '2027-01-31T10:20:30.457Z',
      '2026-12-31T00:00:00.000Z',
      null,
    ],
  },
  enabled: { is: true, asked: [true, false] },
  roles: { is: ['API_USER'], asked: [['API_USER'], [], ['API_USER', 'ADMIN']] },
  allowedIps: { is: ['10.0.0.1'], asked: [['10.0.0.1'], ['10.0.0.0/8'], []] },
  name: { is: 'Somebody', asked: ['Somebody', 'Somebody else'] },
}

const seed = {
  email: 'a@b.example',
  fullName: 'Somebody',
  description: 'x',
  password: 'p',
  ipList: ['10.0.0.1'],
  roleNameList: ['API_USER'],
  enabled: true,
  expireDate: '2027-01-31T10:20:30.456Z',
}

/** Without what differs by chance, and without what was asked for. */
function impression({ status, body }: { status: number; body: Json }): Json {
  const { changeId: _, upstream, credential, ...rest } = body
  const { durationMs: _ms, ...sent } = upstream ?? {}
  const { etag: _tag, ...seen } = credential ?? {}
  const plan = rest.plan && { ...rest.plan, request: { ...rest.plan.request, body: null } }
  return { status, rest: { ...rest, ...(plan && { plan }) }, sent, seen }
}

describe.each(Object.entries(fields))('%s', (field, { is, asked }) => {
  test('is not told by plans, whatever they ask for', async () => {
    const { id } = await mintApinizer(seed)
    const plans = await Promise.all(
      asked.map((value) =>
        put(`/credentials/${id}?dryRun=true`, { [field]: value, secret: 'new' }, { key: keys.planner }),
      ),
    )
    const [first] = plans.map(impression)
    expect(first.status).toBe(200)
    expect(first.rest.plan).toMatchObject({ changed: true, request: { method: 'PUT' } })
    for (const [index, plan] of plans.entries()) {
      // Clearing is what was asked for, and named.
      const isCleared = asked[index] === null
      const { fields: changes } = plan.body.plan
      expect(changes).toEqual({
        [field]: { action: isCleared ? 'clear' : 'set', from: '[hidden]', to: '[hidden]' },
        secret: { action: 'set' },
      })
      expect({ ...impression(plan).rest.plan, fields: {} }).toEqual({ ...first.rest.plan, fields: {} })
      expect(JSON.stringify(plan.body.plan.request)).not.toContain(JSON.stringify(is))
    }
    // A refusal is the same for all of them too: a full update needs the password.
    for (const value of asked) {
      const refused = await put(`/credentials/${id}?dryRun=true`, { [field]: value }, { key: keys.planner })
      expect(refused.body.type).toBe('/problems/secret-required-by-provider')
    }
    // To whoever may read it nothing is hidden, and what is equal is no change.
    const own = await put(`/credentials/${id}?dryRun=true`, { [field]: is })
    expect(own.body.plan).toMatchObject({ changed: false, widens: false, request: null })
  })

  test('is not told by writes: what is there already is sent again, and the tag moves on', async () => {
    const { id } = await mintApinizer(seed)
    const tagOf = async () => (await get(`/credentials/${id}`)).headers.get('etag')
    const before = await tagOf()
    const same = await put(`/credentials/${id}`, { [field]: is, secret: 'new' }, { key: keys.blind })
    const tags = [before, await tagOf()]
    const [, other] = asked
    const changed = await put(`/credentials/${id}`, { [field]: other, secret: 'new' }, { key: keys.blind })
    tags.push(await tagOf())
    expect(same.status).toBe(200)
    expect(same.body.changed).toBe(true)
    expect(impression(same)).toEqual(impression(changed))
    expect(new Set(tags).size).toBe(3)

    // The audit has the truth, for those who may see it.
    const intents = (await eventsOf(id)).filter(({ type }) => type === 'intent')
    expect(intents[0]).toMatchObject({ widens: false, fields: { [field]: { from: is, to: is } } })
    const shown = await get(`/audit?type=intent&resource=${encodeURIComponent(id)}`, { key: keys.librarian })
    const isTold = field === 'name'
    for (const event of shown.body.data) {
      expect(event.fields[field].to).toBe('[hidden]')
      expect(event.widens).toBe(isTold ? false : '[hidden]')
    }
    const ends = await get(`/audit?type=outcome&resource=${encodeURIComponent(id)}`, { key: keys.librarian })
    expect(ends.body.data.map(({ widens }: Json) => widens)).toEqual(
      Array(2).fill(isTold ? false : '[hidden]'),
    )
  })
})

test('a list that cannot be used looks like any other where it is hidden', async () => {
  const { apinizer } = providers()
  const [broken, whole] = [`u${freshId()}`, `u${freshId()}`]
  for (const name of [broken, whole]) await apinizer.mint('credential', `Narrow/${name}`, seed)
  const fault = { rewrite: [{ find: '"ipList":["10.0.0.1"]', replace: '"ipList":7' }] }
  const { id } = await apinizer.fault(fault, { match: { method: 'GET', path: 'Narrow' }, times: null })
  const shown = await get(`/credentials/apinizer:Narrow:${broken}`, { key: keys.narrow })
  await apinizer.send('DELETE', `/faults/${id}`)
  const other = await get(`/credentials/apinizer:Narrow:${whole}`, { key: keys.narrow })
  expect(shown.body.allowedIps).toEqual(['[hidden]'])
  expect({ ...shown.body, id: '', etag: '' }).toEqual({ ...other.body, id: '', etag: '' })
})

test('metadata that a connection hides is not told either, member by member', async () => {
  const id = `cl-hiding:${await mintCommerceLayer('roles', { metadata: { tier: 'gold' } })}`
  const plans = await Promise.all(
    [{ tier: 'gold' }, { tier: 'silver' }, { tier: null }].map((metadata) =>
      put(`/roles/${id}?dryRun=true`, { metadata }),
    ),
  )
  const [first, ...others] = plans.map(impression)
  expect(first.rest.plan).toMatchObject({ changed: true, fields: { metadata: { action: 'set' } } })
  for (const other of others) expect(other).toEqual(first)
})

test('whoever settles a change without the right to read it does not learn its story', async () => {
  const { id, project } = await mintApinizer(seed)
  await providers().apinizer.fault({ status: 500 }, { times: 20, match: { method: 'PUT', path: project } })
  const open = await put(`/credentials/${id}`, {
    expiresAt: '2027-05-05T05:05:05.055Z',
    secret: 'new',
  })
  expect(open.status).toBe(504)
  const reply = await call(
    'POST',
    `/changes/${open.body.changeId}/resolve`,
    { outcome: 'rejected', reason: 'looked' },
    { key: keys.resolver },
  )
  expect(reply.status).toBe(200)
  expect(reply.body).toEqual({
    id: open.body.changeId,
    connection: 'apinizer',
    kind: 'credential',
    resource: id,
    actor: '[hidden]',
    state: 'rejected',
    since: expect.any(String),
  })
  expect((await get(`/changes/${open.body.changeId}`)).body.events.length).toBeGreaterThan(2)
})

test('how long a change may be does not depend on the length of what its caller may not read', async () => {
  const statusesFor = (hidden: number) =>
    Promise.all(
      [120_000, 135_000, 165_000].map(async (seen) => {
        const attributes = { reference: 'r'.repeat(hidden), metadata: { seen: 'x'.repeat(seen) } }
        const id = await mintCommerceLayer('roles', attributes)
        return (await put(`/roles/commerce-layer:${id}`, { metadata: { more: 1 } }, { key: keys.labeller }))
          .status
      }),
    )
  expect(await statusesFor(10)).toEqual([200, 422, 422])
  expect(await statusesFor(50_000)).toEqual([200, 422, 422])
})

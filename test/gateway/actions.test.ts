import { reconfigure, runtime, useGateway } from '#gateway'
import { describe, expect, inject, test } from 'vitest'
import { configuration, keys } from '../harness/configuration.ts'
import {
  type Answer,
  call,
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

/** A change of a Discue client that nobody knows the end of. */
async function unknownChange(): Promise<string> {
  const key = await mintDiscue()
  await providers().discue.fault({ reset: 'before' }, { match: { method: 'PUT', path: key }, times: 2 })
  const { body } = await put(`/credentials/discue:${key}`, { name: `a.${key}` })
  expect(body.outcome).toBe('unknown')
  return body.changeId
}

describe('an action', () => {
  const body = (name: string) => ({ name })
  /** Everything that can be done, by the right that it takes. */
  const deeds: Record<string, (role: string, change: string, key: string) => Promise<Answer>> = {
    'read it': (role, _, key) => get(role, { key }),
    'read the changes': (_, __, key) => get('/changes', { key }),
    'read a change': (_, change, key) => get(`/changes/${change}`, { key }),
    'plan for it': (role, _, key) => put(`${role}?dryRun=true`, body('Planned'), { key }),
    'write it': (role, _, key) => put(role, body(`Written ${freshId()}`), { key }),
    'read the audit': (_, __, key) => get('/audit', { key }),
    'resolve a change': (_, change, key) =>
      call('POST', `/changes/${change}/resolve`, { outcome: 'applied', reason: 'seen' }, { key }),
    'list providers': (_, __, key) => get('/providers', { key }),
    'list connections': (_, __, key) => get('/connections', { key }),
  }
  const anybody = ['list providers', 'list connections']

  test.each<[string, string, string[]]>([
    ['read', keys.viewer, ['read it', 'read the changes', 'read a change']],
    ['write', keys.blind, ['plan for it', 'write it']],
    ['plan', keys.planner, ['plan for it']],
    ['audit', keys.examiner, ['read the audit']],
    ['resolve', keys.resolver, ['resolve a change']],
  ])('%s allows what it is for, and nothing else', async (_, key, allowed) => {
    const id = `commerce-layer:${await mintCommerceLayer('roles')}`
    const change = await unknownChange()
    const found: [string, number][] = []
    for (const [name, deed] of Object.entries(deeds))
      found.push([name, (await deed(`/roles/${id}`, change, key)).status])
    expect(found).toEqual(
      Object.keys(deeds).map((name) => [name, [...allowed, ...anybody].includes(name) ? 200 : 403]),
    )
    const made = (await eventsOf(id)).filter(({ type }) => type === 'intent')
    expect(made).toHaveLength(allowed.includes('write it') ? 1 : 0)
    const written = (await providers().commerceLayer.ledger()).filter(
      (entry) => `commerce-layer:${entry.id}` === id,
    )
    expect(written).toHaveLength(made.length)
  })

  test('audit reaches the ids and the fields of its rules', async () => {
    const [own, longer] = [await mintDiscue(), await mintDiscue()]
    const { id: other } = await mintApinizer()
    await put(`/credentials/discue:${own}`, { name: `a.${own}` })
    await put(`/credentials/discue-limited:${longer}`, { name: `a.${longer}` })
    await put(`/credentials/${other}`, { secret: 's' })
    expect((await get('/audit', { key: keys.planner })).status).toBe(403)
    const seen = (await get('/audit?limit=1000', { key: keys.auditor })).body.data
    expect(seen.map(({ resource }: Json) => resource)).toContain(`discue:${own}`)
    for (const { resource } of seen) expect(resource).toMatch(/^discue:/)
    for (const query of [`resource=${other}`, 'connection=apinizer', 'connection=_gateway']) {
      expect((await get(`/audit?${query}`, { key: keys.auditor })).body.data).toEqual([])
      expect((await get(`/audit?${query}`)).body.data).not.toEqual([])
    }
    const [intent] = (
      await get(`/audit?resource=discue:${own}`, { key: keys.labeller })
    ).body.data.toReversed()
    expect(intent.fields).toEqual({ name: { action: 'set', to: '[hidden]' } })
  })

  test.each<[string, string, string[]]>([
    ['one', keys.auditor, ['discue']],
    ['a part of one', keys.narrow, ['apinizer']],
  ])('whose rules touch %s connection lists that one only', async (_, key, names) => {
    const { data } = (await get('/connections', { key })).body
    expect(data.map(({ name }: Json) => name)).toEqual(names)
  })
})

describe('a stored answer', () => {
  const rule = { actions: ['read', 'write'], kinds: ['credential'], ids: ['apinizer:*'], fields: ['*'] }

  /** From here on, `narrow` may do what the rules allow. */
  async function allow(rules: object[]): Promise<void> {
    const { callers, ...rest } = configuration(inject('sandbox'), `${inject('issuers')}/${runtime}`) as Json
    const changed = callers.map((one: Json) => (one.name === 'narrow' ? { ...one, allow: rules } : one))
    await reconfigure({ ...rest, callers: changed })
  }

  test('is for those who may have it now', async () => {
    await allow([rule])
    const { id } = await mintApinizer({ email: 'hidden@example.com' })
    const headers = { 'idempotency-key': freshId() }
    const body = { secret: 's', name: 'After', description: 'seen before' }
    const again = (key = keys.narrow) => put(`/credentials/${id}`, body, { key, headers })
    const first = await again()
    const whole = { email: 'hidden@example.com', name: 'After', description: 'seen before' }
    expect(first.body).toMatchObject({ outcome: 'applied', credential: whole })
    expect((await again()).body).toEqual(first.body)

    // It may still write all of that, and read one field.
    await allow([
      { ...rule, actions: ['write'] },
      { ...rule, actions: ['read'], fields: ['name'] },
    ])
    const narrower = await again()
    expect([narrower.status, narrower.headers.get('idempotency-replayed')]).toEqual([200, 'true'])
    expect(narrower.body.changeId).toBe(first.body.changeId)
    const hidden = { name: 'After', email: '[hidden]', description: '[hidden]' }
    expect(narrower.body.credential).toMatchObject(hidden)
    expect(narrower.body.fields).toMatchObject({
      name: { to: 'After' },
      description: { from: '[hidden]', to: '[hidden]' },
      secret: { fingerprint: '[hidden]' },
    })
    expect(JSON.stringify(narrower.body)).not.toMatch(/hidden@example|seen before|hmac-sha256/)

    // To another it is no answer: the same key is a key of its own.
    const another = await again(keys.admin)
    expect([another.status, another.headers.get('idempotency-replayed')]).toEqual([200, null])
    expect(another.body.changeId).not.toBe(first.body.changeId)

    const refused = async (rules: object[]) => {
      await allow(rules)
      const { status, headers: sent, body: problem } = await again()
      expect(JSON.stringify(problem)).not.toContain(first.body.changeId)
      return [status, problem.type, sent.get('idempotency-replayed')]
    }
    const forbidden = [403, '/problems/forbidden', null]
    expect(await refused([{ ...rule, fields: ['secret', 'name'] }])).toEqual(forbidden)
    expect(await refused([{ ...rule, actions: ['read', 'plan'] }])).toEqual(forbidden)
    const absent = [404, '/problems/not-found', null]
    expect(await refused([{ ...rule, ids: ['discue:*'] }])).toEqual(absent)
    expect(await refused([{ ...rule, kinds: ['role'] }])).toEqual(absent)
    expect((await again(keys.expired)).status).toBe(401)
    await allow([rule])
    expect((await again()).body).toEqual(first.body)
  })
})

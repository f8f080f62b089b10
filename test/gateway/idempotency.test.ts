import { useGateway } from '#gateway'
import { describe, expect, test } from 'vitest'
import { keys } from '../harness/configuration.ts'
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

useGateway()

const withKey = (key: string, more: Record<string, string> = {}) => ({
  headers: { 'idempotency-key': key, ...more },
})
const appliedTo = async (control: ReturnType<typeof providers>['discue'], id: string) =>
  (await control.ledger()).filter((entry) => entry.id === id).length
const replayed = (reply: Answer) => reply.headers.get('idempotency-replayed')
const problem = ({ status, body }: Answer) => [status, body.type]

describe('the same key again', () => {
  test('replays the stored answer, bare or quoted, and changes nothing', async () => {
    const id = await mintDiscue()
    const [key, body] = [freshId(), { name: `a.${id}` }]
    const first = await put(`/credentials/discue:${id}`, body, withKey(key))
    const second = await put(`/credentials/discue:${id}`, body, withKey(`"${key}"`))
    expect([first.status, replayed(first)]).toEqual([200, null])
    expect([second.status, replayed(second)]).toEqual([200, 'true'])
    expect(second.body).toEqual(first.body)
    expect(await appliedTo(providers().discue, id)).toBe(1)
    expect((await eventsOf(`discue:${id}`)).map(({ type }) => type)).toEqual(['intent', 'outcome'])
  })

  test('replays a no-op too', async () => {
    const id = await mintCommerceLayer('roles', { name: 'Same' })
    const key = freshId()
    const [first, second] = [
      await put(`/roles/commerce-layer:${id}`, { name: 'Same' }, withKey(key)),
      await put(`/roles/commerce-layer:${id}`, { name: 'Same' }, withKey(key)),
    ]
    expect([first.body.changed, replayed(second)]).toEqual([false, 'true'])
    expect(second.body).toEqual(first.body)
    expect(await eventsOf(`commerce-layer:${id}`)).toHaveLength(1)
  })

  test('replays a refusal by the provider', async () => {
    const [id, key, taken] = [await mintDiscue(), freshId(), `example.com/${freshId()}`]
    await mintDiscue(taken)
    const first = await put(`/credentials/discue:${id}`, { name: taken }, withKey(key))
    const second = await put(`/credentials/discue:${id}`, { name: taken }, withKey(key))
    expect(problem(first)).toEqual([422, '/problems/upstream-validation-failed'])
    expect([replayed(first), replayed(second)]).toEqual([null, 'true'])
    const { requestId: _a, ...one } = first.body
    const { requestId: _b, ...two } = second.body
    expect(two).toEqual(one)
    expect(await eventsOf(`discue:${id}`)).toHaveLength(2)
  })

  test('is good again after the gateway’s own sign-in was refused', async () => {
    const [id, key] = [await mintDiscue(), freshId()]
    await providers().discue.fault({ status: 401 }, { match: { method: 'PUT', path: id } })
    const first = await put(`/credentials/discue:${id}`, { name: `a.${id}` }, withKey(key))
    expect(problem(first)).toEqual([502, '/problems/upstream-unauthorized'])
    const second = await put(`/credentials/discue:${id}`, { name: `a.${id}` }, withKey(key))
    expect([second.status, replayed(second)]).toEqual([200, null])
    expect(await appliedTo(providers().discue, id)).toBe(1)
  })

  test('with another body or mode is 422', async () => {
    const [id, key] = [await mintDiscue(), freshId()]
    await put(`/credentials/discue:${id}`, { name: `a.${id}` }, withKey(key))
    const body = await put(`/credentials/discue:${id}`, { name: `b.${id}` }, withKey(key))
    const mode = await put(`/credentials/discue:${id}?mode=replace`, { name: `a.${id}` }, withKey(key))
    for (const reply of [body, mode])
      expect(problem(reply)).toEqual([422, '/problems/idempotency-key-reused'])
    expect(await appliedTo(providers().discue, id)).toBe(1)
  })

  test('with other bodies is blocked after five guesses, which are in the audit, and other keys are not', async () => {
    const { id } = await mintApinizer()
    const [key, path] = [freshId(), `/credentials/${id}`]
    const body = { secret: 'right' }
    const first = await put(path, body, withKey(key))
    const guesses = await Promise.all(
      Array.from({ length: 5 }, async (_, n) => put(path, { secret: `wrong ${n}` }, withKey(key))),
    )
    const answered = guesses.filter(({ status }) => status === 422)
    // Those that came while another was looked at were told so, and have learned nothing.
    for (const { status } of guesses) expect([409, 422]).toContain(status)
    for (let n = answered.length; n < 5; n++) {
      const guess = await put(path, { secret: `wrong again ${n}` }, withKey(key))
      expect(problem(guess)).toEqual([422, '/problems/idempotency-key-reused'])
    }
    for (const tried of [{ secret: 'wrong' }, body, body]) {
      const blocked = await put(path, tried, withKey(key))
      expect(problem(blocked)).toEqual([409, '/problems/idempotency-key-blocked'])
      const wait = Number(blocked.headers.get('retry-after'))
      expect(wait).toBeGreaterThan(3500)
      expect(wait).toBeLessThanOrEqual(3600)
      expect(blocked.body.changeId).toBeUndefined()
    }
    expect((await put(path, body, withKey(freshId()))).body.changeId).not.toBe(first.body.changeId)
    const refused = (await eventsOf(id)).filter(({ type }) => type === 'refused')
    expect(refused.map(({ refusal }) => refusal)).toEqual([
      { problem: 'idempotency-key-reused', count: 1 },
      { problem: 'idempotency-key-blocked', count: 1 },
    ])
  })

  test('is another key for another resource, kind or caller', async () => {
    const key = freshId()
    const [one, two] = [await mintDiscue(), await mintDiscue()]
    const replies = [
      await put(`/credentials/discue:${one}`, { name: `a.${one}` }, withKey(key)),
      await put(`/credentials/discue:${two}`, { name: `a.${two}` }, withKey(key)),
      await put(`/credentials/discue:${two}`, { name: `a.${two}` }, { ...withKey(key), key: keys.blind }),
    ]
    for (const reply of replies) expect([reply.status, replayed(reply)]).toEqual([200, null])
  })

  test('while the first is under way is 409', async () => {
    const [id, key] = [await mintDiscue(), freshId()]
    await providers().discue.fault({ delayAfterMs: 700 }, { match: { method: 'PUT', path: id } })
    const first = put(`/credentials/discue:${id}`, { name: `a.${id}` }, withKey(key))
    await expect.poll(() => appliedTo(providers().discue, id)).toBe(1)
    const second = await put(`/credentials/discue:${id}`, { name: `a.${id}` }, withKey(key))
    expect(problem(second)).toEqual([409, '/problems/request-in-progress'])
    expect(second.headers.get('retry-after')).toBe('1')
    expect((await first).status).toBe(200)
  })

  test('is not used up by a dry run, a refusal before the intent, or what was never sent', async () => {
    const [id, key] = [await mintDiscue(), freshId()]
    const path = `/credentials/discue:${id}`
    expect((await put(`${path}?dryRun=true`, { name: `x.${id}` }, withKey(key))).status).toBe(200)
    expect((await put(path, { email: 'a@b.example' }, withKey(key))).status).toBe(422)
    for (const name of [`a.${id}`, `b.${id}`]) {
      // What Cloudflare's edge answers when it does not reach the origin.
      await providers().discue.fault({ status: 523 }, { match: { method: 'PUT', path: id }, times: 3 })
      expect((await put(path, { name }, withKey(key))).body.outcome).toBe('not_sent')
    }
    expect((await put(path, { name: `y.${id}` }, withKey(key))).status).toBe(200)
  })

  test('hides what the caller may no longer read, and is refused when it may no longer write', async () => {
    const { apinizer } = providers()
    await apinizer.mint('credential', `Narrow/${freshId()}`, {})
    const name = `n${freshId()}`
    await apinizer.mint('credential', `Narrow/${name}`, { email: 'hidden@example.com' })
    const path = `/credentials/apinizer:Narrow:${name}`
    const reply = await put(path, { secret: 's', name: 'After' }, { ...withKey('k'), key: keys.narrow })
    const again = await put(path, { secret: 's', name: 'After' }, { ...withKey('k'), key: keys.narrow })
    expect([reply.status, again.status, replayed(again)]).toEqual([200, 200, 'true'])
    expect(again.body).toEqual(reply.body)
    expect(again.body.credential.email).toBe('[hidden]')
    expect(
      (await put(path, { secret: 's', name: 'After' }, { ...withKey('k'), key: keys.reader })).status,
    ).toBe(403)
  })
})

describe('a key whose change did not end well', () => {
  test('goes on with the same change after an unknown outcome', async () => {
    const [id, key] = [await mintDiscue(), freshId()]
    const [path, body] = [`/credentials/discue:${id}`, { name: `a.${id}` }]
    await providers().discue.fault({ reset: 'before' }, { match: { method: 'PUT', path: id }, times: 2 })
    const unknown = await put(path, body, withKey(key))
    expect(problem(unknown)).toEqual([504, '/problems/outcome-unknown'])
    const settled = await put(path, body, withKey(key))
    expect([settled.status, replayed(settled)]).toEqual([200, null])
    expect(settled.body.changeId).toBe(unknown.body.changeId)
    expect((await put(path, body, withKey(key))).body).toEqual(settled.body)
    const story = (await get(`/changes/${unknown.body.changeId}`)).body
    expect(story.state).toBe('applied')
    expect(story.events.filter(({ type }: { type: string }) => type === 'intent')).toHaveLength(1)
  })

  test('repairs a partial deployment as the same change', async () => {
    const { id, project } = await mintApinizer()
    const [key, body] = [freshId(), { secret: 'new', name: 'New' }]
    const partialDeployment = { environments: ['staging'], level: 'environment' }
    await providers().apinizer.fault(
      { partialDeployment },
      { match: { method: 'PUT', path: project }, times: 2 },
    )
    const partial = await put(`/credentials/${id}`, body, withKey(key))
    expect(problem(partial)).toEqual([502, '/problems/partially-applied'])
    const repaired = await put(`/credentials/${id}`, body, withKey(key))
    expect([repaired.status, repaired.body.changeId]).toEqual([200, partial.body.changeId])
  })

  test('is never talked away by a refusal that comes later', async () => {
    const [id, key] = [await mintDiscue(), freshId()]
    const match = { method: 'PUT', path: id }
    const { discue } = providers()
    await discue.fault({ reset: 'after' }, { match, times: 2 })
    await discue.fault({ status: 422 }, { match })
    const first = await put(`/credentials/discue:${id}`, { name: `a.${id}` }, withKey(key))
    expect(first.body.outcome).toBe('unknown')
    const second = await put(`/credentials/discue:${id}`, { name: `a.${id}` }, withKey(key))
    expect(problem(second)).toEqual([504, '/problems/outcome-unknown'])
  })

  test('is superseded by a newer change, and brings no old secret back', async () => {
    const { id, project } = await mintApinizer()
    const key = freshId()
    const { apinizer } = providers()
    await apinizer.fault({ reset: 'after' }, { match: { method: 'PATCH', path: project }, times: 2 })
    const old = await put(`/credentials/${id}`, { secret: 'old-secret' }, withKey(key))
    expect(old.body.outcome).toBe('unknown')
    expect((await put(`/credentials/${id}`, { secret: 'new-secret' })).status).toBe(200)
    const late = await put(`/credentials/${id}`, { secret: 'old-secret' }, withKey(key))
    expect(problem(late)).toEqual([409, '/problems/superseded'])
    const login = { project, username: `user-${project}`, password: 'new-secret' }
    expect(await apinizer.send('POST', '/login', login)).toEqual({ success: true })
    expect((await get(`/changes/${old.body.changeId}`)).body.state).toBe('superseded')
  })
})

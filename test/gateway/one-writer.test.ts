import { useGateway } from '#gateway'
import { expect, test } from 'vitest'
import { call, eventsOf, freshId, get, mintApinizer, providers, put } from '../harness/gateway-calls.ts'

// At Apinizer one user has an id in its project and another in the project `admin`: it is one resource, with one writer.

useGateway()

/** A user of its own, by both of its ids. */
async function twoNames(): Promise<{ project: string; username: string; ids: [string, string] }> {
  const { project } = await mintApinizer()
  const username = `u${freshId()}`
  await providers().apinizer.mint('credential', `${project}/${username}`, {
    email: 'user@example.com',
    fullName: 'Before',
    description: 'Before',
    password: 'first',
    roleNameList: ['API_USER'],
    enabled: true,
    ipList: ['10.0.0.1'],
    expireDate: null,
  })
  return { project, username, ids: [`apinizer:${project}:${username}`, `apinizer:admin:${username}`] }
}
const tagOf = async (id: string): Promise<string> =>
  (await get(`/credentials/${id}`)).headers.get('etag') ?? ''
const writesOf = async (username: string) =>
  (await providers().apinizer.ledger()).filter(({ id }) => String(id).includes(username)).length

test('of two changes by both names with the tags of one state exactly one is made', async () => {
  const { ids, username, project } = await twoNames()
  const tags = await Promise.all(ids.map(tagOf))
  expect(tags.every((tag) => tag.startsWith('"'))).toBe(true)
  // The first write takes its time, so that the second one comes in the middle of it.
  await providers().apinizer.fault({ delayBeforeMs: 400 }, { match: { method: 'PUT', path: project } })
  const replies = await Promise.all(
    ids.map((id, n) =>
      put(
        `/credentials/${id}`,
        { name: `After ${n}`, secret: `new ${n}` },
        { headers: { 'if-match': tags[n] ?? '' } },
      ),
    ),
  )
  expect(replies.map(({ status }) => status).toSorted()).toEqual([200, 412])
  expect(await writesOf(username)).toBe(1)
})

test('a secret that is changed under one name changes the tag under the other', async () => {
  const { ids } = await twoNames()
  const [first, second] = ids
  const before = await Promise.all(ids.map(tagOf))
  expect((await put(`/credentials/${first}`, { secret: 'another' })).status).toBe(200)
  const after = await Promise.all(ids.map(tagOf))
  expect(after[0]).not.toBe(before[0])
  expect(after[1]).not.toBe(before[1])
  const late = await put(
    `/credentials/${second}`,
    { secret: 'late' },
    { headers: { 'if-match': before[1] ?? '' } },
  )
  expect(late.status).toBe(412)
  const good = await put(
    `/credentials/${second}`,
    { secret: 'good' },
    { headers: { 'if-match': after[1] ?? '' } },
  )
  expect(good.status).toBe(200)
})

test('an open change under one name is superseded by a newer one under the other, and not sent again', async () => {
  const { ids, project } = await twoNames()
  const [first, second] = ids
  const key = freshId()
  const body = { name: 'Older', secret: 'older' }
  const headers = { 'idempotency-key': key }
  const { id: fault } = await providers().apinizer.fault(
    { status: 500 },
    { match: { method: 'PUT', path: project }, times: null },
  )
  const open = await put(`/credentials/${first}`, body, { headers })
  expect(open.body.outcome).toBe('unknown')
  await providers().apinizer.send('DELETE', `/faults/${fault}`)
  expect((await put(`/credentials/${second}`, { name: 'Newer', secret: 'newer' })).status).toBe(200)
  const again = await put(`/credentials/${first}`, body, { headers })
  expect([again.status, again.body.type]).toEqual([409, '/problems/superseded'])
  expect((await call('GET', `/changes/${open.body.changeId}`)).body.state).toBe('superseded')
  const story = (await eventsOf(String(first))).filter(({ changeId }) => changeId === open.body.changeId)
  expect(story.at(-1)).toMatchObject({ outcome: 'superseded', resource: first })
  expect((await get(`/credentials/${first}`)).body.name).toBe('Newer')
})

test('what the gateway signs in with is its own by every name', async () => {
  await providers().apinizer.mint('credential', 'MyProject/gateway-itself', { enabled: true })
  for (const project of ['MyProject', 'admin']) {
    const reply = await put(`/credentials/apinizer:${project}:gateway-itself`, { secret: 'new' })
    expect([project, reply.status, reply.body.type]).toEqual([project, 409, '/problems/self-lockout'])
  }
})

test('a connection that is for some projects knows nothing of others', async () => {
  const username = `u${freshId()}`
  await providers().apinizer.mint('credential', `Parted/${username}`, {})
  const other = await mintApinizer()
  const idIn = (name: string, user: string) => `/credentials/apinizer-parted:${name}:${user}`
  expect((await get(idIn('Parted', username))).status).toBe(200)
  for (const path of [idIn('admin', username), idIn(other.project, other.username)]) {
    expect((await get(path)).status).toBe(404)
    expect((await put(path, { secret: 'new' })).status).toBe(404)
  }
  expect(await writesOf(username)).toBe(0)
})

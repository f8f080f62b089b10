import { expect, test } from 'vitest'
import { ResourceQueue } from '../../src/change/queue.ts'
import { Deadline } from '../../src/lib/deadline.ts'

const patient = () => new Deadline(60_000)

/** A task that ends when it is told to. */
function pending() {
  const { promise, resolve } = Promise.withResolvers<void>()
  return { task: () => promise.then(() => 'done'), end: resolve }
}

test('one runs at a time, in order of arrival; other resources wait for nothing', async () => {
  const queue = new ResourceQueue()
  const order: number[] = []
  let running = 0
  const work = (at: number) => async () => {
    expect(++running).toBe(1)
    await Promise.resolve()
    order.push(at)
    running -= 1
    return at
  }
  const blocked = pending()
  const other = queue.run('other', 'a', patient(), blocked.task)
  await Promise.all([0, 1, 2, 3].map((at) => queue.run('one', 'a', patient(), work(at))))
  expect(order).toEqual([0, 1, 2, 3])
  blocked.end()
  expect(await other).toBe('done')
})

test('whoever waits longer than its deadline leaves the line and is not run', async () => {
  const queue = new ResourceQueue()
  const first = pending()
  const running = queue.run('one', 'a', patient(), first.task)
  let ran = false
  const late = await queue.run('one', 'a', new Deadline(20), async () => (ran = true))
  expect(late).toMatchObject({ ok: false, problem: { slug: 'credential-busy' } })
  const next = queue.run('one', 'a', patient(), async () => 'next')
  first.end()
  expect([await running, await next, ran]).toEqual(['done', 'next', false])
})

test('a task that throws frees the line', async () => {
  const queue = new ResourceQueue()
  await expect(
    queue.run('one', 'a', patient(), async () => {
      throw new Error('broken')
    }),
  ).rejects.toThrow('broken')
  expect(await queue.run('one', 'a', patient(), async () => 'next')).toBe('next')
})

test('16 wait for a resource, 32 of a caller, 256 of a connection; one more is refused at once', async () => {
  const refusal = (slug: string) => ({ ok: false, problem: { slug, retryAfterSeconds: 1 } })
  const queue = new ResourceQueue()
  const blocked = pending()
  const all: Promise<unknown>[] = []
  const add = (resource: string, caller: string) => {
    const run = queue.run(resource, caller, patient(), blocked.task)
    all.push(run)
    return run
  }
  for (let at = 0; at <= 16; at++) void add('a', 'one')
  expect(await add('a', 'two')).toMatchObject(refusal('credential-busy'))
  for (let at = 0; at <= 16; at++) void add('b', 'one')
  expect(await add('b', 'one')).toMatchObject(refusal('credential-busy'))
  void add('d', 'one')
  expect(await add('d', 'one')).toMatchObject(refusal('upstream-unavailable'))
  for (let caller = 0; caller < 14; caller++) {
    for (let at = 0; at <= 16; at++) void add(`${caller}`, `caller ${caller}`)
  }
  void add('last', 'somebody')
  expect(await add('last', 'somebody')).toMatchObject(refusal('upstream-unavailable'))
  blocked.end()
  await Promise.all(all)
})

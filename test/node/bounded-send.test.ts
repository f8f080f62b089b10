import { setTimeout as pause } from 'node:timers/promises'
import { Semaphore } from 'async-mutex'
import { expect, test } from 'vitest'
import { Deadline } from '../../src/lib/deadline.ts'
import { limitConcurrency } from '../../src/upstream/concurrency-gate.ts'
import type { Send } from '../../src/upstream/send.ts'

const request = {
  method: 'PUT',
  template: '/x',
  ref: {},
  headers: {},
  baseUrl: 'http://127.0.0.1',
  credentials: {},
  traceparent: '',
} as const

/** A provider that says nothing: every request is given up at its end. */
function silent() {
  const given: number[] = []
  const send: Send = async ({ timeoutMs }) => {
    given.push(timeoutMs)
    await pause(timeoutMs)
    return { received: false, sent: true, detail: 'silence' }
  }
  return { given, send }
}

test('what waited is sent with half of its time left, or not at all', async () => {
  const { given, send } = silent()
  const bound = limitConcurrency(send, new Semaphore(3))
  const ms = 200
  const answers = await Promise.all(Array.from({ length: 20 }, () => bound(request, new Deadline(ms))))
  const sent = answers.filter((answer) => !answer.received && answer.sent)
  expect(sent).toHaveLength(given.length)
  expect(given.length).toBeGreaterThanOrEqual(3)
  expect(given.length).toBeLessThan(20)
  // What was kept says when it is worth another try, so that nobody repeats it here.
  const kept = answers.filter((answer) => 'held' in answer)
  expect(kept).toHaveLength(20 - sent.length)
  // An attempt leaves some of what is left; a timer may come early by a fraction.
  for (const left of given) expect(left).toBeGreaterThanOrEqual((ms / 2) * 0.6 - 2)
})

test('what would wait behind very many is refused at once', async () => {
  const { given, send } = silent()
  const bound = limitConcurrency(send, new Semaphore(1))
  const answers = Array.from({ length: 400 }, () => bound(request, new Deadline(100)))
  const first = await Promise.race(answers.slice(300).map(async (answer) => answer))
  expect(first).toMatchObject({ sent: false, held: { problem: 'upstream-unavailable', ms: 1000 } })
  expect(given).toHaveLength(1)
  await Promise.all(answers)
})

test('a slot is free again after a failure', async () => {
  let calls = 0
  const bound = limitConcurrency(async () => {
    calls += 1
    throw new Error('failed')
  }, new Semaphore(1))
  await expect(bound(request, new Deadline(1000))).rejects.toThrow('failed')
  await expect(bound(request, new Deadline(1000))).rejects.toThrow('failed')
  expect(calls).toBe(2)
})

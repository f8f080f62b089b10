import { setTimeout as pause } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { boundSend } from '../../src/bounded-send.ts'
import type { OutgoingRequest, Send } from '../../src/upstream.ts'

const request = (timeoutMs: number): OutgoingRequest => ({
  method: 'PUT',
  template: '/x',
  ref: {},
  headers: {},
  baseUrl: 'http://127.0.0.1',
  credentials: {},
  traceparent: '',
  timeoutMs,
})

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
  const bound = boundSend(send, 3)
  const timeoutMs = 200
  const answers = await Promise.all(Array.from({ length: 20 }, () => bound(request(timeoutMs))))
  const sent = answers.filter((answer) => !answer.received && answer.sent)
  expect(sent).toHaveLength(given.length)
  expect(given.length).toBeGreaterThanOrEqual(3)
  expect(given.length).toBeLessThan(20)
  // A timer may come early by a fraction.
  for (const left of given) expect(left).toBeGreaterThanOrEqual(timeoutMs / 2 - 2)
})

test('what would wait behind very many is refused at once', async () => {
  const { given, send } = silent()
  const bound = boundSend(send, 1)
  const answers = Array.from({ length: 400 }, () => bound(request(100)))
  const first = await Promise.race(answers.slice(300).map(async (answer) => answer))
  expect(first).toMatchObject({ received: false, sent: false })
  expect(given).toHaveLength(1)
  await Promise.all(answers)
})

test('a slot is free again after a failure', async () => {
  let calls = 0
  const bound = boundSend(async () => {
    calls += 1
    throw new Error('failed')
  }, 1)
  await expect(bound(request(1000))).rejects.toThrow('failed')
  await expect(bound(request(1000))).rejects.toThrow('failed')
  expect(calls).toBe(2)
})

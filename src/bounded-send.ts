import { Semaphore } from 'async-mutex'
import { Deadline } from './deadline.ts'
import type { Answer, Send } from './upstream.ts'

/** The part of an attempt's time that may be spent on waiting: what is sent late must still have time to be answered. */
const WAITING_SHARE = 0.5

/** Requests that may wait. */
const WAITING = 256

const NOT_SENT: Answer = {
  received: false,
  sent: false,
  detail: 'too many requests to the provider are under way',
}

/**
 * At most `atOnce` requests under way; the others wait here. A runtime that runs out of connections makes a request
 * wait where nobody can tell whether it was sent; one that waited here in vain was not.
 */
export function boundSend(send: Send, atOnce: number): Send {
  const slots = new Semaphore(atOnce)
  let waiting = 0
  return async (request) => {
    if (waiting >= WAITING) return NOT_SENT
    const whole = new Deadline(request.timeoutMs)
    const patience = new Deadline(request.timeoutMs * WAITING_SHARE)
    const slot = slots.acquire()
    waiting += 1
    const held = await patience.within(slot)
    waiting -= 1
    if (!held || patience.remainingMs() === 0) {
      void slot.then(([, release]) => release())
      return NOT_SENT
    }
    const [, release] = held
    try {
      return await send({ ...request, timeoutMs: whole.remainingMs() })
    } finally {
      release()
    }
  }
}

import { Semaphore } from 'async-mutex'
import { Deadline } from './deadline.ts'
import type { Send } from './upstream.ts'

/**
 * At most `atOnce` requests under way; the others wait here. A runtime that runs out of connections makes a request
 * wait where nobody can tell whether it was sent; one that waited here in vain was not.
 */
export function boundSend(send: Send, atOnce: number): Send {
  const slots = new Semaphore(atOnce)
  return async (request) => {
    const deadline = new Deadline(request.timeoutMs)
    const slot = slots.acquire()
    const held = await deadline.within(slot)
    if (!held || deadline.remainingMs() === 0) {
      void slot.then(([, release]) => release())
      return { received: false, sent: false, detail: 'too many requests to the provider are under way' }
    }
    const [, release] = held
    try {
      return await send({ ...request, timeoutMs: deadline.remainingMs() })
    } finally {
      release()
    }
  }
}

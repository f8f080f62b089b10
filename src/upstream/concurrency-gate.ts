import type { Semaphore } from 'async-mutex'
import type { Deadline } from '../lib/deadline.ts'
import { type Answer, heldBack, type OutgoingRequest, type Send } from './send.ts'

/** Sends a request when its turn comes, if that is in time. */
export type GatedSend = (request: Omit<OutgoingRequest, 'timeoutMs'>, deadline: Deadline) => Promise<Answer>

/** Share of the remaining time that may be spent waiting: leave enough of it for the response. */
const WAITING_SHARE = 0.5

/** An attempt may use this much of the time that is left, so that a silent provider leaves some to find out what happened. */
const ATTEMPT_SHARE = 0.6

/** Requests that may wait. */
const WAITING = 256

const NO_SLOT = heldBack(
  'upstream-unavailable',
  1000,
  true,
  'too many requests to the provider are under way',
)

/** Takes a place of each, in their order; gives what gives them back. */
async function acquireAll(slots: readonly Semaphore[]): Promise<() => void> {
  const held: (() => void)[] = []
  for (const one of slots) held.push((await one.acquire())[1])
  return () => held.forEach((release) => release())
}

/**
 * Limits how many requests are under way. Without it a runtime that runs out of connections makes requests wait where
 * nobody can tell whether they were sent; a request that gave up waiting here was never sent.
 */
export function limitConcurrency(send: Send, ...slots: readonly Semaphore[]): GatedSend {
  let waiting = 0
  return async (request, deadline) => {
    if (waiting >= WAITING) return NO_SLOT
    const patience = deadline.part(WAITING_SHARE)
    const slot = acquireAll(slots)
    waiting += 1
    const release = await patience.within(slot)
    waiting -= 1
    if (!release || patience.remainingMs() === 0) {
      void slot.then((late) => late())
      return NO_SLOT
    }
    try {
      return await send({ ...request, timeoutMs: deadline.remainingMs() * ATTEMPT_SHARE })
    } finally {
      release()
    }
  }
}

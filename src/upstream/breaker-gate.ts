import { circuitBreaker, CircuitState, ConsecutiveBreaker, handleWhenResult, type IBackoff } from 'cockatiel'
import { Deadline } from '../lib/deadline.ts'
import type { Log } from '../lib/log.ts'
import { type Answer, heldBack, type HeldBack, type Send } from './send.ts'

/** Requests that must fail in a row before no more are sent; one change makes three at the most. */
const FAILURES = 10

/** How long nothing is sent before one request tries again: twice as long each time. Milliseconds. */
const PAUSE = { first: 1000, longest: 5000 }

/** A trial without an answer after this counts as failed; the request itself goes on. Milliseconds. */
const TRIAL_MS = 5000

/** No connection, no answer, or a 5xx. A 4xx is the answer of a provider that is well. */
const failed = (answer: Answer | undefined): boolean => !answer?.received || answer.response.status >= 500

/** Keeps requests from a provider that is down, so that callers need not wait to hear it. */
export interface Breaker {
  /** The refusal to return instead of queueing; undefined while the circuit is closed. */
  refusal(): HeldBack | undefined
  guard(send: Send): Send
}

/** @param of Whose requests it judges: `changes` or `lookups`. */
export function createBreaker(connection: string, of: string, log: Log): Breaker {
  /** On the monotonic clock. */
  let pausedUntil = 0
  // The library asks the wall clock, and one that is set back would keep the circuit open: it is given no other choice.
  const pause: IBackoff<{ attempt: number }> = {
    get duration() {
      return performance.now() < pausedUntil ? Infinity : -Infinity
    },
    next({ attempt }) {
      pausedUntil = performance.now() + Math.min(PAUSE.first * 2 ** (attempt - 1), PAUSE.longest)
      return pause
    },
  }
  const policy = circuitBreaker(
    handleWhenResult((answer) => failed(answer as Answer | undefined)),
    { breaker: new ConsecutiveBreaker(FAILURES), halfOpenAfter: pause },
  )
  /** How often the circuit was opened. */
  let breaks = 0
  policy.onBreak(() => {
    breaks += 1
    log.warn('provider down', { connection, of })
  })
  policy.onReset(() => log.info('provider up again', { connection, of }))

  function refusal(): HeldBack | undefined {
    if (policy.state === CircuitState.Closed) return undefined
    const ms = pausedUntil - performance.now()
    // While a trial runs the library would make others wait for its end, however late that is.
    if (ms <= 0 && policy.state === CircuitState.Open) return undefined
    return heldBack(
      'upstream-unavailable',
      Math.max(0, ms),
      false,
      'the provider fails, so that nothing was sent',
    )
  }

  return {
    refusal,
    guard: (send) => async (request) => {
      const refused = refusal()
      if (refused) return refused
      if (policy.state === CircuitState.Open) {
        const trial = send(request)
        await policy.execute(() => new Deadline(TRIAL_MS).within(trial))
        return trial
      }
      const before = breaks
      const answer = await send(request)
      // Results of requests sent before the circuit opened are ignored.
      if (breaks === before) await policy.execute(() => answer)
      return answer
    },
  }
}

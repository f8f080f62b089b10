import type { Deadline } from './deadline.ts'
import { type Problem, refuse } from './problems.ts'

/** How many changes may wait, those that run not counted. */
const WAITING = { perResource: 16, perConnection: 256, perCaller: 32 }

/**
 * One writer per resource, in order of arrival. An instance belongs to one actor: at module level it would hang a
 * stateless Worker, whose requests may not wait for one another.
 */
export class ResourceQueue {
  readonly #lines = new Map<string, (() => void)[]>()
  readonly #waitingOf = new Map<string, number>()
  #waiting = 0

  /**
   * Runs `task` when everything before it on the same resource has ended, or refuses at once when too much waits, or
   * once `deadline` has passed. Without a caller (the gateway itself) only the resource's line is bounded.
   */
  async run<T>(
    resource: string,
    caller: string | null,
    deadline: Deadline,
    task: () => Promise<T>,
  ): Promise<T | { ok: false; problem: Problem }> {
    const line = this.#lines.get(resource)
    if (line) {
      if (line.length >= WAITING.perResource) return busy('too many changes wait for this resource')
      const own = caller === null ? 0 : (this.#waitingOf.get(caller) ?? 0)
      if (own >= WAITING.perCaller) return full('too many changes of this caller wait on the connection')
      if (this.#waiting >= WAITING.perConnection) return full('too many changes wait on the connection')
      await this.#wait(line, caller)
    } else {
      this.#lines.set(resource, [])
    }
    try {
      return deadline.remainingMs() > 0 ? await task() : busy('the deadline passed while the change waited')
    } finally {
      const next = this.#lines.get(resource)?.shift()
      if (next) next()
      else this.#lines.delete(resource)
    }
  }

  async #wait(line: (() => void)[], caller: string | null): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const count = (by: 1 | -1) => {
      this.#waiting += by
      if (caller === null) return
      const left = (this.#waitingOf.get(caller) ?? 0) + by
      if (left > 0) this.#waitingOf.set(caller, left)
      else this.#waitingOf.delete(caller)
    }
    line.push(resolve)
    count(1)
    await promise
    count(-1)
  }
}

const busy = (detail: string) =>
  refuse('credential-busy', `${detail}; nothing was sent`, { retryAfterSeconds: 1 })
const full = (detail: string) =>
  refuse('upstream-unavailable', `${detail}; nothing was sent`, { retryAfterSeconds: 1 })

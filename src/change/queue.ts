import type { Deadline } from '../lib/deadline.ts'
import { type Problem, refuse } from '../model/problems.ts'

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
      if (!(await this.#wait(line, caller, deadline))) return late()
    } else {
      this.#lines.set(resource, [])
    }
    try {
      return deadline.remainingMs() > 0 ? await task() : late()
    } finally {
      const next = this.#lines.get(resource)?.shift()
      if (next) next()
      else this.#lines.delete(resource)
    }
  }

  /** False when the deadline passed first; then the place in the line is given up. */
  async #wait(line: (() => void)[], caller: string | null, deadline: Deadline): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<true>()
    const turn = () => resolve(true)
    line.push(turn)
    this.#count(caller, 1)
    const came = await deadline.within(promise)
    this.#count(caller, -1)
    if (came) return true
    const place = line.indexOf(turn)
    // Called in the same moment: the turn is taken, so that those behind it are served.
    if (place === -1) return true
    line.splice(place, 1)
    return false
  }

  #count(caller: string | null, by: 1 | -1): void {
    this.#waiting += by
    if (caller === null) return
    const left = (this.#waitingOf.get(caller) ?? 0) + by
    if (left > 0) this.#waitingOf.set(caller, left)
    else this.#waitingOf.delete(caller)
  }
}

const busy = (detail: string) =>
  refuse('credential-busy', `${detail}; nothing was sent`, { retryAfterSeconds: 1 })
const full = (detail: string) =>
  refuse('upstream-unavailable', `${detail}; nothing was sent`, { retryAfterSeconds: 1 })
const late = () => busy('the deadline passed while the change waited')

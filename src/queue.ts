import type { Deadline } from './deadline.ts'
import { refuse, type Result } from './problems.ts'

/** Waiting changes per resource, the running one not counted. */
const WAITING_PER_RESOURCE = 16

/**
 * One writer per resource, in order of arrival. An instance belongs to one actor: at module level it would hang a
 * stateless Worker, whose requests may not wait for one another.
 */
export class ResourceQueue {
  readonly #lines = new Map<string, (() => void)[]>()

  /** Runs `task` when everything before it on the same resource has ended, or refuses once `deadline` has passed. */
  async run<T>(resource: string, deadline: Deadline, task: () => Promise<Result<T>>): Promise<Result<T>> {
    const line = this.#lines.get(resource)
    if (line) {
      if (line.length >= WAITING_PER_RESOURCE) {
        return refuse('credential-busy', 'too many changes wait for this resource', { retryAfterSeconds: 1 })
      }
      const { promise, resolve } = Promise.withResolvers<void>()
      line.push(resolve)
      await promise
    } else {
      this.#lines.set(resource, [])
    }
    try {
      if (deadline.remainingMs() <= 0) {
        return refuse('credential-busy', 'the deadline passed while the change waited', {
          retryAfterSeconds: 1,
        })
      }
      return await task()
    } finally {
      const next = this.#lines.get(resource)?.shift()
      if (next) next()
      else this.#lines.delete(resource)
    }
  }
}

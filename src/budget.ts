import type { Allowance } from './adapter.ts'
import type { Deadline } from './deadline.ts'
import type { Pace } from './pace.ts'
import { type Mark, SlidingWindow } from './sliding-window.ts'

/** What a provider says holds everybody back for at most so long; then the next request finds out anew. Milliseconds. */
const LONGEST_HOLD = 60_000

/** The part of the time that is left that may be spent on waiting, so that enough is left for the request itself. */
const WAITING_SHARE = 0.75

/** A request that may go now. Its end must be told. */
export interface Turn {
  /** @param pace What the answer told; undefined where there was none. `sent`: whether it may have reached the provider. */
  end(sent: boolean, pace?: Pace): void
}

/**
 * Requests of one kind that a provider counts together. They go in the order in which they came, each as soon as every
 * window has room. An instance belongs to one process or one object, like a queue.
 */
export class Budget {
  readonly #windows: readonly SlidingWindow[]
  readonly #line: ((turn: Turn) => void)[] = []
  #timer: ReturnType<typeof setTimeout> | undefined
  #begun = 0
  /** Nothing goes before, whatever the windows say. Milliseconds on the monotonic clock, as all times here. */
  #heldUntil = 0
  /** What the provider said is left until its reset. */
  #told = { left: 0, until: 0 }

  constructor(allowances: readonly Allowance[]) {
    this.#windows = allowances.map((allowance) => new SlidingWindow(allowance))
  }

  /** Counts what an earlier process has sent: milliseconds since then, each. */
  restore(ages: readonly number[]): void {
    const now = performance.now()
    for (const window of this.#windows) {
      for (const age of ages) if (age < window.seconds * 1000) window.add(now - Math.max(0, age), 1)
    }
  }

  /** When somebody behind `ahead` others may go. */
  #openAt(now: number, ahead: number): number {
    const { left, until } = this.#told
    const told = until > now && left <= ahead ? until : now
    return Math.max(this.#heldUntil, told, ...this.#windows.map((window) => window.openAt(now, ahead)))
  }

  /** A turn, or after how many milliseconds it is worth another try: at once, if waiting would be in vain. */
  async take(deadline: Deadline): Promise<Turn | number> {
    const now = performance.now()
    const at = this.#openAt(now, this.#line.length)
    if (at <= now && this.#line.length === 0) return this.#begin(now)
    const patience = deadline.part(WAITING_SHARE)
    if (at - now > patience.remainingMs()) return at - now
    const { promise, resolve } = Promise.withResolvers<Turn>()
    this.#line.push(resolve)
    this.#serve()
    const turn = await patience.within(promise)
    if (turn) return turn
    const place = this.#line.indexOf(resolve)
    // Called in the same moment: the turn is taken.
    if (place === -1) return promise
    this.#line.splice(place, 1)
    this.#serve()
    const late = performance.now()
    return Math.max(0, this.#openAt(late, this.#line.length) - late)
  }

  /** Lets go whoever may, and comes back for the next: no timer runs while nobody waits. */
  #serve(): void {
    clearTimeout(this.#timer)
    for (;;) {
      const [next] = this.#line
      if (!next) return
      const now = performance.now()
      const at = this.#openAt(now, 0)
      if (at > now) {
        this.#timer = setTimeout(() => this.#serve(), Math.ceil(at - now))
        return
      }
      this.#line.shift()
      next(this.#begin(now))
    }
  }

  #begin(now: number): Turn {
    const marks = this.#windows.map((window): [SlidingWindow, Mark] => [window, window.begin(now)])
    this.#told.left -= 1
    const begun = (this.#begun += 1)
    return {
      end: (sent, pace) => {
        const now = performance.now()
        for (const [window] of marks) window.end(now, sent)
        if (pace) this.#learn(now, pace, marks, this.#begun - begun)
        this.#serve()
      },
    }
  }

  /** @param since How many have begun since the request that was answered: the provider may not have counted them. */
  #learn(now: number, { waitMs = 0, room }: Pace, marks: [SlidingWindow, Mark][], since: number): void {
    if (waitMs > 0) this.#heldUntil = Math.max(this.#heldUntil, now + Math.min(waitMs, LONGEST_HOLD))
    for (const told of room) {
      if ('windowSeconds' in told) {
        for (const [window, mark] of marks)
          if (window.seconds === told.windowSeconds) window.learn(now, mark, told.remaining)
        continue
      }
      const until = now + Math.min(told.resetSeconds * 1000, LONGEST_HOLD)
      const left = Math.max(0, told.remaining - since)
      // Told twice of one reset, the lower word holds; of a later one, the newer.
      const isSame = this.#told.until > now && until < this.#told.until + 1000
      this.#told = isSame
        ? { left: Math.min(left, this.#told.left), until: this.#told.until }
        : { left, until }
    }
  }
}

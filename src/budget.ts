import type { Allowance } from './adapter.ts'
import type { Deadline } from './deadline.ts'
import type { Pace } from './pace.ts'
import { type Mark, SlidingWindow } from './sliding-window.ts'

/** What a provider says holds everybody back for at most so long; then the next request finds out anew. Milliseconds. */
const LONGEST_HOLD = 60_000

/** The part of the time that is left that may be spent on waiting, so that enough is left for the request itself. */
const WAITING_SHARE = 0.75

/** Requests that may wait. Where there are no windows all of them go at once when a hold ends. */
const LONGEST_LINE = 512

/** Resets that are told less than this apart are one, for they are told in whole seconds. Milliseconds. */
const SAME_RESET = 1000

/** What a provider has said is left until a reset, less all that it may not have counted when it said so. */
interface Told {
  left: number
  until: number
}

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
  #running = 0
  /** Requests that were sent and ended without a word about what is left. */
  #untold = 0
  /** Nothing goes before, whatever the windows say. Milliseconds on the monotonic clock, as all times here. */
  #heldUntil = 0
  /** One for each policy that the provider tells of. Each is charged with every request that runs. */
  #told: Told[] = []

  constructor(allowances: readonly Allowance[]) {
    this.#windows = allowances.map((allowance) => new SlidingWindow(allowance))
  }

  /** Counts what an earlier process has sent: milliseconds since then, each. */
  restore(ages: readonly number[]): void {
    const now = performance.now()
    const times = ages.map((age) => now - Math.max(0, age))
    for (const window of this.#windows) window.restore(times)
  }

  /** When somebody behind `ahead` others may go, at the earliest: what keeps them may keep them one after the other. */
  #openAt(now: number, ahead: number): number {
    const told = this.#told.map(({ left, until }) => (left <= ahead ? until : now))
    const windows = this.#windows.map((window) => window.openAt(now, ahead))
    return Math.max(now, this.#heldUntil, ...told, ...windows)
  }

  /**
   * A turn, or after how many milliseconds at the earliest it is worth another try: at once, if waiting would be in vain.
   */
  async take(deadline: Deadline): Promise<Turn | number> {
    const now = performance.now()
    const at = this.#openAt(now, this.#line.length)
    if (at <= now && this.#line.length === 0) return this.#begin(now)
    const patience = deadline.part(WAITING_SHARE)
    if (at - now > patience.remainingMs() || this.#line.length >= LONGEST_LINE) return at - now
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
    return this.#openAt(late, this.#line.length) - late
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
    this.#charge(1)
    this.#running += 1
    const untold = this.#untold
    return {
      end: (sent, pace) => {
        const now = performance.now()
        this.#running -= 1
        for (const [window] of marks) window.end(now, sent)
        if (!sent) this.#charge(-1)
        // Others that were told of while this one ran have spoken for themselves.
        if (pace) this.#learn(now, pace, marks, this.#running + this.#untold - untold)
        if (sent && !pace?.room.length) this.#untold += 1
        this.#serve()
      },
    }
  }

  #charge(requests: number): void {
    for (const told of this.#told) told.left -= requests
  }

  /** @param uncounted Requests that the provider may not have counted when it answered. */
  #learn(now: number, { waitMs = 0, room }: Pace, marks: [SlidingWindow, Mark][], uncounted: number): void {
    this.#told = this.#told.filter(({ until }) => until > now)
    if (waitMs > 0) this.#heldUntil = Math.max(this.#heldUntil, now + Math.min(waitMs, LONGEST_HOLD))
    for (const told of room) {
      if ('windowSeconds' in told) {
        for (const [window, mark] of marks)
          if (window.seconds === told.windowSeconds) window.learn(now, mark, told.remaining)
        continue
      }
      const until = now + Math.min(told.resetSeconds * 1000, LONGEST_HOLD)
      const left = told.remaining - uncounted
      // Told twice of one reset, the lower word holds. What is kept is apart by so much, so it is never very much.
      const known = this.#told.find((other) => Math.abs(until - other.until) < SAME_RESET)
      if (known) known.left = Math.min(known.left, left)
      else this.#told.push({ left, until })
    }
  }
}

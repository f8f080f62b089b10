import type { Deadline } from '../lib/deadline.ts'
import type { Allowance } from '../model/adapter.ts'
import type { Pace } from './rate-headers.ts'
import { type Snapshot, SlidingWindow } from './sliding-window.ts'

/** Share of the remaining time that may be spent waiting: leave enough of it for the response. */
const WAITING_SHARE = 0.75

/** What lookups may take of a window, and of what a provider says is left: the rest is kept for changes and their reads. */
export const LOOKUP_SHARE = 0.75

/** Requests that may wait in a line. Where there are no windows all of them go at once when a hold ends. */
const LONGEST_LINE = 512

/** Reset times within this tolerance are the same reset: providers round to seconds. Milliseconds. */
const SAME_RESET = 1000

/** What a provider has said is left until a reset, less all that it may not have counted when it said so. */
interface ReportedQuota {
  left: number
  /** What lookups leave of it. */
  kept: number
  until: number
}

/** Those who wait for one reason, in the order in which they came. */
type Line = ((turn: Permit) => void)[]

/** Permission to send a request now. Its end must be reported. */
export interface Permit {
  /**
   * @param pace What the answer reported; undefined where there was none. `sent`: whether it may have reached the
   * provider.
   */
  end(sent: boolean, pace?: Pace): void
}

/**
 * Requests of one kind that a provider counts together. They go in the order in which they came, each as soon as every
 * window has room; lookups, which belong to no change, behind all others and within a share. An instance belongs to one
 * process or one object, like a queue.
 */
export class Budget {
  readonly #windows: readonly SlidingWindow[]
  /** What lookups may take of each window. */
  readonly #shares: readonly SlidingWindow[]
  readonly #changes: Line = []
  readonly #lookups: Line = []
  #timer: ReturnType<typeof setTimeout> | undefined
  #running = 0
  /** Requests that were sent and ended without a word about what is left. */
  #unreported = 0
  /** Nothing goes before, whatever the windows say. Milliseconds on the monotonic clock, as all times here. */
  #heldUntil = 0
  /** One for each policy that the provider reports. Each is charged with every request that runs. */
  #told: ReportedQuota[] = []

  /** What the provider says holds everybody back for at most so long; then the next request finds out anew. Milliseconds. */
  readonly #longestHold: number

  constructor(allowances: readonly Allowance[], longestHoldSeconds = 60) {
    this.#longestHold = longestHoldSeconds * 1000
    this.#windows = allowances.map((allowance) => new SlidingWindow(allowance))
    this.#shares = allowances.map(({ requests, seconds }) => {
      const share = Math.max(1, Math.floor(requests * LOOKUP_SHARE))
      return new SlidingWindow({ requests: share, seconds })
    })
  }

  /** Counts what an earlier process has sent: milliseconds since then, each. */
  restore(ages: readonly number[]): void {
    const now = performance.now()
    const times = ages.map((age) => now - Math.max(0, age))
    for (const window of this.#windows) window.restore(times)
  }

  /**
   * The earliest time for a request queued behind all others, or behind the first of them; each of those may have to
   * wait in turn.
   */
  #openAt(now: number, isLookup: boolean, isFirst = false): number {
    const ofItsOwn = isFirst ? 0 : isLookup ? this.#lookups.length : this.#changes.length
    const ahead = ofItsOwn + (isLookup ? this.#changes.length : 0)
    const told = this.#told.map(({ left, kept, until }) =>
      left - (isLookup ? kept : 0) <= ahead ? until : now,
    )
    const windows = this.#windows.map((window) => window.openAt(now, ahead))
    const shares = isLookup ? this.#shares.map((share) => share.openAt(now, ofItsOwn)) : []
    return Math.max(now, this.#heldUntil, ...told, ...windows, ...shares)
  }

  /**
   * A turn, or after how many milliseconds at the earliest it is worth another try: at once, if waiting would be in vain.
   * @param isLookup Whether it belongs to no change.
   */
  async take(deadline: Deadline, isLookup = false): Promise<Permit | number> {
    const now = performance.now()
    const line = isLookup ? this.#lookups : this.#changes
    const at = this.#openAt(now, isLookup)
    if (at <= now && line.length === 0 && this.#changes.length === 0) return this.#begin(now, isLookup)
    const patience = deadline.part(WAITING_SHARE)
    if (at - now > patience.remainingMs() || line.length >= LONGEST_LINE) return at - now
    const { promise, resolve } = Promise.withResolvers<Permit>()
    line.push(resolve)
    this.#serve()
    const turn = await patience.within(promise)
    if (turn) return turn
    const place = line.indexOf(resolve)
    // Called in the same moment: the turn is taken.
    if (place === -1) return promise
    line.splice(place, 1)
    this.#serve()
    const late = performance.now()
    return this.#openAt(late, isLookup) - late
  }

  /** Releases every request that may go, and schedules the next round: no timer runs while the queue is empty. */
  #serve(): void {
    clearTimeout(this.#timer)
    for (;;) {
      // What holds a change back holds a lookup back too, so only the first in the queue is asked.
      const isLookup = this.#changes.length === 0
      const line = isLookup ? this.#lookups : this.#changes
      const [next] = line
      if (!next) return
      const now = performance.now()
      const at = this.#openAt(now, isLookup, true)
      if (at > now) {
        this.#timer = setTimeout(() => this.#serve(), Math.ceil(at - now))
        return
      }
      line.shift()
      next(this.#begin(now, isLookup))
    }
  }

  #begin(now: number, isLookup: boolean): Permit {
    const shares = isLookup ? this.#shares : []
    for (const share of shares) share.begin(now)
    const marks = this.#windows.map((window): [SlidingWindow, Snapshot] => [window, window.begin(now)])
    this.#charge(1)
    this.#running += 1
    const unreported = this.#unreported
    return {
      end: (sent, pace) => {
        const now = performance.now()
        this.#running -= 1
        for (const [window] of marks) window.end(now, sent)
        for (const share of shares) share.end(now, sent)
        if (!sent) this.#charge(-1)
        // Responses received meanwhile have already reported their own quota.
        if (pace) this.#observe(now, pace, marks, this.#running + this.#unreported - unreported)
        if (sent && !pace?.room.length) this.#unreported += 1
        this.#serve()
      },
    }
  }

  #charge(requests: number): void {
    for (const told of this.#told) told.left -= requests
  }

  /** @param uncounted Requests that the provider may not have counted when it answered. */
  #observe(
    now: number,
    { waitMs = 0, room }: Pace,
    marks: [SlidingWindow, Snapshot][],
    uncounted: number,
  ): void {
    this.#told = this.#told.filter(({ until }) => until > now)
    if (waitMs > 0) this.#heldUntil = Math.max(this.#heldUntil, now + Math.min(waitMs, this.#longestHold))
    for (const told of room) {
      if ('windowSeconds' in told) {
        for (const [window, mark] of marks)
          if (window.seconds === told.windowSeconds) window.learn(now, mark, told.remaining)
        continue
      }
      const until = now + Math.min(told.resetSeconds * 1000, this.#longestHold)
      const left = told.remaining - uncounted
      // If the same reset is reported twice, keep the lower remaining count. The list stays short, because its
      // entries are at least that far apart.
      const known = this.#told.find((other) => Math.abs(until - other.until) < SAME_RESET)
      if (known) known.left = Math.min(known.left, left)
      else this.#told.push({ left, kept: Math.floor(Math.max(0, left) * (1 - LOOKUP_SHARE)), until })
    }
  }
}

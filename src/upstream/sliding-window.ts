import type { Allowance } from '../model/adapter.ts'

/** The provider's clock may run slower than ours, and tells whole milliseconds: a window is taken for so much longer. */
const LONGER = 1.01

/** What was known when a request began; a later answer is compared with it to see what has happened since. */
export interface Snapshot {
  counted: number
  begun: number
}

/**
 * A sliding window of requests at a provider. Nobody knows when between its beginning and its end the provider counted a
 * request, so it takes a place from the one until a window's length after the other. Times are milliseconds of one clock.
 */
export class SlidingWindow {
  readonly requests: number
  readonly seconds: number
  readonly #ms: number
  /** When those that still count have ended, oldest first. */
  readonly #ended: number[] = []
  #running = 0
  /** Places ever taken. */
  #begun = 0

  constructor({ requests, seconds }: Allowance) {
    this.requests = requests
    this.seconds = seconds
    this.#ms = seconds * 1000 * LONGER
  }

  #counted(now: number): number {
    const live = this.#ended.findIndex((at) => now < at + this.#ms)
    this.#ended.splice(0, live === -1 ? this.#ended.length : live)
    return this.#ended.length + this.#running
  }

  /** When there is room for one more behind `ahead` others: at the earliest, for those that run may take longer. */
  openAt(now: number, ahead: number): number {
    const counted = this.#counted(now)
    let later = 0
    for (let place = counted + ahead; place >= this.requests;) {
      // It comes free a window's length after the end of whoever has it, or will have had it by then.
      place -= this.requests
      later += this.#ms
      if (place < counted) return (this.#ended[place] ?? now) + later
    }
    return now + later
  }

  begin(now: number): Snapshot {
    this.#running += 1
    this.#begun += 1
    return { counted: this.#counted(now), begun: this.#begun }
  }

  /** @param sent Whether it may have reached the provider. */
  end(now: number, sent: boolean): void {
    this.#running -= 1
    if (sent) this.#ended.push(now)
  }

  /** Takes places for what an earlier process has sent; no time is later than now. */
  restore(times: readonly number[]): void {
    this.#begun += times.length
    for (const at of times) this.#ended.push(at)
    this.#ended.sort((a, b) => a - b)
  }

  /** The provider has reported how much is left. What it counted beyond our own requests was sent by somebody else. */
  learn(now: number, { counted, begun }: Snapshot, remaining: number): void {
    const ours = counted + this.#begun - begun
    for (let strangers = this.requests - remaining - ours; strangers > 0; strangers--) {
      this.#begun += 1
      this.#ended.push(now)
    }
  }
}

/** The end of a change's time, on the monotonic clock. */
export class Deadline {
  readonly #end: number

  constructor(milliseconds: number) {
    this.#end = performance.now() + milliseconds
  }

  remainingMs(): number {
    return Math.max(0, this.#end - performance.now())
  }

  /** The value, or undefined when the deadline passes before it is there. */
  async within<T>(value: Promise<T>): Promise<T | undefined> {
    let timer: ReturnType<typeof setTimeout> | undefined
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), this.remainingMs())
    })
    try {
      return await Promise.race([value, late])
    } finally {
      clearTimeout(timer)
    }
  }

  /** The end of a part of the time that is left. */
  part(share: number): Deadline {
    return new Deadline(this.remainingMs() * share)
  }

  /** Waits, if the wait leaves some time afterwards; false means that it was not waited. */
  async sleep(milliseconds: number): Promise<boolean> {
    if (milliseconds >= this.remainingMs()) return false
    await new Promise((resolve) => setTimeout(resolve, milliseconds))
    return true
  }
}

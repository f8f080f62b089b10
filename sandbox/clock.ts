/** The provider's clock: real time plus an offset that a test moves. It keeps ticking. */
export interface Clock {
  now(): number
  iso(): string
  set(epochMs: number): void
  advance(ms: number): void
  reset(): void
}

export function createClock(): Clock {
  let offset = 0
  const now = () => Date.now() + offset
  return {
    now,
    iso: () => new Date(now()).toISOString(),
    set: (epochMs) => {
      offset = epochMs - Date.now()
    },
    advance: (ms) => {
      offset += ms
    },
    reset: () => {
      offset = 0
    },
  }
}

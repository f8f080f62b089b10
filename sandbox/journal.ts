/** An append-only list that forgets its oldest entries, and says how many. */
export interface Journal<T extends object> {
  add(entry: T): T & { seq: number }
  entries(): readonly (T & { seq: number })[]
  dropped(): number
  clear(): void
}

export function createJournal<T extends object>(capacity = 100_000): Journal<T> {
  let entries: (T & { seq: number })[] = []
  let next = 1
  return {
    add(entry) {
      const numbered = Object.assign(entry, { seq: next })
      next += 1
      entries.push(numbered)
      // Cut in large steps: shifting a long array once per request would cost more than the request.
      if (entries.length > capacity * 1.1) entries = entries.slice(-capacity)
      return numbered
    },
    entries: () => entries.slice(-capacity),
    dropped: () => next - 1 - Math.min(entries.length, capacity),
    clear() {
      entries = []
      next = 1
    },
  }
}

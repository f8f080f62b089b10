import { full } from '../faults/scale.ts'

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? Number.NaN
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2
}

/** How often each value occurs. */
export function tally(values: Iterable<string | number>): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const value of values) counts[value] = (counts[value] ?? 0) + 1
  return counts
}

/** One line with a campaign's figures, in the full form only. */
export function report(campaign: string, figures: Record<string, unknown>): void {
  if (!full) return
  const told = Object.entries(figures).map(([name, value]) => `${name} ${show(value)}`)
  console.log(`${campaign}: ${told.join(', ')}`)
}

/** `median (largest)` of times, everything else as it is. */
function show(value: unknown): string {
  if (Array.isArray(value)) {
    return value.length === 0
      ? 'none'
      : `median ${Math.round(median(value))} ms (most ${Math.round(Math.max(...value))})`
  }
  return typeof value === 'object' ? JSON.stringify(value) : String(value)
}

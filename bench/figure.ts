/** One row of the results: what was measured, and what it should be. */
export interface Figure {
  bench: string
  what: string
  measured: string
  /** Absent where a figure is only told. */
  goal?: { text: string; met: boolean }
}

/** Figures, a table in Markdown that stands by itself, and what the results say besides. */
export interface Tabled {
  figures: Figure[]
  table: string
  notes: string
}

/** Measures on an otherwise idle machine; `tell` says how far it is. */
export type Bench = (tell: (progress: string) => void) => Promise<Figure[] | Tabled>

/** The value that `share` of all others do not exceed (nearest rank). */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN
}

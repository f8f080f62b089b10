import type { AuditEvent } from './event.ts'
import type { ChangeFilter, ChangeRecord, EventFilter, Slice } from './types.ts'

/** What several stores answered together, newest first. */
export interface Gathered<T> extends Slice<T> {
  /** Connections that gave no answer: what they hold is missing from the rows. */
  unanswered: string[]
}

export interface Scope {
  /** Connections that are not asked, because they gave no answer a moment ago. */
  except: readonly string[]
  /** Whether the caller may see anything of this connection; others are not asked. */
  touches(connection: string): boolean
}

/** The events and changes of all connections, wherever each of them is kept. */
export interface History {
  events(filter: EventFilter & Scope): Promise<Gathered<AuditEvent>>
  changes(filter: ChangeFilter & Scope): Promise<Gathered<ChangeRecord>>
  /** The events of one change, oldest first; undefined when its connection gives no answer. */
  story(connection: string, changeId: string): Promise<AuditEvent[] | undefined>
}

/** One list out of many. What lies below the end of a slice that goes on is left for the next page. */
export function mergeSlices<T extends { id: string }>(slices: Slice<T>[], limit: number): Slice<T> {
  const ends = slices.flatMap(({ end }) => end ?? [])
  const horizon = ends.toSorted().at(-1) ?? ''
  const rows = slices
    .flatMap((slice) => slice.rows)
    .filter(({ id }) => id >= horizon)
    .toSorted((a, b) => (a.id < b.id ? 1 : -1))
  const page = rows.slice(0, limit)
  if (page.length < rows.length) return { rows: page, end: page.at(-1)?.id ?? null }
  return { rows, end: ends.length === 0 ? null : horizon }
}

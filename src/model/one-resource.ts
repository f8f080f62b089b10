import type { Adapter } from './adapter.ts'
import type { Kind } from './enums.ts'

/**
 * What the ids of one resource end with: the whole id, where no other leads to it. Resources are told apart by it wherever there
 * must be one of something for each: one writer, one count of secret changes, one order of its changes.
 */
export type EndOf = (connection: string, kind: Kind, id: string) => string

/** Plain, as ids are. */
export function endOfId(adapter: Adapter | undefined, kind: Kind, id: string): string {
  const spec = adapter?.kinds[kind]
  return spec?.alone === undefined ? id : id.slice(id.lastIndexOf(':'))
}

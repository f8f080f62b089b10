import type { Deviation, JsonObject } from './exchange.ts'

/** How an answer differs from what is stored. */
export interface Telling {
  tell?: JsonObject | undefined
  omit?: readonly string[] | undefined
}

const all = '*'

/** The provider's own stamp says that a write was handled, which is true of one that changed nothing else. */
const stamp = 'updated_at'

export const keeps = ({ keep = [] }: Deviation, name: string): boolean =>
  keep.includes(name) || (keep.includes(all) && name !== stamp)

/**
 * What is really stored of a write. `store` goes before `keep`, and a create has nothing to keep. A name that this
 * resource lacks is passed over: one fault may meet resources of several types.
 */
export function deviated<T extends object>(before: T | undefined, asked: T, deviation: Deviation): T {
  const kept = Object.entries(before ?? {}).filter(([name]) => keeps(deviation, name))
  const instead = [...kept, ...Object.entries(deviation.store ?? {})]
  return { ...asked, ...Object.fromEntries(instead.filter(([name]) => Object.hasOwn(asked, name))) }
}

/** What an answer says of a resource; told members are added where they are absent. */
export const told = (members: JsonObject, { tell, omit = [] }: Telling): JsonObject =>
  Object.fromEntries(Object.entries({ ...members, ...tell }).filter(([name]) => !omit.includes(name)))

/** A typo would make a fault that does nothing, and a test that passes. */
export const unknownMember = (
  { keep = [], store = {} }: Deviation,
  known: ReadonlySet<string>,
): string | undefined =>
  [...keep.filter((name) => name !== all), ...Object.keys(store)].find((name) => !known.has(name))

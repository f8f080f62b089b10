import type { KindSpec, Registry } from '../model/adapter.ts'
import { type Kind, kinds } from '../model/enums.ts'
import { fieldsOf } from '../model/fields.ts'
import { parseId, type ResourceAddress } from '../model/resource-id.ts'
import type { CallerConfig, ConnectionConfig, Rule } from './document.ts'

/** What an operator wrote that grants nothing, nor leads anywhere: a slip, as a rule. */
export interface NeverMatching {
  at: PropertyKey[]
  detail: string
}

interface Place {
  connection: string
  spec: KindSpec<Kind>
}

function placesOf(connections: ReadonlyMap<string, ConnectionConfig>, registry: Registry): Place[] {
  return [...connections.values()].flatMap(({ name, provider }) =>
    Object.values(registry[provider]?.kinds ?? {}).map((spec) => ({
      connection: name,
      spec: spec as KindSpec<Kind>,
    })),
  )
}

const fits = ({ connection, spec }: Place, address: ResourceAddress): boolean =>
  address.connection === connection &&
  address.parts.length === spec.key.length &&
  address.parts.every((part) => spec.checkKey(part) === undefined)

/** Whether an id of the place could match. True where that is not certain. */
function mayMatch(glob: string, place: Place): boolean {
  const literals = glob.split(/(?<!\\)\*/).map((literal) => literal.replaceAll('\\*', '*'))
  const [first = '', ...more] = literals
  if (more.length === 0) {
    const read = parseId(first)
    return read.ok && fits(place, read.value)
  }
  const prefix = `${place.connection}:`
  if (!first.startsWith(prefix) && !prefix.startsWith(first)) return false
  const text = literals.join('')
  // One colon before each part of the key.
  return text.split(':').length - 1 <= place.spec.key.length && !/[/?#\p{C}]/u.test(text)
}

function inRule(rule: Rule, places: readonly Place[], at: PropertyKey[]): NeverMatching[] {
  // The history of a connection that was taken out can still be audited.
  const isForHistory = rule.actions.every((action) => action === 'audit')
  return [
    ...rule.ids.flatMap((glob, index) =>
      isForHistory || places.some((place) => mayMatch(glob, place))
        ? []
        : [{ at: [...at, 'ids', index], detail: 'matches no id of any connection' }],
    ),
    ...rule.fields.flatMap((name, index) =>
      name === '*' || kinds.some((kind) => Object.hasOwn(fieldsOf(kind), name))
        ? []
        : [{ at: [...at, 'fields', index], detail: 'is no field of any kind' }],
    ),
  ]
}

/** Rules and aliases that can never match anything, each with its place in the document. */
export function findNeverMatching(
  registry: Registry,
  connections: ReadonlyMap<string, ConnectionConfig>,
  aliases: ReadonlyMap<string, ResourceAddress>,
  callers: readonly CallerConfig[],
): NeverMatching[] {
  const places = placesOf(connections, registry)
  return [
    ...[...aliases].flatMap(([name, address]) =>
      places.some((place) => fits(place, address))
        ? []
        : [{ at: ['aliases', name], detail: 'leads to no id that its connection can have' }],
    ),
    ...callers.flatMap(({ allow }, caller) =>
      allow.flatMap((rule, index) => inRule(rule, places, ['callers', caller, 'allow', index])),
    ),
  ]
}

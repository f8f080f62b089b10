import type { JsonObject } from '../exchange.ts'
import type { Query } from './query.ts'
import {
  isResourceType,
  type Linkage,
  organizationId,
  resources,
  type ResourceType,
  seeds,
  type Stored,
} from './resources.ts'

/** Documents point at the published host, as the documentation's examples do. */
const published = 'https://provisioning.commercelayer.io'

export type Resource = Stored | { id: string; type: string; attributes: JsonObject }

const organization: Resource = {
  id: organizationId,
  type: 'organizations',
  attributes: {
    name: 'Sandbox organization',
    slug: 'sandbox-organization',
    domain: 'sandbox-organization.commercelayer.io',
    created_at: '2018-01-01T12:00:00.000Z',
    updated_at: '2018-01-01T12:00:00.000Z',
    reference: null,
    reference_origin: null,
    metadata: {},
  },
}

export interface Store {
  all(type: ResourceType): Stored[]
  find(type: string, id: string): Stored | undefined
  put(resource: Stored): Stored
  remove(resource: Stored): void
  /** What a relationship leads to: one resource, none, or a list for a to-many one. */
  related(resource: Stored, relationship: string): Resource | null | Resource[]
  clear(): void
}

export function createStore(): Store {
  const key = (type: string, id: string) => `${type}/${id}`
  let held = new Map<string, Stored>()

  const store: Store = {
    all: (type) => [...held.values()].filter((resource) => resource.type === type),
    find: (type, id) => held.get(key(type, id)),
    put(resource) {
      held.set(key(resource.type, resource.id), resource)
      return resource
    },
    remove: (resource) => void held.delete(key(resource.type, resource.id)),
    related(resource, relationship) {
      const table = resources[resource.type]
      const toMany = Object.hasOwn(table.toMany, relationship) ? table.toMany[relationship] : undefined
      if (toMany)
        return isResourceType(toMany.type)
          ? store
              .all(toMany.type)
              .filter(({ relationships }) => relationships['role']?.data?.id === resource.id)
          : []
      const link = resource.relationships[relationship]?.data ?? null
      if (!link) return null
      return link.type === 'organizations' ? organization : (store.find(link.type, link.id) ?? null)
    },
    clear() {
      held = new Map(seeds.map((seed) => [key(seed.type, seed.id), seed]))
    },
  }
  store.clear()
  return store
}

const linkage = ({ type, id }: Resource): Linkage => ({ type, id })

type Shape = Pick<Query, 'include' | 'fields'>

/** The JSON:API form of a resource; relationship `data` stands only where it was included. */
export function rendered(resource: Resource, store: Store, { include, fields }: Shape): JsonObject {
  const self = `${published}/api/${resource.type}/${resource.id}`
  const chosen = fields.get(resource.type)
  const wanted = (name: string) => !chosen || chosen.has(name)
  const attributeOrder = isStored(resource)
    ? Object.entries(resources[resource.type].attributes).flatMap(([name, { trigger }]) =>
        trigger ? [] : [name],
      )
    : Object.keys(resource.attributes)
  const relationshipOrder = isStored(resource) ? resources[resource.type].relationshipOrder : []

  return {
    id: resource.id,
    type: resource.type,
    links: { self },
    attributes: Object.fromEntries(
      attributeOrder.filter(wanted).map((name) => [name, resource.attributes[name] ?? null]),
    ),
    relationships: Object.fromEntries(
      relationshipOrder.filter(wanted).map((name) => {
        const links = { self: `${self}/relationships/${name}`, related: `${self}/${name}` }
        if (!include.includes(name) || !isStored(resource)) return [name, { links }]
        const target = store.related(resource, name)
        const data = Array.isArray(target) ? target.map(linkage) : target && linkage(target)
        return [name, { links, data }]
      }),
    ),
  }
}

const isStored = (resource: Resource): resource is Stored => isResourceType(resource.type)

/** Every resource that the includes lead to, each once (JSON:API 1.0 §Compound Documents). */
export function included(from: Resource[], store: Store, shape: Shape): { included?: JsonObject[] } {
  if (shape.include.length === 0) return {}
  const reached = new Map<string, Resource>()
  for (const resource of from.filter(isStored))
    for (const name of shape.include)
      for (const target of [store.related(resource, name) ?? []].flat())
        reached.set(`${target.type}/${target.id}`, target)
  const own = { ...shape, include: [] }
  return { included: [...reached.values()].map((resource) => rendered(resource, store, own)) }
}

/** The links of a list. The published example leaves out `/api`, and so does this one. */
export function pageLinks(path: string, { number, size }: Query['page'], pages: number): JsonObject {
  const to = (page: number) => `${published}/${path}?page[number]=${page}&page[size]=${size}`
  return {
    first: to(1),
    ...(number > 1 && { prev: to(number - 1) }),
    ...(number < pages && { next: to(number + 1) }),
    last: to(Math.max(pages, 1)),
  }
}

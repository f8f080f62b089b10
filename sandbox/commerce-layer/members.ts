import { deviated } from '../deviation.ts'
import { type Deviation, isObject, type JsonObject } from '../exchange.ts'
import { resources, roleLink, type Stored } from './resources.ts'

/** What a fault may name of a write: every attribute, and the role by its id. */
export const writableMembers: ReadonlySet<string> = new Set([
  'role',
  ...Object.values(resources).flatMap(({ attributes }) => Object.keys(attributes)),
])

const linkTo = (role: unknown) => roleLink(role === null ? null : String(role))

const membersOf = ({ attributes, relationships: { role } }: Stored): JsonObject => ({
  ...attributes,
  ...(role && { role: role.data?.id ?? null }),
})

/** The resource that is stored when `asked` was asked for. */
export function obeyed(before: Stored | undefined, asked: Stored, deviation: Deviation): Stored {
  const { role, ...attributes } = deviated(before && membersOf(before), membersOf(asked), deviation)
  const { relationships } = asked
  return {
    ...asked,
    attributes,
    relationships: relationships['role'] ? { ...relationships, role: linkTo(role) } : relationships,
  }
}

/**
 * A document whose primary resources tell what `change` makes of their members: `id`, `type`, the attributes, and
 * the role where its linkage stands. `included` stays as it is, and so contradicts another role.
 */
export function retoldDocument(body: unknown, change: (members: JsonObject) => JsonObject): unknown {
  if (!isObject(body) || !body['data']) return body
  const { data } = body
  return {
    ...body,
    data: Array.isArray(data) ? data.map((one) => retold(one, change)) : retold(data, change),
  }
}

function retold(resource: unknown, change: (members: JsonObject) => JsonObject): unknown {
  if (!isObject(resource) || !isObject(resource['attributes']) || !isObject(resource['relationships']))
    return resource
  const { relationships } = resource
  const link = isObject(relationships['role']) ? relationships['role'] : {}
  const { data: linkage, ...links } = link
  const linked = linkage !== undefined
  const { id, type, role, ...attributes } = change({
    id: resource['id'],
    type: resource['type'],
    ...resource['attributes'],
    ...(linked && { role: isObject(linkage) ? linkage['id'] : null }),
  })
  const relinked = role === undefined ? links : { ...links, ...linkTo(role) }
  // An omitted id or type is undefined, which JSON leaves out.
  return {
    ...resource,
    id,
    type,
    attributes,
    relationships: linked ? { ...relationships, role: relinked } : relationships,
  }
}

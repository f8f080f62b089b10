import { isObject, type JsonObject, parseJson } from '../exchange.ts'
import { type ApiError, apiError, invalid } from './errors.ts'
import {
  credentialKinds,
  type Linkage,
  organizationId,
  resources,
  type ResourceType,
  type Stored,
} from './resources.ts'
import type { Store } from './store.ts'

/** The writes of one request document, permitted but not yet validated. */
export interface Draft {
  attributes: JsonObject
  relationships: Record<string, { data: Linkage | null }>
}

const paramMissing = (name: string) =>
  apiError(400, 'PARAM_MISSING', 'Missing Parameter', `The required parameter, ${name}, is missing.`)
const paramNotAllowed = (name: string) =>
  apiError(400, 'PARAM_NOT_ALLOWED', 'Param not allowed', `${name} is not allowed.`)
const badFormat = (what: string) =>
  apiError(400, 'INVALID_DATA_FORMAT', 'Invalid data format', `${what} must be an object.`)

/**
 * Reads a request document in the order of jsonapi-resources: data, its form, id, id against the address,
 * type, then what may be written. `id` is the one in the address, undefined for a create.
 */
export function readDocument(type: ResourceType, id: string | undefined, source: string): Draft | ApiError[] {
  const parsed = parseJson(source)
  if (!parsed.ok || !isObject(parsed.value))
    return [apiError(400, 'BAD_REQUEST', 'Bad request', 'The body is no JSON object.')]
  const { data } = parsed.value
  if (data === undefined || data === null) return [paramMissing('data')]
  if (!isObject(data)) return [badFormat('data')]
  if (id !== undefined) {
    if (data['id'] === undefined || data['id'] === null || data['id'] === '')
      return [
        apiError(
          400,
          'KEY_ORDER_MISMATCH',
          'A key is required',
          'The resource object does not contain a key.',
        ),
      ]
    if (data['id'] !== id)
      return [
        apiError(
          400,
          'KEY_NOT_INCLUDED_IN_URL',
          'Key is not included in URL',
          `The URL does not support the key ${String(data['id'])}`,
        ),
      ]
  }
  if (data['type'] === undefined || data['type'] === null) return [paramMissing('type')]
  if (data['type'] !== type)
    return [
      apiError(
        400,
        'INVALID_RESOURCE',
        'Invalid resource',
        `${String(data['type'])} is not a valid resource here.`,
      ),
    ]

  const { attributes = {}, relationships = {} } = data
  if (!isObject(attributes)) return [badFormat('attributes')]
  if (!isObject(relationships)) return [badFormat('relationships')]
  const refused = [
    ...Object.keys(data).filter((name) => !membersOf(id).has(name)),
    ...Object.keys(attributes).filter((name) => !mayWrite(resources[type].attributes, name, id)),
    ...Object.keys(relationships).filter((name) => !mayWrite(resources[type].toOne, name, id)),
  ]
  if (refused.length > 0) return refused.map(paramNotAllowed)

  const links: Draft['relationships'] = {}
  for (const [name, { type: linked }] of Object.entries(resources[type].toOne)) {
    if (!Object.hasOwn(relationships, name)) continue
    const link = readLink(name, linked, relationships[name])
    if ('code' in link) return [link]
    links[name] = link
  }
  return { attributes, relationships: links }
}

const membersOf = (id: string | undefined) =>
  new Set(['type', 'attributes', 'relationships', 'links', 'meta', ...(id === undefined ? [] : ['id'])])

function mayWrite(
  table: Record<string, { writable?: 'create' | 'always' | 'update-only' }>,
  name: string,
  id: string | undefined,
): boolean {
  const writable = Object.hasOwn(table, name) ? table[name]?.writable : undefined
  return writable === 'always' || writable === (id === undefined ? 'create' : 'update-only')
}

function readLink(name: string, type: string, value: unknown): { data: Linkage | null } | ApiError {
  const data = isObject(value) ? value['data'] : undefined
  if (data === null) return { data }
  if (!isObject(data) || typeof data['type'] !== 'string' || typeof data['id'] !== 'string')
    return apiError(
      400,
      'INVALID_LINKS_OBJECT',
      'Invalid Links Object',
      `${name} needs data: a type and an id, or null.`,
    )
  if (data['type'] !== type)
    return apiError(400, 'TYPE_MISMATCH', 'Type Mismatch', `${data['type']} is not a valid type for ${name}.`)
  return { data: { type, id: data['id'] } }
}

/** Every broken validation of a resource as it would stand after the write. `sent` are the members that were sent. */
export function violations(next: Stored, sent: Draft, store: Store, enterprise: boolean): ApiError[] {
  const table = resources[next.type]
  const creating = !store.find(next.type, next.id)
  const found: ApiError[] = []

  for (const [name, attribute] of Object.entries(table.attributes)) {
    const wasSent = Object.hasOwn(sent.attributes, name)
    const value = sent.attributes[name]
    const blank = value === undefined || value === null || value === ''
    if (attribute.required && blank && (wasSent || creating))
      found.push(invalid(`attributes/${name}`, "can't be blank", { error: 'blank' }))
    else if (wasSent && value === null && !attribute.nullable)
      found.push(invalid(`attributes/${name}`, "can't be blank", { error: 'blank' }))
    else if (wasSent && value !== null) found.push(...wrongValue(name, attribute, value))
  }
  for (const [name, { required, type }] of Object.entries(table.toOne)) {
    const link = sent.relationships[name]?.data
    if (required && !link && creating)
      found.push(invalid(`relationships/${name}`, "can't be blank", { error: 'blank' }))
    else if (link && !exists(type, link.id, store))
      found.push(invalid(`relationships/${name}`, 'must exist', { error: 'required', value: link.id }))
  }
  if (next.type === 'api_credentials') found.push(...brokenRoleRules(next, store, enterprise))
  return found
}

const exists = (type: string, id: string, store: Store) =>
  type === 'organizations' ? id === organizationId : store.find(type, id) !== undefined

/** Strict about types, where the framework would coerce some of them: a sandbox that forgives hides mistakes. */
function wrongValue(
  name: string,
  { holds, range }: { holds: string; range?: { min: number; max: number } },
  value: unknown,
): ApiError[] {
  const at = `attributes/${name}` as const
  if (holds === 'object')
    return isObject(value) ? [] : [invalid(at, 'is invalid', { error: 'invalid', value })]
  if (holds === 'integer') {
    if (typeof value !== 'number') return [invalid(at, 'is not a number', { error: 'not_a_number', value })]
    if (!Number.isInteger(value))
      return [invalid(at, 'must be an integer', { error: 'not_an_integer', value })]
    if (range && value < range.min)
      return [
        invalid(at, `must be greater than or equal to ${range.min}`, {
          error: 'greater_than_or_equal_to',
          value,
          count: range.min,
        }),
      ]
    if (range && value > range.max)
      return [
        invalid(at, `must be less than or equal to ${range.max}`, {
          error: 'less_than_or_equal_to',
          value,
          count: range.max,
        }),
      ]
    return []
  }
  if (typeof value !== holds) return [invalid(at, 'is invalid', { error: 'invalid', value })]
  const closed = name === 'kind' ? credentialKinds : name === 'mode' ? new Set(['test', 'live']) : undefined
  if (closed && !closed.has(value as string))
    return [invalid(at, 'is not included in the list', { error: 'inclusion', value })]
  return []
}

/**
 * An integration needs a role; a sales channel or a web app cannot have one; custom roles need the Enterprise
 * plan (docs.commercelayer.io/provisioning/api-reference/api_credentials). The error's shape is an assumption.
 */
function brokenRoleRules(next: Stored, store: Store, enterprise: boolean): ApiError[] {
  const role = next.relationships['role']?.data
  const { kind } = next.attributes
  if (kind === 'integration' && !role)
    return [invalid('relationships/role', "can't be blank", { error: 'blank' })]
  if ((kind === 'sales_channel' || kind === 'webapp') && role)
    return [invalid('relationships/role', 'must be blank', { error: 'present', value: role.id })]
  if (role && !enterprise && store.find('roles', role.id)?.attributes['kind'] === 'custom')
    return [
      invalid('relationships/role', 'is not available on this plan', { error: 'invalid', value: role.id }),
    ]
  return []
}

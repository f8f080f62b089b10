import { apiError, type ApiError } from './errors.ts'
import { isResourceType, resources, type ResourceType, type Stored } from './resources.ts'

/** A read's query string, checked. Source of names: docs.commercelayer.io/provisioning; of codes: jsonapi-resources. */
export interface Query {
  include: string[]
  /** Sparse fieldsets: attribute and relationship names by resource type. */
  fields: Map<string, Set<string>>
  matches: (resource: Stored) => boolean
  order: (a: Stored, b: Stored) => number
  page: { size: number; number: number }
}

type Predicate = (value: unknown, argument: string) => boolean

const comparable = (value: unknown) => (value === null || value === undefined ? '' : String(value))
const listed: Predicate = (value, argument) => argument.split(',').includes(comparable(value))
const contained: Predicate = (value, argument) =>
  comparable(value).toLowerCase().includes(argument.toLowerCase())
const absent: Predicate = (value) => value === null || value === undefined
const empty: Predicate = (value) => comparable(value).trim() === ''
const compare = (value: unknown, argument: string) =>
  typeof value === 'number' ? value - Number(argument) : comparable(value).localeCompare(argument)

/** Longest names first, so that `not_eq` is not read as a field ending in `_not` compared by `eq`. */
const predicates: [name: string, holds: Predicate][] = [
  ['not_cont', (value, argument) => !contained(value, argument)],
  ['not_null', (value) => !absent(value, '')],
  ['not_eq', (value, argument) => comparable(value) !== argument],
  ['not_in', (value, argument) => !listed(value, argument)],
  ['present', (value) => !empty(value, '')],
  ['blank', empty],
  ['start', (value, argument) => comparable(value).startsWith(argument)],
  ['false', (value) => value === false],
  ['true', (value) => value === true],
  ['gteq', (value, argument) => compare(value, argument) >= 0],
  ['lteq', (value, argument) => compare(value, argument) <= 0],
  ['cont', contained],
  ['null', absent],
  ['end', (value, argument) => comparable(value).endsWith(argument)],
  ['eq', (value, argument) => comparable(value) === argument],
  ['gt', (value, argument) => compare(value, argument) > 0],
  ['lt', (value, argument) => compare(value, argument) < 0],
  ['in', listed],
]

const bracketed = /^(?<family>fields|page|filter)\[(?<name>[^\]]*)\](?:\[(?<inner>[^\]]*)\])?$/

const names = (list: string) => list.split(',').filter((name) => name !== '')

const pageSizeMax = 25

export function parseQuery(type: ResourceType, parameters: URLSearchParams): Query | ApiError[] {
  const problems: ApiError[] = []
  const reject = (code: string, title: string, detail: string) =>
    void problems.push(apiError(400, code, title, detail))
  const filters: ((resource: Stored) => boolean)[] = []
  const query: Query = {
    include: [],
    fields: new Map(),
    matches: (resource) => filters.every((holds) => holds(resource)),
    order: () => 0,
    page: { size: 10, number: 1 },
  }

  for (const [parameter, value] of parameters) {
    if (parameter === 'include') query.include = names(value)
    else if (parameter === 'sort') query.order = orderBy(names(value))
    const { family, name = '', inner } = bracketed.exec(parameter)?.groups ?? {}
    if (family === 'fields') query.fields.set(name, new Set(names(value)))
    if (family === 'page') setPage(query.page, name, value)
    if (family === 'filter' && name === 'q') addFilter(inner ?? '', value)
  }

  for (const name of query.include)
    if (!isRelationship(type, name))
      reject('INVALID_INCLUDE', 'Invalid field', `${name} is not a valid includable relationship of ${type}`)
  for (const [of, fields] of query.fields) {
    if (!isResourceType(of)) continue
    for (const name of fields)
      if (!readable(of, name) && !isRelationship(of, name))
        reject('INVALID_FIELD', 'Invalid field', `${name} is not a valid field for ${of}.`)
  }
  return problems.length > 0 ? problems : query

  function setPage(page: Query['page'], name: string, value: string) {
    const number = Number(value)
    const usable = Number.isInteger(number) && number >= 1 && (name !== 'size' || number <= pageSizeMax)
    if ((name !== 'size' && name !== 'number') || !usable)
      reject('INVALID_PAGE_VALUE', 'Invalid page value', `${value} is not a valid value for page ${name}.`)
    else page[name] = number
  }

  function addFilter(expression: string, argument: string) {
    const found = predicates.find(([name]) => expression.endsWith(`_${name}`))
    const field = found ? expression.slice(0, -found[0].length - 1) : expression
    if (!found || field === 'client_secret' || (field !== 'id' && !readable(type, field)))
      reject('FILTER_NOT_ALLOWED', 'Filter not allowed', `${expression} is not allowed.`)
    else filters.push((resource) => found[1](valueOf(resource, field), argument))
  }

  function orderBy(criteria: string[]): Query['order'] {
    const steps = criteria.map((name) => ({
      field: name.replace(/^-/, ''),
      sign: name.startsWith('-') ? -1 : 1,
    }))
    for (const { field } of steps)
      if (!resources[type].sortable.includes(field))
        reject(
          'INVALID_SORT_CRITERIA',
          'Invalid sort criteria',
          `${field} is not a valid sort criteria for ${type}`,
        )
    return (a, b) => {
      for (const { field, sign } of steps) {
        const difference = sign * comparable(valueOf(a, field)).localeCompare(comparable(valueOf(b, field)))
        if (difference !== 0) return difference
      }
      return 0
    }
  }
}

const valueOf = (resource: Stored, field: string) =>
  field === 'id' ? resource.id : resource.attributes[field]

const readable = (type: ResourceType, name: string) => {
  const attribute = Object.hasOwn(resources[type].attributes, name)
    ? resources[type].attributes[name]
    : undefined
  return attribute !== undefined && !attribute.trigger
}

const isRelationship = (type: ResourceType, name: string) => resources[type].relationshipOrder.includes(name)

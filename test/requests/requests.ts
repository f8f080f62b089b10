import * as fc from 'fast-check'
import { keys } from '../harness/configuration.ts'
import type { Json } from '../harness/sandbox-calls.ts'
import type { Described, Description } from './description.ts'
import type { Draft, Members } from './draft.ts'

/** Requests as the OpenAPI document describes them: everything about a route comes out of it. */

const text = fc.oneof(
  fc.string(),
  fc.string({ unit: 'binary', maxLength: 20 }),
  fc.string({ unit: 'grapheme' }),
)

const formats: Record<string, fc.Arbitrary<string>> = {
  'date-time': fc
    .date({ noInvalidDate: true, min: new Date('0001-01-01'), max: new Date('9999-12-31') })
    .map((date) => date.toISOString()),
  uri: fc.webUrl(),
  email: fc.emailAddress(),
  ip: fc.oneof(fc.ipV4(), fc.ipV6()),
  'ipv4-cidr': fc.tuple(fc.ipV4(), fc.nat(32)).map(([address, bits]) => `${address}/${bits}`),
  'ipv6-cidr': fc.tuple(fc.ipV6(), fc.nat(128)).map(([address, bits]) => `${address}/${bits}`),
}

/** A value of a schema. */
function valueOf(description: Description, given: Json): fc.Arbitrary<Json> {
  const schema = description.resolve(given)
  const example = schema.example === undefined ? [] : [fc.constant(schema.example)]
  const any = schema.anyOf ?? schema.oneOf
  if (any) return fc.oneof(...example, ...any.map((one: Json) => valueOf(description, one)))
  if (schema.enum) return fc.constantFrom(...schema.enum)
  const types: string[] = [schema.type ?? 'object'].flat()
  return fc.oneof(...example, ...types.map((type) => ofType(description, type, schema)))
}

function ofType(description: Description, type: string, schema: Json): fc.Arbitrary<Json> {
  const { minimum = -(2 ** 31), maximum = 2 ** 31, minLength = 0, maxLength = 60 } = schema
  switch (type) {
    case 'null':
      return fc.constant(null)
    case 'boolean':
      return fc.boolean()
    case 'integer':
    case 'number':
      // Mostly near the lower bound: pages of a thousand would take all the time there is.
      return fc.oneof(
        { weight: 20, arbitrary: fc.integer({ min: minimum, max: Math.min(maximum, minimum + 10) }) },
        fc.integer({ min: minimum, max: maximum }),
      )
    case 'array':
      return fc.array(valueOf(description, schema.items ?? {}), { maxLength: 4 })
    case 'string':
      if (schema.pattern) return fc.stringMatching(new RegExp(schema.pattern))
      return formats[schema.format] ?? text.filter(({ length }) => length >= minLength && length <= maxLength)
    default:
      return schema.properties
        ? membersOf(description, schema).map((members) =>
            Object.fromEntries(members.map(([name, value]) => [JSON.parse(name), JSON.parse(value)])),
          )
        : fc.dictionary(fc.string({ minLength: 1, maxLength: 8 }), fc.jsonValue({ maxDepth: 2 }), {
            maxKeys: 4,
          })
  }
}

/** Some of the members that the schema allows; those that it requires are never left out. */
function membersOf(description: Description, given: Json): fc.Arbitrary<Members> {
  const schema = description.resolve(given)
  const required: string[] = schema.required ?? []
  const entries = Object.entries<Json>(schema.properties ?? {}).map(([name, one]) => {
    const value = valueOf(description, one).map((value): Members => [
      [JSON.stringify(name), JSON.stringify(value)],
    ])
    return required.includes(name)
      ? value
      : fc.oneof({ weight: 4, arbitrary: fc.constant<Members>([]) }, { weight: 1, arbitrary: value })
  })
  return fc.tuple(...entries).map((all) => all.flat())
}

/** Every key that the gateway knows, mostly the one that may do everything; none, wrong ones, and two at once. */
const credentials = fc.oneof(
  { weight: 12, arbitrary: fc.constant<Draft['headers']>([['X-API-Key', keys.admin]]) },
  { weight: 4, arbitrary: fc.constant<Draft['headers']>([['Authorization', `Bearer ${keys.admin}`]]) },
  {
    weight: 6,
    arbitrary: fc.constantFrom(...Object.values(keys)).map((key): Draft['headers'] => [['X-API-Key', key]]),
  },
  {
    weight: 3,
    arbitrary: fc.constantFrom<Draft['headers']>(
      [],
      [['X-API-Key', '@CANARY@']],
      [['X-API-Key', 'cgw_admin_@CANARY@']],
      [['X-API-Key', `${keys.admin}@CANARY@`]],
      [['X-API-Key', '']],
      [['Authorization', 'Bearer @CANARY@']],
      [['Authorization', 'Bearer']],
      [['Authorization', 'Basic @CANARY@']],
      [['Authorization', `bEaReR  ${keys.reader}`]],
      [
        ['Authorization', `Bearer ${keys.admin}`],
        ['X-API-Key', keys.admin],
      ],
      [
        ['X-API-Key', keys.admin],
        ['X-API-Key', keys.reader],
      ],
      [
        ['Authorization', `Bearer ${keys.admin}`],
        ['Authorization', 'Bearer @CANARY@'],
      ],
    ),
  },
)

/** Texts out of replies (ids, entity tags, cursors), so that requests reach what earlier ones have made. */
export interface Pool {
  texts: string[]
}

const MAX_POOL = 200

/** Keeps what a later request could name. */
export function harvest(pool: Pool, value: Json): void {
  if (typeof value === 'string') {
    if (/^"[\w-]+"$|^[0-9a-f]{8}-[0-9a-f-]{27}$|^[a-z-]+:[\w:. -]+$/.test(value)) pool.texts.push(value)
    if (pool.texts.length > MAX_POOL) pool.texts.splice(0, MAX_POOL / 2)
  } else if (typeof value === 'object' && value !== null) {
    for (const member of Object.values(value)) harvest(pool, member)
  }
}

/** Printable ASCII, as a header can carry it. */
const headerText = fc.string({
  unit: fc.integer({ min: 0x21, max: 0x7e }).map((code) => String.fromCharCode(code)),
})

/**
 * A request that the document allows. What it takes out of the pool is chosen when the request is made, by index, so
 * that the same draws give the same request as long as the pool does not change.
 */
function requestOf(description: Description, operation: Described, pool: Pool): fc.Arbitrary<Draft> {
  const pooled = fc.nat().map((index) => pool.texts[index % Math.max(1, pool.texts.length)] ?? 'none')
  const parameter = ({
    schema,
    examples = {},
    required,
    in: place,
  }: Json): fc.Arbitrary<string | undefined> => {
    const given = Object.values<Json>(examples).map(({ value }) => fc.constant<string>(value))
    const shown = given.length > 0 ? fc.oneof(...given) : undefined
    const free = !schema.enum && !schema.pattern && schema.type === 'string' && !schema.format
    const own = place === 'header' ? headerText : valueOf(description, schema).map(String)
    const value = fc.oneof(
      ...(shown ? [{ weight: 8, arbitrary: shown }] : []),
      ...(free ? [{ weight: 2, arbitrary: pooled }] : []),
      { weight: shown ? 1 : 4, arbitrary: own },
    )
    return required
      ? value
      : fc.oneof({ weight: 5, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: value })
  }
  const parameters = fc.tuple(
    ...operation.parameters.map((one) => parameter(one).map((value) => ({ one, value }))),
  )
  const body = operation.body
    ? fc.oneof(
        ...Object.values(operation.body.examples).map(({ value }) =>
          fc.constant<Members>(
            Object.entries(value).map(([name, one]) => [JSON.stringify(name), JSON.stringify(one)]),
          ),
        ),
        membersOf(description, operation.body.schema),
      )
    : fc.constant(undefined)
  const canary = fc.stringMatching(/^cnry[0-9a-f]{16}$/)
  return fc.record({ parameters, body, credentials, canary }).map((drawn): Draft => {
    const given = drawn.parameters.flatMap(({ one, value }) =>
      value === undefined ? [] : [{ place: one.in as string, name: one.name as string, value }],
    )
    const at = (place: string) => given.filter((one) => one.place === place)
    const path = operation.path.replace(/\{(\w+)\}/g, (_, name: string) =>
      encodeURIComponent(
        at('path')
          .find((one) => one.name === name)
          ?.value.toWellFormed() || 'x',
      ),
    )
    const query = at('query').map(({ name, value }) => `${name}=${encodeURIComponent(value.toWellFormed())}`)
    return {
      method: operation.method,
      target: query.length > 0 ? `${path}?${query.join('&')}` : path,
      version: '1.1',
      headers: [
        ['Host', 'gateway.example'],
        ...drawn.credentials,
        ...at('header').map(({ name, value }): [string, string] => [name, value]),
        ...(drawn.body ? [['Content-Type', 'application/json'] as [string, string]] : []),
      ],
      ...(drawn.body && { body: { members: drawn.body } }),
      framing: 'length',
      copies: 1,
      parameters: operation.parameters.map((one) => ({ in: one.in, name: one.name })),
      mutations: [],
      canary: drawn.canary,
    }
  })
}

export const validRequest = (description: Description, pool: Pool): fc.Arbitrary<Draft> =>
  fc.oneof(
    ...description.operations.map((operation) => ({
      // Changes are what the gateway is for; the rest is the same for all.
      weight: operation.body ? 4 : 1,
      arbitrary: requestOf(description, operation, pool),
    })),
  )

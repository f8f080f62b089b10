import * as fc from 'fast-check'
import { readBody } from '../../src/change/merge.ts'
import type { Json, JsonObject } from '../../src/lib/json.ts'
import { type Kind } from '../../src/model/enums.ts'
import {
  type AnyCapabilities,
  type AnyValues,
  type Capability,
  type FieldName,
  fieldsOf,
  isWritable,
  schemaFor,
} from '../../src/model/fields.ts'

/** What a caller may send for a field, within the provider's bounds. */
type Sendable = (capability: Capability) => fc.Arbitrary<Json>

const text = () => fc.string({ unit: 'grapheme', maxLength: 20 })
const list = (element: fc.Arbitrary<string>, { maxItems = 4 }: Capability) =>
  fc.uniqueArray(element, { maxLength: maxItems })
// The gateway refuses `__proto__` before any adapter sees it.
const object = () =>
  fc
    .dictionary(fc.string({ maxLength: 8 }), fc.jsonValue({ maxDepth: 2 }), {
      maxKeys: 4,
      noNullPrototype: true,
    })
    .filter((value) => !JSON.stringify(value).includes('__proto__')) as fc.Arbitrary<JsonObject>
const address = () =>
  fc.oneof(
    fc.ipV4(),
    fc.tuple(fc.ipV4(), fc.integer({ min: 0, max: 32 })).map(([ip, length]) => `${ip}/${length}`),
    fc.ipV6(),
  )
const instant = () =>
  fc
    .date({ min: new Date(0), max: new Date('9999-12-31T23:59:59.999Z'), noInvalidDate: true })
    .map((date) => date.toISOString())

const reference = { reference: text, referenceOrigin: text, metadata: object }

const sendable = {
  credential: {
    name: text,
    description: text,
    email: () => fc.emailAddress(),
    enabled: () => fc.boolean(),
    secret: text,
    roles: (capability) => list(text(), capability),
    allowedIps: (capability) => list(address(), capability),
    expiresAt: instant,
    tokenLifetime: ({ minimum = 0, maximum = 2 ** 31 }) => fc.integer({ min: minimum, max: maximum }),
    redirectUri: () => fc.webUrl(),
    ...reference,
    kind: text,
    mode: text,
    clientId: text,
    scopes: text,
    confidential: () => fc.boolean(),
    custom: () => fc.boolean(),
    createdAt: instant,
    updatedAt: instant,
  },
  role: { name: text, kind: text, ...reference },
  permission: {
    canCreate: () => fc.boolean(),
    canRead: () => fc.boolean(),
    canUpdate: () => fc.boolean(),
    canDestroy: () => fc.boolean(),
    subject: text,
    restrictions: object,
    ...reference,
  },
} satisfies { [K in Kind]: Record<FieldName<K>, Sendable> }

/** Values of one field that the gateway lets through to the adapter. */
export function valuesOf(kind: Kind, name: string, capability: Capability): fc.Arbitrary<Json> {
  const schema = schemaFor(kind, name, capability)
  const table: Readonly<Record<string, Sendable>> = sendable[kind]
  const values = table[name]?.(capability).filter((value) => schema.safeParse(value).success)
  if (!values) throw new TypeError(`there are no values for the ${kind} field ${name}`)
  return capability.nullable ? fc.option(values, { nil: null }) : values
}

export const writableFields = (capabilities: AnyCapabilities): [string, Capability][] =>
  Object.entries(capabilities).filter(
    (entry): entry is [string, Capability] => entry[1] !== undefined && isWritable(entry[1]),
  )

/** Fields of the model that a caller cannot set here: unsupported, read-only and immutable ones. */
export const otherFields = (kind: Kind, capabilities: AnyCapabilities): string[] =>
  Object.keys(fieldsOf(kind)).filter((name) => !capabilities[name] || !isWritable(capabilities[name]))

/** Bodies of a PUT with any of the writable fields, from none to all of them. */
export const bodiesOf = (kind: Kind, capabilities: AnyCapabilities): fc.Arbitrary<JsonObject> =>
  fc
    .subarray(writableFields(capabilities))
    .chain((fields) =>
      fc.record(
        Object.fromEntries(fields.map(([name, capability]) => [name, valuesOf(kind, name, capability)])),
      ),
    )

/** The body as the gateway hands it to an adapter: dates in one spelling, secrets wrapped. */
export function accepted(kind: Kind, capabilities: AnyCapabilities, body: JsonObject): AnyValues {
  if (Object.keys(body).length === 0) return {}
  const read = readBody(kind, capabilities, body, 'merge')
  if (!read.ok) throw new TypeError(`the gateway would refuse the body: ${read.problem.detail}`)
  return read.value
}

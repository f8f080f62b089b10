import { isDeepStrictEqual } from 'node:util'
import { z } from 'zod'
import { isObject } from '../../src/lib/json.ts'
import { Secret } from '../../src/lib/secret.ts'
import type { Adapter, Auth, KindSpec } from '../../src/model/adapter.ts'
import { type Kind } from '../../src/model/enums.ts'
import { type AnyCapabilities, fieldsOf } from '../../src/model/fields.ts'
import { problems } from '../../src/model/problems.ts'
import { Unreadable } from '../../src/model/unreadable.ts'

/**
 * The adapter with each of its functions held to the port's laws on every call: inputs are deep-frozen, the clock,
 * chance and the outside throw, an equal input must give an equal output, and the result must be what the port's types
 * promise. Whoever breaks a law throws, so any test that calls a lawful adapter tests the laws as well.
 */
export function lawful(adapter: Adapter): Adapter {
  const kinds = Object.entries(adapter.kinds).map(([kind, spec]) => [
    kind,
    lawfulKind(kind as Kind, spec as KindSpec<Kind>),
  ])
  return { ...adapter, auth: adapter.auth.map(lawfulAuth), kinds: Object.fromEntries(kinds) }
}

function lawfulKind(kind: Kind, spec: KindSpec<Kind>): KindSpec<Kind> {
  const { key, example, fields, read } = spec
  const shapes = shapesOf(kind, fields)
  return {
    key,
    example,
    fields,
    checkKey: held(spec.checkKey, z.string().min(1).optional()),
    ...(read && {
      read: {
        request: held(read.request, shapes.request),
        parse: held(read.parse, parsedOf(shapes.current, shapes.refusal)),
      },
    }),
    plan: held(spec.plan, parsedOf(shapes.request, shapes.refusal)),
    parse: held(spec.parse, shapes.reported),
  }
}

function lawfulAuth(auth: Auth): Auth {
  if (auth.scheme === 'header') return auth
  return { ...auth, parse: held(auth.parse, parsedOf(token, refusalOf([]))) }
}

/** The function under the laws. */
export function held<Inputs extends readonly unknown[], Output>(
  call: (...inputs: Inputs) => Output,
  shape: z.ZodType,
): (...inputs: Inputs) => Output {
  return (...inputs) => {
    const again = frozen(copied(inputs))
    const [first, second] = isolated(() => [call(...frozen(inputs)), call(...again)])
    if (!isDeepStrictEqual(first, second)) throw new Error('equal inputs gave unequal outputs')
    shape.parse(first)
    return first
  }
}

function frozen<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value)
    Object.values(value).forEach(frozen)
  }
  return value
}

function copied<T>(value: T): T {
  if (Array.isArray(value)) return value.map(copied) as T
  // Of these there are no others, and nobody can alter them.
  if (!isObject(value) || value instanceof Secret || value instanceof Unreadable || isRawNumber(value))
    return value
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, copied(member)])) as T
}

/** A number in the spelling of a provider. */
const isRawNumber = (value: unknown): boolean =>
  (JSON as unknown as { isRawJSON(value: unknown): boolean }).isRawJSON(value)

const refuseToWork = (name: string) => () => {
  throw new Error(`an adapter called ${name}`)
}

/** Dates can be read from text and written, not taken from the clock. */
class DateWithoutClock extends Date {
  constructor(...parts: [] | [number | string | Date]) {
    if (parts[0] === undefined) throw new Error('an adapter called new Date()')
    super(parts[0])
  }
  static override now = refuseToWork('Date.now')
}

const forbidden: readonly [object: object, name: string, replacement?: unknown][] = [
  [globalThis, 'fetch'],
  [globalThis, 'setTimeout'],
  [globalThis, 'setInterval'],
  [globalThis, 'setImmediate'],
  [globalThis, 'queueMicrotask'],
  [Math, 'random'],
  [performance, 'now'],
  [crypto, 'randomUUID'],
  [crypto, 'getRandomValues'],
  [Date, 'now'],
  [globalThis, 'Date', DateWithoutClock],
]

const gates = forbidden.map(([object, name, value = refuseToWork(name)]) => ({
  object,
  name,
  open: Object.getOwnPropertyDescriptor(object, name),
  shut: { value, configurable: true, writable: true },
}))

function isolated<T>(run: () => T): T {
  for (const { object, name, shut } of gates) Object.defineProperty(object, name, shut)
  try {
    return run()
  } finally {
    for (const { object, name, open } of gates) {
      if (open) Object.defineProperty(object, name, open)
      else Reflect.deleteProperty(object, name)
    }
  }
}

// The port's types (src/model/adapter.ts) as schemas.

const isBody = (value: unknown): boolean => {
  if (value === null || value instanceof Secret || isRawNumber(value)) return true
  if (typeof value === 'object') return Object.values(value).every(isBody)
  return typeof value === 'number' ? Number.isFinite(value) : ['string', 'boolean'].includes(typeof value)
}
const body = z.custom(isBody, { error: 'is not JSON' })

const parsedOf = (value: z.ZodType, refusal: z.ZodType) =>
  z.union([z.strictObject({ ok: z.literal(true), value }), z.strictObject({ ok: z.literal(false), refusal })])

const refusalOf = (fields: readonly string[]) =>
  z.strictObject({
    problem: z.enum(Object.keys(problems)),
    detail: z.string().min(1),
    errors: z
      .array(
        z.strictObject({
          pointer: z.enum(['#', ...fields.map((name) => `#/${name}`)]),
          code: z.string().regex(/^[a-z-]+$/),
          detail: z.string().min(1),
        }),
      )
      .min(1)
      .optional(),
    staleToken: z.boolean().optional(),
  })

const token = z.strictObject({
  accessToken: z.instanceof(Secret),
  lifetime: z.union([z.strictObject({ seconds: z.number() }), z.strictObject({ until: z.number() })]),
})

const deployment = z.strictObject({
  success: z.boolean(),
  environments: z.array(z.strictObject({ name: z.string(), success: z.boolean() })),
})

function shapesOf(kind: Kind, capabilities: AnyCapabilities) {
  const refusal = refusalOf(Object.keys(capabilities))
  // What is read has the type of its field or is said to be unreadable; the finer rules are for callers, and a provider may
  // hold older values.
  const values = z.strictObject(
    Object.fromEntries(
      Object.entries(capabilities).flatMap(([name, capability]) =>
        capability?.mutability === 'writeOnly'
          ? []
          : [[name, z.union([typeOf(kind, name).nullable(), z.instanceof(Unreadable)]).optional()]],
      ),
    ),
  )
  const request = z
    .strictObject({
      method: z.enum(['GET', 'PUT', 'PATCH', 'POST']),
      template: z.string().regex(/^\//),
      ref: z.record(z.string(), z.string().min(1)),
      headers: z.record(z.string().regex(/^[a-z-]+$/), z.string().min(1)),
      body: body.optional(),
      carries: z.array(z.enum(Object.keys(capabilities))).optional(),
      list: z.literal(true).optional(),
    })
    .refine(({ template, ref }) => parametersOf(template).every((name) => name in ref), {
      error: 'a parameter of the template is not in the ref',
    })
  const current = z.strictObject({ values, carry: z.record(z.string(), body).optional() })
  const reported = z.discriminatedUnion('outcome', [
    z.strictObject({
      outcome: z.literal('applied'),
      values: values.optional(),
      deployment: deployment.extend({ success: z.literal(true) }).optional(),
    }),
    z.strictObject({
      outcome: z.literal('partial'),
      detail: z.string().min(1),
      deployment: deployment.optional(),
    }),
    z.strictObject({ outcome: z.literal('rejected'), refusal }),
    z.strictObject({
      outcome: z.literal('unknown'),
      detail: z.string().min(1),
      answered: z.literal(true).optional(),
    }),
  ])
  return { refusal, request, current, reported }
}

const parametersOf = (template: string): string[] =>
  [...template.matchAll(/\{(\w+)\}/g)].map(([, name = '']) => name)

function typeOf(kind: Kind, name: string): z.ZodType {
  const schema = fieldsOf(kind)[name]?.schema
  if (schema instanceof z.ZodBoolean) return z.boolean()
  if (schema instanceof z.ZodNumber) return z.number()
  if (schema instanceof z.ZodArray) return z.array(z.string())
  if (schema instanceof z.ZodCustom) return z.custom(isObject)
  return z.string()
}

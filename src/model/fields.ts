import { z } from 'zod'
import { canonical, isClean, type Json, type JsonObject } from '../lib/json.ts'
import { Secret } from '../lib/secret.ts'
import type { Kind } from './enums.ts'
import { type Equivalence, equivalences } from './equivalence.ts'
import { Unreadable } from './unreadable.ts'
import {
  addsAny,
  admitsMoreAddresses,
  endsLater,
  lastsLonger,
  leadsElsewhere,
  turnsOn,
  type Widens,
} from './widens.ts'

interface Field<T extends z.ZodType = z.ZodType> {
  schema: T
  about: string
  example: Json
  /** How two values are compared: a set has no order. Scalars and objects compare by canonical form. */
  compare?: 'set'
  /** True when moving from `from` to `to` gives somebody access that was not there before. */
  widens?: Widens
}

const field = <T extends z.ZodType>(entry: Field<T>): Field<T> => entry

const CLEAN = 'must be well-formed Unicode without U+0000'
const text = () => z.string().refine(isClean, { error: CLEAN })
const line = () => text().refine((value) => value.trim() !== '', { error: 'must not be blank' })

const set = <T extends z.ZodType<string>>(element: T) =>
  z
    .array(element)
    .refine((list) => new Set(list).size === list.length, { error: 'must not repeat an element' })

const isOutside = (year: number): boolean => year < 0 || year > 9999

/**
 * RFC 3339 with an offset; at most milliseconds, because a finer part would be lost without notice. Zeros lose nothing:
 * Java prints three digits at a time. An offset can lead out of the years that four digits can spell.
 */
const rfc3339 = z.iso
  .datetime({ offset: true, error: 'must be a date and time with an offset (RFC 3339)' })
  .refine((value) => !/\.\d{3}\d*[1-9]/.test(value), { error: 'must not be finer than a millisecond' })
  .refine((value) => !isOutside(new Date(value).getUTCFullYear()), {
    error: 'must be within the years 0000 to 9999 in UTC',
  })

/**
 * A point in time in one spelling, `YYYY-MM-DDTHH:mm:ss.sssZ`, or undefined where the text is none that can be kept as
 * it is. Providers and callers spell offsets and fractions differently; comparison needs one form.
 */
export function toInstant(value: string): string | undefined {
  return rfc3339.safeParse(value).success ? new Date(value).toISOString() : undefined
}

const instant = () => rfc3339.overwrite((value) => toInstant(value) ?? value)

const jsonObject = () =>
  z
    .custom<JsonObject>((value) => typeof value === 'object' && value !== null && !Array.isArray(value), {
      error: 'must be an object',
    })
    .refine(isClean, { error: CLEAN })

const reference = field({
  schema: text(),
  about: 'An id of this resource in another system.',
  example: 'vault:9021',
})
const referenceOrigin = field({
  schema: text(),
  about: 'The system that `reference` belongs to.',
  example: 'vault',
})
const metadata = field({
  schema: jsonObject(),
  about: 'Free members, merged one by one: null removes a member. Not secret.',
  example: { owner: 'ops' },
})
const permit = (verb: string) =>
  field({
    schema: z.boolean(),
    about: `Whether holders of the role may ${verb} the subject.`,
    example: true,
    widens: turnsOn,
  })

const REDIRECT =
  'must be an http or https address, or one of a private-use scheme with a dot in it (RFC 8252 §7.1), without a fragment'

/** RFC 6749 §3.1.2. What a browser would run, or open from its own machine, is no place to send an answer to. */
function isRedirect(text: string): boolean {
  const url = URL.parse(text)
  // What is no address at all has its fault already.
  if (url === null) return true
  return !text.includes('#') && /^(https?|[a-z][a-z\d+-]*\.[a-z\d+.-]+):$/.test(url.protocol)
}

export const model = {
  credential: {
    name: field({ schema: line(), about: 'What people call it.', example: 'Warehouse sync' }),
    description: field({ schema: text(), about: 'What it is for.', example: 'Nightly stock export' }),
    email: field({
      schema: z.email({ pattern: z.regexes.html5Email }),
      about: 'Whom to ask about it.',
      example: 'ops@example.com',
    }),
    enabled: field({
      schema: z.boolean(),
      about: 'A disabled credential authenticates nobody.',
      example: true,
      widens: turnsOn,
    }),
    secret: field({
      schema: z
        .string()
        .refine((value) => value !== '', { error: 'must not be empty' })
        .refine((value) => value.isWellFormed() && !/\p{Cc}/u.test(value), {
          error: 'must be well-formed Unicode without control characters',
        })
        .transform((value) => new Secret(value)),
      about: 'The secret itself. Never returned, never stored; audited as a keyed fingerprint.',
      example: 'correct-horse-battery-staple',
    }),
    roles: field({
      schema: set(line()),
      about: 'The roles it holds.',
      example: ['API_USER'],
      compare: 'set',
      widens: addsAny,
    }),
    allowedIps: field({
      schema: set(
        z.union([z.ipv4(), z.ipv6(), z.cidrv4(), z.cidrv6()], {
          error: 'must be an IP address or a CIDR range',
        }),
      ),
      about: 'Addresses that may use it (IP or CIDR). An empty list admits every address.',
      example: ['203.0.113.10', '198.51.100.0/24'],
      compare: 'set',
      widens: admitsMoreAddresses,
    }),
    expiresAt: field({
      schema: instant(),
      about: 'When it stops working (RFC 3339, at most milliseconds); null means never.',
      example: '2027-01-31T23:59:59.000Z',
      widens: endsLater,
    }),
    tokenLifetime: field({
      schema: z.int(),
      about: 'Seconds that a token made with it is good for; null means the provider’s default.',
      example: 7200,
      widens: lastsLonger,
    }),
    redirectUri: field({
      schema: z.url().refine(isRedirect, { error: REDIRECT }),
      about: 'Where an authorization answer is sent.',
      example: 'https://example.com/callback',
      widens: leadsElsewhere,
    }),
    reference,
    referenceOrigin,
    metadata,
    kind: field({ schema: z.string(), about: 'What sort of client it is.', example: 'integration' }),
    mode: field({
      schema: z.string(),
      about: 'The provider’s environment, such as `test` or `live`.',
      example: 'live',
    }),
    clientId: field({
      schema: z.string(),
      about: 'The public half of the credential.',
      example: 'xxxx-yyyy-zzzz',
    }),
    scopes: field({ schema: z.string(), about: 'What the provider lets it reach.', example: 'market:all' }),
    confidential: field({
      schema: z.boolean(),
      about: 'Whether the client can keep a secret (RFC 6749 §2.1).',
      example: true,
    }),
    custom: field({ schema: z.boolean(), about: 'Whether it belongs to a custom app.', example: false }),
    createdAt: field({ schema: z.string(), about: 'When it was made.', example: '2026-01-02T03:04:05.678Z' }),
    updatedAt: field({
      schema: z.string(),
      about: 'When the provider last changed it.',
      example: '2026-03-02T03:04:05.678Z',
    }),
  },
  role: {
    name: field({ schema: line(), about: 'What people call it.', example: 'Catalog editors' }),
    kind: field({ schema: z.string(), about: '`custom`, `admin` or `read_only`.', example: 'custom' }),
    reference,
    referenceOrigin,
    metadata,
  },
  permission: {
    canCreate: permit('create'),
    canRead: permit('read'),
    canUpdate: permit('update'),
    canDestroy: permit('destroy'),
    subject: field({
      schema: z.string(),
      about: 'The type of resource that the permission speaks of.',
      example: 'skus',
    }),
    restrictions: field({ schema: jsonObject(), about: 'Limits within the subject.', example: {} }),
    reference,
    referenceOrigin,
    metadata,
  },
} satisfies Record<Kind, Record<string, Field>>

type Model = typeof model
export type FieldName<K extends Kind = Kind> = K extends Kind ? keyof Model[K] & string : never

/** Values of a kind's fields as an adapter gets and gives them: null where the provider allows it. */
export type Values<K extends Kind> = {
  [F in keyof Model[K]]?: Model[K][F] extends Field<infer T> ? z.output<T> | null : never
}
export type Value = Json | Secret | Unreadable
export type AnyValues = Partial<Record<string, Value>>

export const fieldsOf = (kind: Kind): Record<string, Field> => model[kind]

/** What one provider can do with one field: the words of SCIM (RFC 7643 §7). A field without an entry is unsupported. */
export interface Capability {
  mutability: 'readWrite' | 'writeOnly' | 'readOnly' | 'immutable'
  /** Its name at the provider. */
  upstream: string
  /** Null is accepted and clears the field. */
  nullable?: boolean
  /** Bounds of a number, inclusive. */
  minimum?: number
  maximum?: number
  /** The most elements that a list may have. */
  maxItems?: number
  /** How the provider may spell a value that it took. */
  equivalence?: Equivalence
}
export type Capabilities<K extends Kind> = { readonly [F in FieldName<K>]?: Capability }
export type AnyCapabilities = { readonly [field: string]: Capability | undefined }

export const isWritable = (capability: Capability): boolean =>
  capability.mutability === 'readWrite' || capability.mutability === 'writeOnly'

/** The field's schema, narrowed to what the provider takes. */
export function schemaFor(kind: Kind, name: string, capability: Capability): z.ZodType {
  const entry = fieldsOf(kind)[name]
  if (!entry) throw new TypeError(`the model has no ${kind} field ${name}`)
  let schema: z.ZodType = entry.schema
  const { minimum, maximum, maxItems } = capability
  if (schema instanceof z.ZodNumber) {
    if (minimum !== undefined) schema = (schema as z.ZodNumber).min(minimum)
    if (maximum !== undefined) schema = (schema as z.ZodNumber).max(maximum)
  }
  if (maxItems !== undefined && schema instanceof z.ZodArray) schema = schema.max(maxItems)
  return capability.nullable ? schema.nullable() : schema
}

/** Whether it is a value that can be shown and compared. */
export const isPlain = (value: Value | undefined): value is Json =>
  value !== undefined && !(value instanceof Secret) && !(value instanceof Unreadable)

export function sameValue(kind: Kind, name: string, a: Value | undefined, b: Value | undefined): boolean {
  if (!isPlain(a) || !isPlain(b)) return false
  if (fieldsOf(kind)[name]?.compare === 'set' && Array.isArray(a) && Array.isArray(b)) {
    return canonical(a.toSorted()) === canonical(b.toSorted())
  }
  return canonical(a) === canonical(b)
}

/** Whether a reported value is the requested one, or the provider's spelling of it. */
export function isTaken(
  kind: Kind,
  name: string,
  { equivalence }: Pick<Capability, 'equivalence'>,
  asked: Value | undefined,
  told: Value | undefined,
): boolean {
  if (sameValue(kind, name, asked, told)) return true
  if (equivalence === undefined || !isPlain(asked) || !isPlain(told)) return false
  return equivalences[equivalence](asked, told)
}

/** What happened, or would happen, to one field. Secrets appear as a fingerprint, and only once a change is made. */
export interface FieldChange {
  action: 'set' | 'clear'
  from?: Json
  to?: Json
  /** What the provider reported instead of `to`. */
  told?: Json
  fingerprint?: string
}
export type FieldChanges = Readonly<Record<string, FieldChange>>

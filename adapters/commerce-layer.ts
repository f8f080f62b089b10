// Odd: every answer carries the client secret, and 401 means both "stale token" and "not allowed".
// https://docs.commercelayer.io/provisioning/api-reference/api_credentials/update
import { z } from 'zod'
import { isObject, type Json, type JsonObject } from '../src/lib/json.ts'
import { Secret } from '../src/lib/secret.ts'
import {
  type Adapter,
  type Body,
  type Current,
  type KindSpec,
  type Ref,
  type UpstreamResponse,
  numeric,
} from '../src/model/adapter.ts'
import type { Kind } from '../src/model/enums.ts'
import {
  type AnyCapabilities,
  type AnyValues,
  type Capabilities,
  isWritable,
  type Values,
} from '../src/model/fields.ts'
import type { FieldFault } from '../src/model/problems.ts'
import { exactly, isUsable, legibleOf, spelledAs, Unreadable } from '../src/model/unreadable.ts'
import { type Refusal, parsed, refusalByStatus, refused } from '../src/model/upstream-refusal.ts'

const MEDIA_TYPE = 'application/vnd.api+json'

const nullableText = { mutability: 'readWrite', nullable: true, equivalence: 'trimmed' } as const
const name = { mutability: 'readWrite', upstream: 'name', equivalence: 'trimmed' } as const
const shared = {
  reference: { ...nullableText, upstream: 'reference' },
  referenceOrigin: { ...nullableText, upstream: 'reference_origin' },
  metadata: { mutability: 'readWrite', nullable: true, upstream: 'metadata' },
} satisfies Capabilities<'role'>

const readOnly = (upstream: string) => ({ mutability: 'readOnly', upstream }) as const
const flag = (upstream: string) => ({ mutability: 'readWrite', upstream }) as const

const text = z.string().refine(isUsable)
const object = z.custom(isObject).refine(isUsable)
const sharedAttributes = {
  reference: text.nullish(),
  reference_origin: text.nullish(),
  metadata: object.nullish(),
}

const credential = resource<'credential'>({
  type: 'api_credentials',
  include: '?include=role',
  example: {
    summary: 'Commerce Layer: a reference and the role',
    body: { reference: 'vault:9021', roles: ['ABCRtyUpBa'] },
  },
  fields: {
    name,
    roles: { mutability: 'readWrite', upstream: 'relationships.role', maxItems: 1 },
    // Bounds: API schema of the provisioning API, `expires_in`, seconds.
    tokenLifetime: {
      mutability: 'readWrite',
      upstream: 'expires_in',
      nullable: true,
      minimum: 7200,
      maximum: 31536000,
    },
    redirectUri: { ...nullableText, upstream: 'redirect_uri' },
    ...shared,
    kind: readOnly('kind'),
    mode: readOnly('mode'),
    clientId: readOnly('client_id'),
    scopes: readOnly('scopes'),
    confidential: readOnly('confidential'),
    custom: readOnly('custom'),
    createdAt: readOnly('created_at'),
    updatedAt: readOnly('updated_at'),
  },
  attributes: {
    name: text,
    expires_in: z.int().nullish(),
    redirect_uri: text.nullish(),
    kind: text.optional(),
    mode: text.nullish(),
    client_id: text.optional(),
    scopes: text.nullish(),
    confidential: z.boolean().optional(),
    custom: z.boolean().nullish(),
    created_at: text.optional(),
    updated_at: text.optional(),
    ...sharedAttributes,
  },
})

const role = resource<'role'>({
  type: 'roles',
  include: '',
  example: { summary: 'Commerce Layer: a role’s name', body: { name: 'Catalog editors' } },
  fields: { name, kind: readOnly('kind'), ...shared },
  attributes: { name: text, kind: text.optional(), ...sharedAttributes },
})

const permission = resource<'permission'>({
  type: 'permissions',
  include: '',
  example: { summary: 'Commerce Layer: what a role may do', body: { canRead: true, canDestroy: false } },
  fields: {
    canCreate: flag('can_create'),
    canRead: flag('can_read'),
    canUpdate: flag('can_update'),
    canDestroy: flag('can_destroy'), // the documentation page says can_delete, the wire says can_destroy
    subject: { mutability: 'immutable', upstream: 'subject' },
    restrictions: { mutability: 'immutable', upstream: 'restrictions' },
    ...shared,
  },
  attributes: {
    can_create: z.boolean(),
    can_read: z.boolean(),
    can_update: z.boolean(),
    can_destroy: z.boolean(),
    subject: text.optional(),
    restrictions: object.nullish(),
    ...sharedAttributes,
  },
})

export const commerceLayer: Adapter = {
  baseUrl: { default: 'https://provisioning.commercelayer.io' },
  auth: [
    {
      scheme: 'client-credentials',
      endpoint: { base: 'authUrl', default: 'https://auth.commercelayer.io' },
      template: '/oauth/token',
      encoding: 'json',
      parse(response) {
        const read = tokenAnswer.safeParse(response.body)
        if (response.status !== 200 || !read.success) {
          return refused(
            'upstream-unauthorized',
            `the token endpoint gave no token (status ${response.status})`,
          )
        }
        // Clients of the Core API get tokens too, which this API refuses one by one.
        const { scope } = read.data
        if (typeof scope === 'string' && !scope.split(/\s+/).includes('provisioning-api')) {
          return refused(
            'upstream-unauthorized',
            'the client is not one of the Provisioning API: it takes the personal client of an organization’s admin, no integration, sales channel or webapp',
          )
        }
        return parsed({
          accessToken: new Secret(read.data.access_token),
          lifetime: { seconds: read.data.expires_in },
        })
      },
    },
  ],
  // docs.commercelayer.io/core/rate-limits and the provisioning API's specification, whose two versions disagree on reads:
  // this is the one that tells them apart. PATCH is not named and taken for a write. The short windows are published per
  // endpoint; counting all of them together keeps within that.
  limits: {
    per: 'address',
    writes: [
      { requests: 200, seconds: 60 },
      { requests: 50, seconds: 10 },
    ],
    reads: [
      { requests: 1000, seconds: 60 },
      { requests: 250, seconds: 10 },
    ],
    tokens: [{ requests: 30, seconds: 60 }],
  },
  // No Retry-After is documented; the published header pair gives the pace, else the length of the burst window.
  throttle: { limitHeader: 'x-ratelimit-limit', intervalHeader: 'x-ratelimit-interval', fallbackSeconds: 10 },
  kinds: { credential, role, permission },
}

const tokenAnswer = z.object({
  access_token: z.string().min(1),
  expires_in: numeric,
  scope: z.unknown().optional(),
})

const linkage = z.object({ type: z.literal(['roles', 'role']), id: text }).nullable()

/** What is told of the role, checked by nobody; undefined where nothing is. */
function linkageOf(relationships: unknown): unknown {
  const role = isObject(relationships) ? relationships['role'] : undefined
  return isObject(role) ? role['data'] : undefined
}

/** One JSON:API resource type (https://jsonapi.org/format/1.0/): the three kinds differ in their tables only. */
function resource<K extends Kind>(of: {
  type: string
  include: string
  example: { summary: string; body: JsonObject }
  fields: Capabilities<K>
  /** What each attribute is, by its upstream name. */
  attributes: Record<string, z.ZodType>
}): KindSpec<K> {
  const template = `/api/${of.type}/{id}`
  const fields = Object.entries(of.fields as AnyCapabilities).flatMap(([name, capability]) =>
    capability ? [{ name, upstream: capability.upstream, writable: isWritable(capability) }] : [],
  )
  const document = z.object({
    data: z.object({
      id: z.string(),
      type: z.literal(of.type),
      attributes: z.custom<Record<string, unknown>>(isObject),
      relationships: z.unknown().optional(),
    }),
  })

  /** Takes over what the table names and nothing else: `client_secret` ends here. */
  function readResource(ref: Ref, response: UpstreamResponse): Current<K> | undefined {
    const read = document.safeParse(response.body)
    if (response.status !== 200 || !read.success || read.data.data.id !== ref['id']) return undefined
    const { attributes, relationships } = read.data.data
    const exact = (upstream: string) =>
      exactly(
        attributes[upstream],
        response.text,
        (whole: typeof read.data) => whole.data.attributes[upstream],
      )
    const values: AnyValues = {}
    for (const { name, upstream } of fields) {
      const schema = of.attributes[upstream]
      const told = attributes[upstream]
      if (!schema) continue
      if (!schema.safeParse(told).success) values[name] = new Unreadable(exact(upstream), legibleOf(told))
      else if (told !== undefined) values[name] = told as Json
    }
    // Linkage is told only where the role was included; without it the role is not known.
    const linked = linkageOf(relationships)
    if ('roles' in of.fields && linked !== undefined) {
      const role = linkage.safeParse(linked)
      values['roles'] = role.success ? (role.data ? [role.data.id] : []) : new Unreadable(linked)
    }
    const metadata = exact('metadata')
    return {
      values: values as Values<K>,
      ...(isObject(metadata) && { carry: { metadata: metadata as JsonObject } }),
    }
  }

  return {
    key: ['id'],
    checkKey: (part) =>
      /^[A-Za-z0-9_-]{1,64}$/.test(part) ? undefined : 'must be 1 to 64 letters, digits, "-" or "_"',
    example: { key: 'xYZkjABcde', ...of.example },
    fields: of.fields,
    read: {
      request: (ref) => ({
        method: 'GET',
        template: template + of.include,
        ref,
        headers: { accept: MEDIA_TYPE },
      }),
      parse(ref, response) {
        const read = readResource(ref, response)
        if (read) return parsed(read)
        if (response.status >= 400) return { ok: false, refusal: refusal(of.fields, response) }
        return refused('upstream-failed', `the provider answered without the ${of.type} resource`)
      },
    },

    plan(ref, desired, current) {
      // What metadata keeps, it keeps as it was spelled.
      const metadata =
        'metadata' in desired && spelledAs(desired.metadata as Json, current?.carry?.['metadata'])
      const asked = { ...desired, ...(metadata && { metadata }) } as Record<string, Body>
      const attributes = fields
        .filter(({ name, writable }) => writable && name !== 'roles' && asked[name] !== undefined)
        .map(({ name, upstream }) => [upstream, asked[name]] as const)
      const roles = asked['roles'] as readonly string[] | undefined
      const data = {
        type: of.type,
        id: ref['id'] ?? '',
        attributes: Object.fromEntries(attributes) as Record<string, Body>,
        ...(roles && {
          relationships: { role: { data: roles[0] === undefined ? null : { type: 'roles', id: roles[0] } } },
        }),
      }
      return parsed({
        method: 'PATCH',
        template,
        ref,
        headers: { accept: MEDIA_TYPE, 'content-type': MEDIA_TYPE },
        body: { data },
      })
    },

    parse(ref, response, desired) {
      // The resource was read a moment before: what is not there is what the body names.
      if (response.status === 404 && desired && 'roles' in desired)
        return { outcome: 'rejected', refusal: noSuchRole }
      if (response.status >= 400) return { outcome: 'rejected', refusal: refusal(of.fields, response) }
      const told = readResource(ref, response)
      return told
        ? { outcome: 'applied', values: told.values }
        : {
            outcome: 'unknown',
            detail: `the provider answered ${response.status} without the ${of.type} resource`,
          }
    },
  }
}

const noSuchRole: Refusal = {
  problem: 'upstream-validation-failed',
  detail: 'the provider has no such role, or no longer the credential',
  errors: [
    { pointer: '#/roles', code: 'upstream-validation-failed', detail: 'names a role that does not exist' },
  ],
}

const errorDocument = z.object({
  errors: z.array(
    z.object({
      code: z.string().optional(),
      source: z.object({ pointer: z.string().optional() }).nullish(),
      meta: z.object({ error: z.string().optional(), count: z.number().optional() }).nullish(),
    }),
  ),
})

/** The validators of Rails that the provider names in `meta.error`; other texts of its own are not repeated. */
const validators: Record<string, string> = {
  blank: 'must not be blank',
  invalid: 'is not valid',
  taken: 'is in use already',
  inclusion: 'is not one of the accepted values',
  exclusion: 'is reserved',
  too_long: 'is too long',
  too_short: 'is too short',
  not_a_number: 'must be a number',
  greater_than_or_equal_to: 'is too small',
  less_than_or_equal_to: 'is too large',
}

/** Errors of one answer that are looked at; a refusal is recorded whole. */
const ERRORS = 100

function refusal(fields: AnyCapabilities, response: UpstreamResponse): Refusal {
  const read = errorDocument.safeParse(response.body)
  const errors = read.success ? read.data.errors.slice(0, ERRORS) : []
  const base = refusalByStatus(response.status)
  // `INVALID_TOKEN` and `UNAUTHORIZED` both mean either: the token is no longer taken, or the account may not do this.
  if (response.status === 401) return { ...base, staleToken: true }
  if (response.status !== 422) return base
  const faults = errors.map((error): FieldFault => {
    const upstream = error.source?.pointer?.replace(/^\/data\/(attributes\/)?/, '').replaceAll('/', '.') ?? ''
    const name = Object.keys(fields).find((key) => fields[key]?.upstream === upstream)
    const validator = error.meta?.error ?? ''
    const known = Object.hasOwn(validators, validator) ? validators[validator] : undefined
    return {
      pointer: name ? `#/${name}` : '#',
      code: 'upstream-validation-failed',
      detail: known ?? 'was refused by the provider',
    }
  })
  return { ...base, ...(faults.length > 0 && { errors: faults }) }
}

import { z } from '@hono/zod-openapi'
import type { Registry } from '../adapter.ts'
import { allowedFields, type Caller, isVisible, mayDo, readableFields } from '../auth.ts'
import type { ChangeReply, PlanReply } from '../change.ts'
import type { Config } from '../config.ts'
import type { Actor } from '../connection.ts'
import { type AnyCapabilities, fieldsOf, isWritable, type Kind, kinds, schemaFor } from '../model.ts'
import type { CallerContext, Operation } from '../operation.ts'
import { ok, type ProblemSlug, refuse, type Result } from '../problems.ts'
import { readJsonBody } from '../request-body.ts'
import { changeReasonOf, entityTagsOf } from '../request-headers.ts'
import { type ResourceAddress, resolveId } from '../resource-id.ts'

export interface ResourceRouteParts {
  config: Config
  registry: Registry
  actor(connection: string): Actor | undefined
}

const ABSENT = 'there is no such resource, or none that this caller can see'

/** Resolves the id in the path and checks that it exists for the caller, before the key's grammar and without a call. */
function locate(
  { config }: ResourceRouteParts,
  kind: Kind,
  { segment, caller }: CallerContext,
): Result<ResourceAddress> {
  const address = resolveId(segment, config.aliases)
  if (!address) return refuse('not-found', ABSENT)
  if (!address.ok) return address
  const { connection, id } = address.value
  return config.connections.has(connection) && isVisible(caller, kind, id)
    ? address
    : refuse('not-found', ABSENT)
}

/** An absent resource and an invisible one answer with the same words. */
const hushed = <T>(result: Result<T>): Result<T> =>
  !result.ok && result.problem.slug === 'not-found'
    ? { ok: false, problem: { ...result.problem, detail: ABSENT } }
    : result

const json = (value: unknown, headers: Record<string, string> = {}): Response =>
  new Response(JSON.stringify(value), { headers: { 'content-type': 'application/json', ...headers } })

async function get(parts: ResourceRouteParts, kind: Kind, context: CallerContext): Promise<Result<Response>> {
  const { caller, request, requestId, traceparent } = context
  const found = locate(parts, kind, context)
  if (!found.ok) return found
  const address = found.value
  if (!mayDo(caller, 'read', kind, address.id))
    return refuse('forbidden', 'the caller may not read this resource')
  const tags = entityTagsOf(request.headers, 'if-none-match')
  if (!tags.ok) return tags
  const readable = readableFields(caller, kind, address.id)
  const actor = parts.actor(address.connection)
  if (!actor) return refuse('not-found', ABSENT)
  const read = hushed(await actor.read({ kind, address, readable, requestId, traceparent }))
  if (!read.ok) return read
  const { etag } = read.value
  const headers = etag === undefined ? {} : { etag }
  // Weak comparison, as RFC 9110 §13.1.2 asks of If-None-Match.
  const held = tags.value?.some((tag) => tag === '*' || tag.replace(/^W\//, '') === etag)
  if (etag !== undefined && held) return ok(new Response(null, { status: 304, headers }))
  return ok(json(read.value, headers))
}

async function put(parts: ResourceRouteParts, kind: Kind, context: CallerContext): Promise<Result<Response>> {
  const { caller, request, query, requestId, traceparent, address: peer } = context
  const found = locate(parts, kind, context)
  if (!found.ok) return found
  const address = found.value
  const dryRun = query['dryRun'] === 'true'
  const action = dryRun ? 'plan' : 'write'
  if (!mayDo(caller, action, kind, address.id)) {
    return refuse('forbidden', `the caller may not ${action} this resource`)
  }
  const { headers } = request
  const reason = changeReasonOf(headers)
  if (!reason.ok) return reason
  const ifMatch = entityTagsOf(headers, 'if-match')
  if (!ifMatch.ok) return ifMatch
  if (headers.has('idempotency-key')) {
    // Taking the header and not keeping its promise would be worse than refusing it.
    return refuse(
      'invalid-header',
      'Idempotency-Key is not supported by this version; send the request without it',
    )
  }
  const body = await readJsonBody(request)
  if (!body.ok) return body
  const forbidden = forbiddenFields(caller, action, kind, address.id, Object.keys(body.value))
  if (forbidden.length > 0) {
    return refuse('forbidden', `the caller may not ${action} ${forbidden.join(', ')} of this resource`)
  }
  const actor = parts.actor(address.connection)
  if (!actor) return refuse('not-found', ABSENT)
  const result = hushed(
    await actor.change({
      kind,
      address,
      readable: readableFields(caller, kind, address.id),
      requestId,
      traceparent,
      body: body.value,
      mode: query['mode'] === 'replace' ? 'replace' : 'merge',
      dryRun,
      allowSelf: query['allowSelf'] === 'true',
      ...(ifMatch.value && { ifMatch: ifMatch.value }),
      ...(reason.value !== undefined && { reason: reason.value }),
      actor: { caller: caller.name, key: caller.keyId, address: peer },
    }),
  )
  return result.ok ? ok(json(present(kind, result.value))) : result
}

/** Only names that the model knows are repeated: another one could be anything, a secret included. */
const forbiddenFields = (
  caller: Caller,
  action: 'write' | 'plan',
  kind: Kind,
  id: string,
  names: string[],
): string[] => {
  const allowed = allowedFields(caller, action, kind, id)
  const denied = names.filter((name) => !allowed(name))
  const known = denied.filter((name) => Object.hasOwn(fieldsOf(kind), name))
  return denied.length > known.length ? [...known, 'a field that is not known'] : known
}

/** The reply's `resource` stands under the name of its kind. */
function present(kind: Kind, result: ChangeReply | PlanReply): object {
  if ('plan' in result) return result
  const { changeId, outcome, changed, widens, resource, ...rest } = result
  return { changeId, outcome, changed, widens, [kind]: resource, ...rest }
}

const title = (kind: Kind): string => kind[0]?.toUpperCase() + kind.slice(1)

/** What the providers make of a field, in words: from the same tables that validate it. */
function support(registry: Registry, kind: Kind, name: string): string {
  const told = Object.entries(registry).flatMap(([provider, adapter]) => {
    const capability = (adapter.kinds[kind]?.fields as AnyCapabilities | undefined)?.[name]
    if (!capability) return []
    const { mutability, upstream, nullable, minimum, maximum, maxItems } = capability
    const bounds = [
      ...(nullable ? ['null clears it'] : []),
      ...(minimum !== undefined ? [`at least ${minimum}`] : []),
      ...(maximum !== undefined ? [`at most ${maximum}`] : []),
      ...(maxItems !== undefined ? [`at most ${maxItems} element${maxItems === 1 ? '' : 's'}`] : []),
    ]
    return [
      `${provider}: ${mutability} as \`${upstream}\`${bounds.length > 0 ? ` (${bounds.join(', ')})` : ''}`,
    ]
  })
  return told.join('; ') || 'no provider'
}

const capabilitiesOf = (registry: Registry, kind: Kind, name: string) =>
  Object.values(registry).flatMap((adapter) => {
    const capability = (adapter.kinds[kind]?.fields as AnyCapabilities | undefined)?.[name]
    return capability ? [capability] : []
  })

/** The JSON type of a field's values, for the parts of a document that describe and do not validate. */
function shape(kind: Kind, name: string): z.ZodType {
  const { example } = fieldsOf(kind)[name] ?? { example: '' }
  if (Array.isArray(example)) return z.array(z.string())
  if (typeof example === 'object' && example !== null) return z.looseObject({})
  if (typeof example === 'number') return z.int()
  return typeof example === 'boolean' ? z.boolean() : z.string()
}

function updateSchema(registry: Registry, kind: Kind): z.ZodType {
  const fields = Object.entries(fieldsOf(kind)).flatMap(([name, { about, example }]) => {
    const writable = capabilitiesOf(registry, kind, name).filter(isWritable)
    if (writable.length === 0) return []
    // The widest of what the providers take; the narrower bounds of one are in the text and are validated per provider.
    const [only] =
      writable.length === 1 ? writable : [{ ...writable[0], nullable: writable.some((one) => one.nullable) }]
    const validating = only && 'mutability' in only ? schemaFor(kind, name, only as never) : shape(kind, name)
    const documented =
      name === 'secret' ? z.string().min(1) : name === 'metadata' ? z.looseObject({}).nullable() : validating
    return [
      [
        name,
        documented.optional().openapi({
          description: `${about} Providers: ${support(registry, kind, name)}.`,
          example,
          ...(name === 'secret' && { format: 'password', writeOnly: true }),
        }),
      ] as const,
    ]
  })
  return z.strictObject(Object.fromEntries(fields)).openapi(`${title(kind)}Update`, {
    description: 'Absent keeps, null clears where the provider allows it, a value sets.',
  })
}

function resourceSchema(registry: Registry, kind: Kind): z.ZodType {
  const fields = Object.entries(fieldsOf(kind)).flatMap(([name, { about, example }]) => {
    const readable = capabilitiesOf(registry, kind, name).filter((one) => one.mutability !== 'writeOnly')
    if (readable.length === 0) return []
    const values = shape(kind, name)
    // Texts and lists of texts have room for `[hidden]` already.
    const textual = values instanceof z.ZodString || values instanceof z.ZodArray
    const shown = textual ? values.nullable() : z.union([values, z.literal('[hidden]'), z.null()])
    return [[name, shown.optional().openapi({ description: about, example })] as const]
  })
  return z
    .object({
      id: z.string().openapi({ description: 'The canonical id.', example: 'apinizer:MyProject:api-user' }),
      connection: z.string().openapi({ example: 'apinizer' }),
      provider: z.string().openapi({ example: 'apinizer' }),
      readable: z.boolean().openapi({
        description:
          'False where the provider cannot be read: the values are the last that the gateway applied.',
        example: true,
      }),
      etag: z.string().optional().openapi({
        description: 'For `If-Match`; it reveals no value.',
        example: '"Mopk37agBfpj9SOOaRoV7HLtXr4m0dDT"',
      }),
      ...Object.fromEntries(fields),
    })
    .openapi(title(kind), { description: 'A field that the caller may not read is `[hidden]`.' })
}

const fieldChange = z
  .object({
    action: z.enum(['set', 'clear']),
    from: z.any().optional(),
    to: z.any().optional(),
    fingerprint: z
      .string()
      .optional()
      .openapi({ description: 'Of a secret: keyed, and bound to the resource.' }),
  })
  .openapi('FieldChange')
const fieldChanges = z.record(z.string(), fieldChange)

const deployment = z
  .object({
    success: z.boolean(),
    environments: z.array(z.object({ name: z.string(), success: z.boolean() })),
  })
  .openapi('Deployment')

const plan = z
  .object({
    plan: z.object({
      request: z
        .object({
          method: z.string(),
          path: z.string(),
          headers: z.record(z.string(), z.string()),
          body: z.any(),
        })
        .nullable(),
      fields: fieldChanges,
      changed: z.boolean(),
      widens: z.boolean(),
      warnings: z.array(z.string()),
    }),
  })
  .openapi('Plan', { description: 'What a change would send. Nothing was written.' })

const changeSchema = (kind: Kind, resource: z.ZodType): z.ZodType =>
  z
    .object({
      changeId: z.uuid(),
      outcome: z.literal('applied'),
      changed: z.boolean(),
      widens: z
        .boolean()
        .openapi({ description: 'True when the change gives access that was not there before.' }),
      [kind]: resource,
      fields: fieldChanges,
      deployment: deployment.optional(),
      upstream: z
        .object({ method: z.string(), status: z.int().nullable(), attempts: z.int(), durationMs: z.int() })
        .optional(),
    })
    .openapi(`${title(kind)}Change`)

const examples: Record<Kind, Record<string, { summary: string; value: unknown }>> = {
  credential: {
    'commerce-layer': {
      summary: 'Commerce Layer: a reference and the role',
      value: { reference: 'vault:9021', roles: ['ABCRtyUpBa'] },
    },
    discue: { summary: 'Discue: the name', value: { name: 'example.com/dev' } },
    apinizer: {
      summary: 'Apinizer: a new password and an expiry',
      value: { secret: 'correct-horse-battery-staple', expiresAt: '2027-01-31T23:59:59.000Z', enabled: true },
    },
  },
  role: {
    'commerce-layer': { summary: 'Commerce Layer: a role’s name', value: { name: 'Catalog editors' } },
  },
  permission: {
    'commerce-layer': {
      summary: 'Commerce Layer: what a role may do',
      value: { canRead: true, canDestroy: false },
    },
  },
}

const shared: readonly ProblemSlug[] = [
  'invalid-id',
  'not-found',
  'upstream-unauthorized',
  'upstream-failed',
  'upstream-unavailable',
  'upstream-rate-limited',
]
const ofChanges: readonly ProblemSlug[] = [
  'malformed-request',
  'payload-too-large',
  'unsupported-media-type',
  'credential-busy',
  'upstream-conflict',
  'self-lockout',
  'precondition-failed',
  'precondition-required',
  'validation-failed',
  'unsupported-field',
  'read-only-field',
  'secret-required-by-provider',
  'incomplete-representation',
  'upstream-validation-failed',
  'upstream-locked',
  'outcome-not-recorded',
  'partially-applied',
  'audit-unavailable',
  'outcome-unknown',
]

export function resourceOperations(parts: ResourceRouteParts): Operation[] {
  return kinds.flatMap((kind): Operation[] => {
    const path = `/${kind}s/{id}`
    const resource = resourceSchema(parts.registry, kind)
    return [
      {
        method: 'get',
        path,
        tag: `${title(kind)}s`,
        summary: `Read a ${kind}`,
        headers: z.object({ 'if-none-match': z.string().optional() }),
        success: {
          200: { description: `The ${kind}.`, content: { 'application/json': { schema: resource } } },
          304: { description: 'It is still what `If-None-Match` names.' },
        },
        problems: [...shared, 'upstream-locked', 'upstream-conflict', 'upstream-validation-failed'],
        handle: (context) => get(parts, kind, context),
      },
      {
        method: 'put',
        path,
        tag: `${title(kind)}s`,
        summary: `Change a ${kind}`,
        description:
          'One PUT for every provider. Fields that equal what is there are not sent; secrets never come back. ' +
          '2xx means that the change is in force everywhere the provider deploys to and that it is recorded.',
        query: z.object({
          mode: z
            .enum(['replace'])
            .optional()
            .openapi({ description: 'Demands every writable field; `metadata` is replaced whole.' }),
          dryRun: z
            .enum(['true'])
            .optional()
            .openapi({ description: 'Answers the plan and writes nothing.' }),
          allowSelf: z
            .enum(['true'])
            .optional()
            .openapi({ description: 'Allows a change to what the gateway itself signs in with.' }),
        }),
        headers: z.object({
          'if-match': z.string().optional(),
          'x-change-reason': z
            .string()
            .optional()
            .openapi({ description: 'Percent-encoded UTF-8, at most 500 characters.' }),
        }),
        body: { schema: updateSchema(parts.registry, kind), examples: examples[kind] },
        success: {
          200: {
            description: 'Applied, or the plan of a dry run.',
            content: { 'application/json': { schema: z.union([changeSchema(kind, resource), plan]) } },
          },
        },
        problems: [...shared, ...ofChanges],
        handle: (context) => put(parts, kind, context),
      },
    ]
  })
}

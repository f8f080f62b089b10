import { z } from '@hono/zod-openapi'
import { deny } from '../../access/deny.ts'
import { allowedFields, type Caller, isVisible, mayDo, readableFields } from '../../access/rules.ts'
import type { Actor } from '../../change/actor.ts'
import type { ChangeReply, PlanReply } from '../../change/reply.ts'
import type { ChangeAnswer } from '../../change/types.ts'
import type { Config } from '../../config/document.ts'
import type { Registry } from '../../model/adapter.ts'
import { type Kind, kinds } from '../../model/enums.ts'
import { fieldsOf } from '../../model/fields.ts'
import { ok, type ProblemSlug, refuse, type Result } from '../../model/problems.ts'
import { type ResourceAddress, resolveSegment } from '../../model/resource-id.ts'
import type { CallerContext, Operation } from '../operation.ts'
import { readJsonBody } from '../request-body.ts'
import { changeReasonOf, entityTagsOf, idempotencyKeyOf } from '../request-headers.ts'
import { changeSchema, planSchema, resourceSchema, title, updateSchema } from './resource-schemas.ts'

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
  const address = resolveSegment(segment, config.aliases)
  // An alias that does not exist is refused like a hidden one, and an id alike: the answer reveals neither.
  if (!address) {
    const isNamed = isVisible(caller, kind, decodeURIComponent(segment))
    return isNamed ? refuse('not-found', ABSENT) : deny('not-found', ABSENT, kind)
  }
  if (!address.ok) return address
  const { connection, id } = address.value
  if (!isVisible(caller, kind, id)) return deny('not-found', ABSENT, kind, address.value)
  return config.connections.has(connection) ? address : refuse('not-found', ABSENT)
}

/** An absent resource and an invisible one answer with the same words. */
const hideExistence = <T>(result: Result<T>): Result<T> =>
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
    return deny('forbidden', 'the caller may not read this resource', kind, address)
  const tags = entityTagsOf(request.headers, 'if-none-match')
  if (!tags.ok) return tags
  const readable = readableFields(caller, kind, address.id)
  const actor = parts.actor(address.connection)
  if (!actor) return refuse('not-found', ABSENT)
  const read = hideExistence(await actor.read({ kind, address, readable, requestId, traceparent }))
  if (!read.ok) return read
  const { etag } = read.value
  const headers = etag === undefined ? {} : { etag }
  const held = tags.value?.some((tag) => tag === '*' || tag === etag)
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
    return deny('forbidden', `the caller may not ${action} this resource`, kind, address)
  }
  const { headers } = request
  const reason = changeReasonOf(headers)
  if (!reason.ok) return reason
  const ifMatch = entityTagsOf(headers, 'if-match')
  if (!ifMatch.ok) return ifMatch
  const key = idempotencyKeyOf(headers)
  if (!key.ok) return key
  const body = await readJsonBody(request)
  if (!body.ok) return body
  const forbidden = forbiddenFields(caller, action, kind, address.id, Object.keys(body.value))
  if (forbidden.length > 0) {
    const detail = `the caller may not ${action} ${forbidden.join(', ')} of this resource`
    return deny('forbidden', detail, kind, address)
  }
  const actor = parts.actor(address.connection)
  if (!actor) return refuse('not-found', ABSENT)
  const answer: ChangeAnswer = await actor.change({
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
    ...(key.value !== undefined && { idempotencyKey: key.value }),
    ...(reason.value !== undefined && { reason: reason.value }),
    actor: { caller: caller.name, key: caller.keyId, address: peer },
  })
  const marks = answer.replayed ? { 'idempotency-replayed': 'true' } : {}
  return answer.ok
    ? ok(json(present(kind, answer.value), marks))
    : hideExistence({ ok: false, problem: { ...answer.problem, headers: marks } })
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

/** The reply's `resource` is named after its kind. */
function present(kind: Kind, result: ChangeReply | PlanReply): object {
  if ('plan' in result) return { outcome: 'planned', ...result }
  const { changeId, outcome, changed, widens, resource, ...rest } = result
  return { changeId, outcome, changed, widens, [kind]: resource, ...rest }
}

/** An id and a body at each provider that has the kind, under the provider’s name. */
const examplesOf = (registry: Registry, kind: Kind) =>
  Object.entries(registry).flatMap(([provider, { kinds: own }]) => {
    const example = own[kind]?.example
    return example ? [{ provider, ...example }] : []
  })

const idOf = (registry: Registry, kind: Kind) => ({
  description: 'An id (`{connection}:{key}`) or an alias, percent-encoded once as any text in a path.',
  examples: Object.fromEntries(
    examplesOf(registry, kind).map(({ provider, key }) => [provider, { value: `${provider}:${key}` }]),
  ),
})

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
  'request-in-progress',
  'superseded',
  'idempotency-key-reused',
  'idempotency-key-blocked',
  'upstream-conflict',
  'self-lockout',
  'precondition-failed',
  'precondition-required',
  'validation-failed',
  'unsupported-field',
  'read-only-field',
  'secret-required-by-provider',
  'incomplete-representation',
  'resource-too-large',
  'upstream-validation-failed',
  'upstream-locked',
  'outcome-not-recorded',
  'not-taken',
  'partially-applied',
  'audit-unavailable',
  'outcome-unknown',
]

export function resourceOperations(parts: ResourceRouteParts): Operation[] {
  return kinds.flatMap((kind): Operation[] => {
    const path = `/${kind}s/{id}`
    const resource = resourceSchema(parts.registry, kind)
    const bodies = Object.fromEntries(
      examplesOf(parts.registry, kind).map(({ provider, summary, body }) => [
        provider,
        { summary, value: body },
      ]),
    )
    return [
      {
        name: `get${title(kind)}`,
        method: 'get',
        path,
        id: idOf(parts.registry, kind),
        tag: `${title(kind)}s`,
        summary: `Read a ${kind}`,
        description:
          'As the provider has it, or as it was last applied where it cannot be read. Never with a secret.',
        headers: z.object({
          'if-none-match': z
            .string()
            .optional()
            .openapi({ description: 'Entity tags; 304 when one still holds.' }),
        }),
        success: {
          200: {
            description: `The ${kind}.`,
            headers: ['ETag'],
            content: { 'application/json': { schema: resource } },
          },
          304: { description: 'It is still what `If-None-Match` names.', headers: ['ETag'] },
        },
        problems: [...shared, 'upstream-locked', 'upstream-conflict', 'upstream-validation-failed'],
        handle: (context) => get(parts, kind, context),
      },
      {
        name: `update${title(kind)}`,
        method: 'put',
        path,
        id: idOf(parts.registry, kind),
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
          'if-match': z
            .string()
            .optional()
            .openapi({ description: 'Entity tags, or `*`; 412 when none is that of the present state.' }),
          'idempotency-key': z
            .string()
            .optional()
            .openapi({ description: '1 to 255 visible ASCII characters; kept 24 h after the outcome.' }),
          'x-change-reason': z
            .string()
            .optional()
            .openapi({ description: 'Percent-encoded UTF-8, at most 500 characters.' }),
        }),
        body: { schema: updateSchema(parts.registry, kind), examples: bodies },
        success: {
          200: {
            description: 'Applied, or the plan of a dry run.',
            headers: ['Idempotency-Replayed'],
            content: {
              'application/json': {
                schema: z.discriminatedUnion('outcome', [changeSchema(kind, resource), planSchema]),
              },
            },
          },
        },
        problems: [...shared, ...ofChanges],
        handle: (context) => put(parts, kind, context),
      },
    ]
  })
}

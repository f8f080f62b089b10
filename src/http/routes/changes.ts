import { z } from '@hono/zod-openapi'
import { deny } from '../../access/deny.ts'
import {
  allowedFields,
  type Caller,
  isVisible,
  mayDo,
  mayAuditConnection,
  mayUse,
} from '../../access/rules.ts'
import type { Actor } from '../../change/actor.ts'
import type { Config } from '../../config/document.ts'
import type { History } from '../../ledger/history.ts'
import type { ChangeRecord } from '../../ledger/types.ts'
import { bodyPointer, isClean } from '../../lib/json.ts'
import type { Log } from '../../lib/log.ts'
import { type ChangeState, changeStates, kinds } from '../../model/enums.ts'
import { codeOfIssue, ok, refuse, refuseFields, type Result } from '../../model/problems.ts'
import { HIDDEN } from '../../model/redaction.ts'
import { historyAnswer, pageOf } from '../lists/pages.ts'
import { historyFilter, historyQuery, UUID } from '../lists/query.ts'
import type { CallerContext, Operation } from '../operation.ts'
import { readJsonBody } from '../request-body.ts'
import { eventFor, eventSchema } from './audit.ts'

export interface ChangeRouteParts {
  config: Config
  actor(connection: string): Actor | undefined
  history: History
  log: Log
}

const query = historyQuery.extend({
  outcome: z.enum(changeStates).optional().openapi({ description: 'The state.' }),
})

const SILENT = refuse('not-ready', 'a connection that may hold the change does not answer', {
  retryAfterSeconds: 1,
})
const ABSENT = 'there is no such change, or none that this caller can see'

const resolution = z
  .strictObject(
    {
      outcome: z
        .enum(['applied', 'rejected'])
        .openapi({ description: 'What a person found out at the provider.' }),
      reason: z
        .string()
        .min(1)
        .max(500)
        .refine(isClean, { error: 'must be well-formed Unicode without U+0000' })
        .openapi({
          description: 'How it was found out; kept in the audit.',
          example: 'checked in the console',
        }),
    },
    // Zod's own words repeat the name, which could be a value in the wrong place.
    { error: ({ code }) => (code === 'unrecognized_keys' ? 'has a member that is not known' : undefined) },
  )
  .openapi('Resolution')

const changeSchema = z
  .object({
    id: z.uuid(),
    connection: z.string(),
    kind: z.enum(kinds),
    resource: z.string(),
    actor: z.string().nullable(),
    state: z.enum(changeStates),
    since: z.string().openapi({ description: 'When it came into this state (RFC 3339).' }),
  })
  .openapi('Change')

const present = ({ id, connection, kind, resource, actor, state, since }: ChangeRecord) => ({
  id,
  connection,
  kind,
  resource,
  actor,
  state,
  since,
})

async function list(
  { config, history, log }: ChangeRouteParts,
  context: CallerContext,
): Promise<Result<Response>> {
  const { caller, query: asked } = context
  if (!mayUse(caller, 'read')) return deny('forbidden', 'the caller may not read changes')
  const state = asked['outcome'] as ChangeState | undefined
  const filter = { ...historyFilter(config, asked), ...(state !== undefined && { states: [state] }) }
  return ok(
    await historyAnswer(context, Object.keys(changeSchema.shape), {
      ...filter,
      log,
      read: (page) => history.changes({ ...filter, ...page }),
      show: (record) => (mayDo(caller, 'read', record.kind, record.resource) ? present(record) : undefined),
    }),
  )
}

const denied = (
  slug: 'forbidden' | 'not-found',
  detail: string,
  { connection, kind, resource }: ChangeRecord,
) => deny(slug, detail, kind, { connection, id: resource })

/** The change's record, if the caller can see its resource at all. */
async function find(
  { config, history }: ChangeRouteParts,
  caller: Caller,
  id: string,
): Promise<Result<ChangeRecord>> {
  if (!UUID.test(id)) return refuse('not-found', ABSENT)
  // The id does not contain the connection, so all connections that the caller may see are asked.
  const touches = (name: string) => mayAuditConnection(caller, name)
  const { rows, unanswered } = await history.changes({ change: id, limit: 1, except: [], touches })
  const [record] = rows
  if (!record || !touches(record.connection)) {
    if (unanswered.length > 0) return SILENT
    // A change on a connection that the caller may not see is denied alike, whether it exists or not.
    return [...config.connections.keys()].every(touches)
      ? refuse('not-found', ABSENT)
      : deny('not-found', ABSENT)
  }
  return isVisible(caller, record.kind, record.resource) ? ok(record) : denied('not-found', ABSENT, record)
}

async function get(parts: ChangeRouteParts, caller: Caller, id: string): Promise<Result<Response>> {
  const found = await find(parts, caller, id)
  if (!found.ok) return found
  const { kind, resource } = found.value
  return mayDo(caller, 'read', kind, resource)
    ? tell(parts, caller, found.value)
    : denied('forbidden', 'the caller may not read this resource', found.value)
}

/** The change as it is now; fields that the caller may not read are hidden. */
async function tell(
  { history }: ChangeRouteParts,
  caller: Caller,
  record: ChangeRecord,
): Promise<Result<Response>> {
  const { connection, kind, resource } = record
  const mayRead = allowedFields(caller, 'read', kind, resource)
  const story = await history.story(connection, record.id)
  if (!story) return SILENT
  const events = story.map((event) => eventFor(event, mayRead))
  return ok(json({ ...present(record), events }))
}

const json = (value: unknown): Response =>
  new Response(JSON.stringify(value), { headers: { 'content-type': 'application/json' } })

async function resolve(parts: ChangeRouteParts, context: CallerContext): Promise<Result<Response>> {
  const { caller, segment: id, request, requestId, address } = context
  const found = await find(parts, caller, id)
  if (!found.ok) return found
  const { kind, resource, connection } = found.value
  if (!mayDo(caller, 'resolve', kind, resource))
    return denied('forbidden', 'the caller may not resolve this change', found.value)
  const body = await readJsonBody(request)
  if (!body.ok) return body
  const read = resolution.safeParse(body.value)
  if (!read.success) {
    return refuseFields(
      read.error.issues.map(({ path, code, message }) => ({
        pointer: bodyPointer(path),
        code: codeOfIssue(code),
        detail: message,
      })),
    )
  }
  const actor = parts.actor(connection)
  if (!actor) return refuse('not-found', ABSENT)
  const by = { caller: caller.name, key: caller.keyId, address }
  const resolved = await actor.resolve({ changeId: id, ...read.data, actor: by, requestId })
  if (!resolved.ok) return resolved
  const asked = { change: id, connections: [connection], limit: 1, except: [], touches: () => true }
  const [record] = (await parts.history.changes(asked)).rows
  if (!record) return SILENT
  if (mayDo(caller, 'read', kind, resource)) return tell(parts, caller, record)
  // The resolver need not learn who made the change, nor what it was.
  return ok(json({ ...present(record), actor: HIDDEN }))
}

export function changeOperations(parts: ChangeRouteParts): Operation[] {
  const whole = changeSchema.extend({ events: z.array(eventSchema) }).openapi('ChangeStory')
  const settled = changeSchema
    .extend({
      events: z.array(eventSchema).optional().openapi({
        description: 'Absent where the caller may not read the resource; `actor` is `[hidden]` then.',
      }),
    })
    .openapi('SettledChange')
  const id = {
    description: 'A change id (UUIDv7).',
    examples: { change: { value: '01979d3e-5b1a-7c3e-9f00-0123456789ab' } },
  }
  return [
    {
      name: 'listChanges',
      method: 'get',
      path: '/changes',
      tag: 'Changes',
      summary: 'List changes, newest first',
      description: 'Of resources that the caller may read; each with its state.',
      query,
      success: pageOf(changeSchema, 'changes'),
      problems: [],
      handle: (context) => list(parts, context),
    },
    {
      name: 'getChange',
      method: 'get',
      path: '/changes/{id}',
      id,
      tag: 'Changes',
      summary: 'Read a change: its state and everything that happened',
      description: 'The change, with the events of its story.',
      success: {
        200: {
          description: 'The change with its events, oldest first.',
          content: { 'application/json': { schema: whole } },
        },
      },
      problems: ['not-found'],
      handle: ({ caller, segment }) => get(parts, caller, segment),
    },
    {
      name: 'resolveChange',
      method: 'post',
      path: '/changes/{id}/resolve',
      id,
      tag: 'Changes',
      summary: 'Settle by hand a change that the gateway could not settle',
      description:
        'For changes that are `unknown`, `needs_attention` or `partial`, once a person has looked at the provider.',
      body: {
        schema: resolution,
        examples: {
          applied: {
            summary: 'It was applied',
            value: { outcome: 'applied', reason: 'checked in the console' },
          },
        },
      },
      success: {
        200: { description: 'The settled change.', content: { 'application/json': { schema: settled } } },
      },
      problems: [
        'not-found',
        'malformed-request',
        'payload-too-large',
        'unsupported-media-type',
        'validation-failed',
        'credential-busy',
        'request-in-progress',
        'superseded',
        'audit-unavailable',
      ],
      handle: (context) => resolve(parts, context),
    },
  ]
}

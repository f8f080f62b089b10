import type { z } from 'zod'
import type { FaultCode, Kind } from './enums.ts'

import type { FieldChanges } from './fields.ts'

/**
 * Every way the gateway can refuse or fail, in one table. Handlers answer from it, the OpenAPI document lists its
 * statuses, and `/problems/{slug}` serves its text (RFC 9457: `type` should lead to a page for people).
 */
export interface ProblemEntry {
  status: number
  title: string
  /** What the caller should understand and do: the body of the page behind `type`. */
  text: string
  /** True when the very same request may succeed later, without being changed. */
  retryable: boolean
}

const entry = (status: number, title: string, text: string, retryable = false): ProblemEntry => ({
  status,
  title,
  text,
  retryable,
})

export const problems = {
  'malformed-request': entry(
    400,
    'Malformed request',
    'The body is not one JSON object, names a member twice or a member `__proto__`, or is larger in nesting, members or texts than the gateway takes; or the request is not well-formed HTTP. Nothing was sent upstream.',
  ),
  'invalid-id': entry(
    400,
    'Invalid id',
    'The id in the path does not follow the grammar of ids or of the provider’s keys. See GET /providers for the grammar.',
  ),
  'invalid-query': entry(
    400,
    'Invalid query',
    'A query parameter is unknown, repeated, or has a value that the operation does not list.',
  ),
  'invalid-header': entry(
    400,
    'Invalid header',
    'A request header that the gateway reads is malformed, or two headers contradict each other.',
  ),
  unauthenticated: entry(
    401,
    'Unauthenticated',
    'The request carries no API key and no token, or one that is malformed, unknown, expired or of nobody who is configured here. Send `Authorization: Bearer …` or `X-API-Key`.',
  ),
  forbidden: entry(
    403,
    'Forbidden',
    'The caller is known, and may not do this to a resource that it may otherwise see. The provider was not asked.',
  ),
  'not-found': entry(
    404,
    'Not found',
    'There is no such resource, connection, alias or route, or the caller’s rules do not reach it.',
  ),
  'method-not-allowed': entry(
    405,
    'Method not allowed',
    'The route exists, the method does not. The `Allow` header lists the methods that do.',
  ),
  'request-timeout': entry(
    408,
    'Request timeout',
    'The request did not arrive whole in time, and the connection was closed. Nothing was sent upstream.',
    true,
  ),
  'credential-busy': entry(
    409,
    'Resource busy',
    'Too many changes wait for this resource, or the deadline passed while waiting. Nothing was sent.',
    true,
  ),
  'request-in-progress': entry(
    409,
    'Request in progress',
    'A request with the same `Idempotency-Key` is under way. Its answer can be had with the same request later.',
    true,
  ),
  superseded: entry(
    409,
    'Superseded',
    'A newer change of the resource has taken the place of this one, or may have: it is not sent again, so that no older value comes back. Or the change is settled already. `GET /changes/{id}` says which; one that is still open can be settled by hand.',
  ),
  'upstream-conflict': entry(
    409,
    'Conflict at the provider',
    'The provider refused the change because it collides with another of its resources, such as a name already in use.',
  ),
  'self-lockout': entry(
    409,
    'Would lock the gateway out',
    'The resource is what the gateway itself signs in with. Repeat with `?allowSelf=true` if that is intended.',
  ),
  'precondition-failed': entry(
    412,
    'Precondition failed',
    'None of the tags in `If-Match` is that of the present state: the resource has changed, or the tags are of something else. Or the provider cannot be read, so that no state can be compared. Read the resource for its tag.',
  ),
  'payload-too-large': entry(413, 'Payload too large', 'The body is larger than the gateway accepts.'),
  'unsupported-media-type': entry(
    415,
    'Unsupported media type',
    'The body must be `application/json` in UTF-8, without a content encoding.',
  ),
  'validation-failed': entry(
    422,
    'Validation failed',
    'One or more fields are not acceptable; `errors` lists every one of them, each with its code.',
  ),
  'unsupported-field': entry(
    422,
    'Unsupported field',
    'The provider has no such field. Fields are never dropped silently; see GET /providers.',
  ),
  'read-only-field': entry(422, 'Read-only field', 'The field is returned by the gateway and cannot be set.'),
  'secret-required-by-provider': entry(
    422,
    'The provider needs a secret',
    'The provider replaces the whole credential on every update and its secrets cannot be read back. Send `secret` with the change. Nothing was written.',
  ),
  'incomplete-representation': entry(
    422,
    'Incomplete representation',
    '`?mode=replace` needs every writable field, and a provider that replaces the whole resource every field that cannot be carried over from what it told; `errors` lists those that are missing. Nothing was written.',
  ),
  'idempotency-key-reused': entry(
    422,
    'Idempotency key reused',
    'The key came with another body or mode before. Use a new key for a new change.',
  ),
  'idempotency-key-blocked': entry(
    409,
    'Idempotency key blocked',
    'The key came with another body or mode five times within an hour, which would let its first body be guessed. It answers nothing until `Retry-After` is over, the right request included. Nothing was sent.',
    true,
  ),
  'upstream-validation-failed': entry(
    422,
    'Refused by the provider',
    'The provider looked at the values and refused them. Nothing was changed.',
  ),
  'upstream-locked': entry(423, 'Locked at the provider', 'The provider holds the resource locked.'),
  'precondition-required': entry(
    428,
    'Precondition required',
    'This connection takes changes only with `If-Match`. Read the resource and send its ETag.',
  ),
  'headers-too-large': entry(
    431,
    'Headers too large',
    'The request line and the headers together are larger than the gateway accepts.',
  ),
  'internal-error': entry(
    500,
    'Internal error',
    'The gateway failed in a way that it does not know. The request id leads to the log entry.',
  ),
  'outcome-not-recorded': entry(
    500,
    'Outcome not recorded',
    'The change was made at the provider, and its outcome could not be stored.',
  ),
  'upstream-unauthorized': entry(
    502,
    'The provider refused the gateway',
    'The provider does not accept the gateway’s own account for this, or no longer. An operator has to look at it.',
  ),
  'upstream-failed': entry(
    502,
    'The provider failed',
    'The provider answered with a failure that is known to have changed nothing, or it could not be read.',
    true,
  ),
  'not-taken': entry(
    502,
    'Not taken',
    'The provider answered with success and does not hold what was asked for; `errors` names the fields, `fields` says what it told instead. With the outcome `rejected` none of what was asked for is in force, with `partial` some of it is. The request was not repeated.',
  ),
  'partially-applied': entry(
    502,
    'Partially applied',
    'The provider stored the change and did not deploy it everywhere; `deployment` says where it failed. Sending the same change again repeats the deployment.',
    true,
  ),
  'upstream-unavailable': entry(
    503,
    'Provider unavailable',
    'The provider could not be reached, or has failed so often that it is left alone for some seconds. Nothing was sent.',
    true,
  ),
  'rate-limited': entry(
    429,
    'Rate limited',
    'The caller has used up the requests that its operator grants it. `RateLimit` and `Retry-After` say when there will be more.',
    true,
  ),
  'resource-too-large': entry(
    422,
    'Resource too large',
    'The resource is too large for a change of it to be recorded whole. It can be read; make it smaller at the provider first. Nothing was sent.',
  ),
  'upstream-rate-limited': entry(
    503,
    'Rate limited by the provider',
    'The provider’s rate limit is spent. Nothing was changed; `Retry-After` says when to try again.',
    true,
  ),
  'audit-unavailable': entry(
    503,
    'Audit unavailable',
    'The change could not be recorded, so the provider was not called.',
    true,
  ),
  'not-ready': entry(
    503,
    'Not ready',
    'The gateway cannot serve requests now: it is starting, stopping, its configuration is at fault, or the keys of the issuer of a token cannot be had. Nothing was sent.',
    true,
  ),
  'outcome-unknown': entry(
    504,
    'Outcome unknown',
    'The change was sent and may have been applied. Read the resource, or send the same change again.',
    true,
  ),
} satisfies Record<string, ProblemEntry>

export type ProblemSlug = keyof typeof problems

/** One fault of one field. `pointer` is a URI fragment into the request body (RFC 6901 §6), such as `#/name`. */
/** Of a value, as zod calls it. */
const codes: Record<z.core.$ZodIssue['code'], FaultCode> = {
  invalid_type: 'invalid-type',
  invalid_format: 'invalid-format',
  invalid_value: 'invalid-value',
  invalid_union: 'invalid-union',
  invalid_key: 'invalid-key',
  invalid_element: 'invalid-element',
  not_multiple_of: 'not-multiple-of',
  too_big: 'too-big',
  too_small: 'too-small',
  unrecognized_keys: 'unrecognized-keys',
  custom: 'custom',
}
export const codeOfIssue = (code: z.core.$ZodIssue['code']): FaultCode => codes[code]

export interface FieldFault {
  pointer: string
  code: FaultCode
  detail: string
}

/** A problem as plain data: it crosses actor boundaries as it is, and becomes a response in `app.ts`. */
export interface Problem {
  slug: ProblemSlug
  detail: string
  errors?: FieldFault[]
  retryAfterSeconds?: number
  changeId?: string
  outcome?: string
  /**
   * Fields for which the provider reported another value than was requested. Kept whole, and masked for each caller.
   */
  fields?: FieldChanges
  /** Further response headers. */
  headers?: Record<string, string>
  /** Set where the caller was refused for who it is; never part of a reply. */
  denied?: Denied
  /** Further members of the problem document (RFC 9457 §3.2), such as `deployment`. */
  extension?: Record<string, unknown>
}

export type Result<T, F = Problem> = { ok: true; value: T } | { ok: false; problem: F }

export const ok = <T>(value: T): { ok: true; value: T } => ({ ok: true, value })

export const refuse = (
  slug: ProblemSlug,
  detail: string,
  more: Omit<Problem, 'slug' | 'detail'> = {},
): { ok: false; problem: Problem } => ({ ok: false, problem: { slug, detail, ...more } })

/** Faults of one sort carry that sort's slug; faults of several sorts are `validation-failed`, each with its code. */
export function refuseFields(errors: FieldFault[]): { ok: false; problem: Problem } {
  const codes = new Set(errors.map((error) => error.code))
  const [only] = codes
  const slug =
    codes.size === 1 && only !== undefined && only in problems ? (only as ProblemSlug) : 'validation-failed'
  return refuse(slug, errors.map((error) => `${error.pointer}: ${error.detail}`).join('; '), { errors })
}

/** What a caller asked for and may not have. All null where it was a route. */
export interface Denied {
  connection: string | null
  alias: string | null
  kind: Kind | null
  resource: string | null
}

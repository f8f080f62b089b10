import { z } from '@hono/zod-openapi'
import { CHALLENGE } from '../access/authenticate.ts'
import type { Caller } from '../access/rules.ts'
import { faultCodes, outcomes } from '../model/enums.ts'
import { ok, type Problem, type ProblemSlug, problems, refuse, type Result } from '../model/problems.ts'

/** What a handler gets: the request's parts that every operation needs, already checked. */
export interface OperationContext {
  request: Request
  url: URL
  /** The path's parameter as it came over the wire, still encoded. */
  segment: string
  query: Record<string, string>
  requestId: string
  traceparent: string
  /** The peer's address, if the runtime provides it. */
  address: string | null
}
export type CallerContext = OperationContext & { caller: Caller }

/** Headers that only some replies carry. */
export type ReplyHeader = 'ETag' | 'Idempotency-Replayed'

interface Common {
  /** `operationId` of the description: what generated clients call it. */
  name: string
  method: 'get' | 'put' | 'post'
  /** With one parameter at the most, `{id}` or `{slug}`. */
  path: string
  /** What `{id}` is, with examples under the same names as the body's. */
  id?: { description: string; examples: Record<string, { value: string }> }
  /** True for what only a page loads: it is served and not described. */
  hidden?: true
  summary: string
  description: string
  tag: string
  query?: z.ZodObject
  headers?: z.ZodObject
  body?: { schema: z.ZodType; examples: Record<string, { summary: string; value: unknown }> }
  success: Record<
    number,
    {
      description: string
      headers?: readonly ReplyHeader[]
      content?: Record<string, { schema: z.ZodType }>
    }
  >
  problems: readonly ProblemSlug[]
}

/** One route: schema and handler together. The document and the dispatcher both read it, so they cannot disagree. */
export type Operation =
  | (Common & { public: true; handle(context: OperationContext): Promise<Response> | Response })
  | (Common & { public?: never; handle(context: CallerContext): Promise<Result<Response>> })

export const problemSchema = z
  .looseObject({
    type: z
      .enum(Object.keys(problems).map((slug) => `/problems/${slug}`))
      .openapi({ example: '/problems/unsupported-field' }),
    title: z.string(),
    status: z.int(),
    detail: z.string(),
    instance: z.string(),
    requestId: z.string(),
    retryable: z.boolean(),
    changeId: z.string().optional(),
    outcome: z.enum(outcomes).optional(),
    errors: z
      .array(z.object({ pointer: z.string(), code: z.enum(faultCodes), detail: z.string() }))
      .optional(),
    fields: z.record(z.string(), z.looseObject({})).optional().openapi({
      description: 'Fields of which the provider `told` something else than what was asked for.',
    }),
  })
  .openapi('Problem', { description: 'RFC 9457. `type` is a page on this gateway.' })

const querySchemas = new WeakMap<Operation, z.ZodObject>()

/** Built once: building a schema costs many times what using it does. */
function querySchema(operation: Operation): z.ZodObject {
  const schema = querySchemas.get(operation) ?? z.strictObject(operation.query?.shape ?? {})
  querySchemas.set(operation, schema)
  return schema
}

/** What the schema would have taken in place of the value. */
function expectationOf(issue: z.core.$ZodIssue): string {
  if (issue.code !== 'invalid_value') return issue.message
  const values = issue.values.map(String).join(', ')
  return issue.values.length === 1 ? `must be ${values} or absent` : `must be one of ${values}`
}

/** The query's values, each at most once and only those that the operation knows. Values are never repeated in a fault. */
export function readQuery(operation: Operation, url: URL): Result<Record<string, string>> {
  const names = [...url.searchParams.keys()]
  const twice = names.find((name, index) => names.indexOf(name) !== index)
  const shape = operation.query?.shape ?? {}
  if (twice !== undefined) {
    const name = Object.hasOwn(shape, twice) ? twice : 'a query parameter'
    return refuse('invalid-query', `${name} is given twice; it can be given once`)
  }
  const read = querySchema(operation).safeParse(Object.fromEntries(url.searchParams))
  if (read.success) return ok(read.data as Record<string, string>)
  const known = read.error.issues.flatMap((issue) =>
    issue.path[0] === undefined ? [] : [`${String(issue.path[0])} ${expectationOf(issue)}`],
  )
  const unknown = read.error.issues.some((issue) => issue.code === 'unrecognized_keys')
  const expected = Object.keys(shape).join(', ') || 'none'
  return refuse(
    'invalid-query',
    [
      ...(unknown ? [`a query parameter is unknown; this operation takes ${expected}`] : []),
      ...new Set(known),
    ].join('; '),
  )
}

export function problemResponse(problem: Problem, requestId: string, pathname: string): Response {
  const { status, title, retryable } = problems[problem.slug]
  const { slug, detail, errors, fields, changeId, outcome, retryAfterSeconds, extension } = problem
  const document = {
    type: `/problems/${slug}`,
    title,
    status,
    detail,
    instance: changeId ? `/changes/${changeId}` : pathname,
    requestId,
    retryable,
    ...(changeId && { changeId }),
    ...(outcome && { outcome }),
    ...(errors && { errors }),
    ...(fields && { fields }),
    ...extension,
  }
  const headers = new Headers({ ...problem.headers, 'content-type': 'application/problem+json' })
  if (retryAfterSeconds !== undefined) headers.set('retry-after', String(retryAfterSeconds))
  if (status === 401 && !headers.has('www-authenticate')) headers.set('www-authenticate', CHALLENGE)
  return new Response(JSON.stringify(document), { status, headers })
}

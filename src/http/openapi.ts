import { type OpenAPIHono, z } from '@hono/zod-openapi'
import { type ProblemSlug, problems } from '../model/problems.ts'
import { type Operation, problemSchema } from './operation.ts'

const DESCRIPTION =
  'One `PUT` for every system that hands out credentials. Callers see one normalized model, one honest outcome and ' +
  'one audit trail; what a provider cannot do is refused by name. A 2xx means that the change is in force everywhere ' +
  'the provider deploys to, and that its intent and its outcome are recorded. Every reply carries `X-Request-Id` and `traceparent`.'

/** In the order of the operations. */
const tags = [
  {
    name: 'Credentials',
    description: 'What lets a client in: API credentials, API clients, users with passwords.',
  },
  { name: 'Roles', description: 'Named sets of permissions.' },
  { name: 'Permissions', description: 'What a role may do with one kind of thing.' },
  { name: 'Changes', description: 'What was asked for and where it stands.' },
  { name: 'Audit', description: 'Who changed what, and what really happened.' },
  { name: 'Providers', description: 'What each provider can do, and the connections to them.' },
  { name: 'Health', description: 'Whether the gateway answers, and whether it can take changes.' },
  { name: 'Documentation', description: 'This document, and what every problem means.' },
]

/** Headers of replies, each described once. */
const headers = {
  'X-Request-Id': {
    description: 'The request’s own id, or the one that it came with.',
    schema: { type: 'string' },
  },
  ETag: {
    description: 'The state of the resource, for `If-Match` and `If-None-Match`.',
    schema: { type: 'string' },
  },
  'Idempotency-Replayed': {
    description: '`true` where this is the stored answer to an `Idempotency-Key`.',
    schema: { type: 'string', const: 'true' },
  },
  'Retry-After': {
    description: 'Seconds after which the same request may succeed.',
    schema: { type: 'integer' },
  },
  'WWW-Authenticate': { description: 'How to authenticate (RFC 6750).', schema: { type: 'string' } },
} as const

const reference = (section: string, name: string) => ({ $ref: `#/components/${section}/${name}` })
const named = (...names: (keyof typeof headers)[]) => ({
  headers: Object.fromEntries(names.map((name) => [name, reference('headers', name)])),
})

const pascal = (slug: string): string =>
  slug.replace(/(?:^|-)(\w)/g, (_, letter: string) => letter.toUpperCase())

/** A problem document as the reference shows it. */
function exampleOf(slug: ProblemSlug) {
  const { title, status, text, retryable } = problems[slug]
  const requestId = 'a1b2'
  const instance = '/roles/editor'
  const value = { type: `/problems/${slug}`, title, status, detail: text, instance, requestId, retryable }
  return { value }
}

/** Refusals of one status that say the same of two operations are one response, and each problem is shown once. */
function refusalOf(status: number, slugs: readonly ProblemSlug[]) {
  const isLater = slugs.some((slug) => problems[slug].retryable)
  return {
    description: slugs.map((slug) => `\`${slug}\``).join(', '),
    ...named(
      'X-Request-Id',
      ...(isLater ? (['Retry-After'] as const) : []),
      ...(status === 401 ? (['WWW-Authenticate'] as const) : []),
    ),
    content: {
      'application/problem+json': {
        schema: reference('schemas', 'Problem'),
        examples: Object.fromEntries(slugs.map((slug) => [slug, reference('examples', pascal(slug))])),
      },
    },
  }
}

/** Every operation may answer these, whether it asks for a caller or not. */
const always = [
  'malformed-request',
  'invalid-id',
  'invalid-query',
  'request-timeout',
  'headers-too-large',
  'internal-error',
  'not-ready',
] as const
const withCaller = ['unauthenticated', 'invalid-header', 'forbidden', 'rate-limited'] as const

/** Describes the operations that are not hidden; each refusal and each example of a problem stands in the document once. */
export function describeOperations(app: OpenAPIHono, operations: readonly Operation[]): void {
  const registry = app.openAPIRegistry
  registry.registerComponent('securitySchemes', 'bearer', {
    type: 'http',
    scheme: 'bearer',
    description:
      'An API key (`cgw_…`), or a JWT of an issuer that the gateway is configured with. A proxy such as Cloudflare ' +
      'Access puts the JWT into a header of its own instead (`Cf-Access-Jwt-Assertion`). One credential a request.',
  })
  registry.registerComponent('securitySchemes', 'apiKey', {
    type: 'apiKey',
    in: 'header',
    name: 'X-API-Key',
    description: 'An API key (`cgw_…`).',
  })
  registry.register('Problem', problemSchema)
  for (const [name, header] of Object.entries(headers)) registry.registerComponent('headers', name, header)
  const shown = new Set<ProblemSlug>()
  const names = new Map<string, string>()
  /** By status: of one problem its own name, of several the status with a letter. */
  function refusal(status: number, slugs: readonly ProblemSlug[]) {
    const key = slugs.join(' ')
    const known = names.get(key)
    if (known !== undefined) return reference('responses', known)
    const [only = ''] = slugs
    const alike = [...names].filter(([, name]) => name.startsWith(`Refused${status}`)).length
    const letter = String.fromCodePoint('A'.charCodeAt(0) + alike)
    const name = slugs.length === 1 ? pascal(only) : `Refused${status}${letter}`
    names.set(key, name)
    registry.registerComponent('responses', name, refusalOf(status, slugs))
    for (const slug of slugs) {
      if (!shown.has(slug)) registry.registerComponent('examples', pascal(slug), exampleOf(slug))
      shown.add(slug)
    }
    return reference('responses', name)
  }
  for (const operation of operations) {
    if (operation.hidden) continue
    const { name, method, path, summary, description, tag, query, headers: asked, body } = operation
    const slugs = [...new Set([...always, ...(operation.public ? [] : withCaller), ...operation.problems])]
    const byStatus = Map.groupBy(slugs.toSorted(), (slug) => problems[slug].status)
    const id = z.string().openapi({ param: { name: 'id', in: 'path', ...operation.id } })
    const success = Object.entries(operation.success).map(([status, { headers: carried = [], ...reply }]) => [
      status,
      { ...reply, ...named('X-Request-Id', ...carried) },
    ])
    registry.registerPath({
      method,
      path,
      summary,
      description,
      tags: [tag],
      operationId: name,
      ...(operation.public && { security: [] }),
      request: {
        ...(path.includes('{id}') && { params: z.object({ id }) }),
        ...(path.includes('{slug}') && {
          params: z.object({ slug: z.enum(Object.keys(problems) as [ProblemSlug]) }),
        }),
        ...(query && { query }),
        ...(asked && { headers: asked }),
        ...(body && { body: { required: true, content: { 'application/json': body } } }),
      },
      responses: Object.fromEntries([
        ...[...byStatus].map(([status, list]) => [status, refusal(status, list)]),
        ...success,
      ]),
    })
  }
}

interface Described {
  info: object
  paths: Record<string, Record<string, { parameters?: object[] }>>
  components: Record<string, Record<string, object>>
}

/** A parameter that several operations take is described once. */
function shareParameters({ paths, components }: Described): void {
  const operations = Object.values(paths).flatMap((methods) => Object.values(methods))
  const all = Map.groupBy(
    // The reference's own client switches a shared one with an enumeration on, whether it is asked for or not.
    operations
      .flatMap(({ parameters = [] }) => parameters as { name: string; schema: { enum?: unknown } }[])
      .filter(({ schema }) => schema.enum === undefined),
    (parameter) => JSON.stringify(parameter),
  )
  const shared = new Map<string, string>()
  for (const [text, [parameter, ...others]] of all) {
    if (!parameter || others.length === 0) continue
    const alike = [...shared.values()].filter((name) => name.startsWith(pascal(parameter.name))).length
    shared.set(text, pascal(parameter.name) + (alike === 0 ? '' : alike + 1))
    components['parameters'] = { ...components['parameters'], [shared.get(text) ?? '']: parameter }
  }
  for (const operation of operations) {
    operation.parameters &&= operation.parameters.map((parameter) => {
      const name = shared.get(JSON.stringify(parameter))
      return name === undefined ? parameter : reference('parameters', name)
    })
  }
}

/** Types that JSON Schema does not tell apart, as IPv4 and IPv6 addresses, are one member of a union. */
function withoutTwins(value: unknown): void {
  if (typeof value !== 'object' || value === null) return
  const node = value as { anyOf?: unknown[] }
  if (Array.isArray(node.anyOf))
    node.anyOf = [...new Map(node.anyOf.map((member) => [JSON.stringify(member), member])).values()]
  for (const member of Object.values(value)) withoutTwins(member)
}

/** A parameter’s description stands beside its schema, and again in it: once is enough. */
function withoutRepetition({ paths }: Described): void {
  for (const { parameters = [] } of Object.values(paths).flatMap((methods) => Object.values(methods)))
    for (const parameter of parameters as { description?: string; schema?: { description?: string } }[])
      if (parameter.schema?.description === parameter.description) delete parameter.schema?.description
}

/** The document of an app whose operations are all described. */
export function openApiDocument(app: OpenAPIHono): object {
  const document = app.getOpenAPI31Document({
    openapi: '3.1.0',
    info: {
      title: 'Credential gateway',
      version: '0.1.0',
      description: DESCRIPTION,
      license: { name: 'MIT', identifier: 'MIT' } as { name: string },
      contact: { name: 'The team that runs it' },
    },
    servers: [{ url: '/' }],
    security: [{ bearer: [] }, { apiKey: [] }],
    tags,
  })
  // Only what is sent counts, and the schemas that it was made of are shared.
  const plain = structuredClone(document) as unknown as Described
  withoutTwins(plain)
  withoutRepetition(plain)
  shareParameters(plain)
  return plain
}

import type { Json } from './sandbox-calls.ts'

/** One way of using an operation, made of what the OpenAPI document says about it. */
export interface DocumentedRequest {
  /** Which operation, and which of its examples. */
  name: string
  method: string
  path: string
  body?: unknown
  /** What it needs a right to; undefined where any caller will do. */
  needs: Action | undefined
  /** What its id is: a resource's, or a change's. */
  target: Target | undefined
  /** The same request for what does not exist. */
  absent?: string
}
type Action = 'read' | 'write' | 'plan' | 'audit' | 'resolve'

export interface Target {
  of: 'resource' | 'change'
  id: string
  /** The resource, or that of the change. */
  connection: string
  kind: string
  /** One of the same grammar that nobody has. */
  absent: string
}

/** What exists in place of an example: `kind` is undefined where the example is no resource's. */
export type Resolve = (example: string, kind: string | undefined) => Promise<Target>

/** What is open to everybody, by contract and not by the document. */
const PUBLIC = /^\/(?:health\/.*|docs|openapi\..*|problems\/.*)$/

export interface DocumentedOperation {
  method: string
  template: string
  operation: Json
}

/** A part of the document, or what it refers to there. */
export const resolveIn = (document: Json, part: Json): Json =>
  part?.$ref === undefined
    ? part
    : part.$ref
        .slice('#/'.length)
        .split('/')
        .reduce((at: Json, name: string) => at[name], document)

/** Every operation of the document, with its parameters in place; HEAD is one wherever GET is. */
export const operationsIn = (document: Json): DocumentedOperation[] =>
  Object.entries<Json>(document.paths).flatMap(([template, methods]) =>
    Object.entries<Json>(methods).flatMap(([method, said]) => {
      const parameters = said.parameters?.map((one: Json) => resolveIn(document, one))
      const operation = { ...said, ...(parameters && { parameters }) }
      const names = method === 'get' ? ['GET', 'HEAD'] : [method.toUpperCase()]
      return names.map((name) => ({ method: name, template, operation }))
    }),
  )

export const isPublic = ({ template }: DocumentedOperation): boolean => PUBLIC.test(template)

/** The right that an operation needs, by its shape: one that is new needs one too. */
function rightTo(method: string, template: string): Action | undefined {
  if (/^\/(?:providers|connections)$/.test(template)) return undefined
  if (/^\/(?:audit|metrics)\b/.test(template)) return 'audit'
  if (template.endsWith('/resolve')) return 'resolve'
  return method === 'GET' || method === 'HEAD' ? 'read' : 'write'
}

/** Requests that use every operation that is not public, once for each of its examples. */
export async function requestsOf(document: Json, resolve: Resolve): Promise<DocumentedRequest[]> {
  const requests: DocumentedRequest[] = []
  for (const one of operationsIn(document)) {
    if (isPublic(one)) continue
    const { method, template, operation } = one
    const parameters: Json[] = operation.parameters ?? []
    const inPath = parameters.find((parameter) => parameter.in === 'path')
    const bodies = operation.requestBody?.content['application/json'].examples
    const kind = /^\/(\w+)s\/\{id\}$/.exec(template)?.[1]
    const examples = inPath ? Object.entries<Json>(inPath.examples) : [['', undefined] as const]
    for (const [example, id] of examples) {
      const target = id && (await resolve(id.value, kind === 'change' ? undefined : kind))
      const at = (text: string) => template.replace(/\{\w+\}/, encodeURIComponent(text))
      const request: DocumentedRequest = {
        name: `${method} ${template} ${example}`.trim(),
        method,
        path: at(target?.id ?? ''),
        needs: rightTo(method, template),
        target,
        ...(target && { absent: at(target.absent) }),
        ...(bodies && { body: (bodies[example] ?? Object.values(bodies)[0]).value }),
      }
      requests.push(request)
      if (!parameters.some(({ name }) => name === 'dryRun')) continue
      const dry = (path: string) => `${path}?dryRun=true`
      requests.push({
        ...request,
        name: `${request.name} as a plan`,
        path: dry(request.path),
        needs: 'plan',
        ...(request.absent !== undefined && { absent: dry(request.absent) }),
      })
    }
  }
  return requests
}

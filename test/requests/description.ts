import addFormats from 'ajv-formats'
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'
import { resolveIn } from '../harness/documented-requests.ts'
import type { Json } from '../harness/sandbox-calls.ts'

/** One operation as the OpenAPI document describes it. */
export interface Described {
  method: string
  path: string
  parameters: Json[]
  /** Of an `application/json` body. */
  body?: { schema: Json; examples: Record<string, { value: Json }> }
  responses: Record<string, Json>
}

/** What a gateway says of itself, made ready to be held against it. */
export interface Description {
  operations: Described[]
  /** Every problem that has a page. */
  slugs: ReadonlySet<string>
  /** Follows a `$ref` within the document. */
  resolve(schema: Json): Json
  /** The operations that a request for the target may be answered by. HEAD is answered as GET. */
  matching(method: string, target: string): Described[]
  /** What is wrong with a JSON body of this status and type, or undefined. */
  faultOf(operation: Described, status: number, type: string, body: unknown): string | undefined
  /** The same of a problem document that no operation answers for. */
  problemFaultOf(body: unknown): string | undefined
}

const escaped = (part: string): string => encodeURIComponent(part.replaceAll('~', '~0').replaceAll('/', '~1'))

export function describeGateway(document: Json): Description {
  const ajv = new Ajv2020({ strict: false, allErrors: false, logger: false })
  addFormats.default(ajv)
  ajv.addSchema(document, 'gateway')
  const validators = new Map<string, ValidateFunction>()
  function faultAt(path: string[], body: unknown): string | undefined {
    const place = path.map(escaped).join('/')
    const validate = validators.get(place) ?? ajv.compile({ $ref: `gateway#/${place}` })
    validators.set(place, validate)
    return validate(body) ? undefined : ajv.errorsText(validate.errors)
  }

  const resolve = (part: Json): Json => resolveIn(document, part)
  const operations = Object.entries<Json>(document.paths).flatMap(([path, byMethod]) =>
    Object.entries<Json>(byMethod).map(([method, one]): Described => ({
      method: method.toUpperCase(),
      path,
      parameters: (one.parameters ?? []).map(resolve),
      ...(one.requestBody && { body: one.requestBody.content['application/json'] }),
      responses: Object.fromEntries(
        Object.entries<Json>(one.responses).map(([status, response]) => [status, resolve(response)]),
      ),
    })),
  )
  const patterns = new Map(
    operations.map(({ path }) => [
      path,
      new RegExp(`^${path.replaceAll('.', '\\.').replace(/\{\w+\}/g, '[^/]+')}$`),
    ]),
  )
  const slugs = operations.flatMap(({ parameters }) =>
    parameters.filter(({ name }) => name === 'slug').flatMap(({ schema }) => schema.enum as string[]),
  )
  return {
    operations,
    slugs: new Set(slugs),
    resolve,
    matching: (method, target) =>
      operations.filter(
        (one) =>
          one.method === (method === 'HEAD' ? 'GET' : method) &&
          patterns.get(one.path)?.test(target.split('?')[0] ?? ''),
      ),
    faultOf({ path, method }, status, type, body) {
      const at = ['paths', path, method.toLowerCase(), 'responses', String(status)]
      const response = at.reduce((part: Json, name) => part[name], document)
      // By its own place, so that it is compiled once for all operations.
      const place = response.$ref?.slice('#/'.length).split('/') ?? at
      return faultAt([...place, 'content', type, 'schema'], body)
    },
    problemFaultOf: (body) => faultAt(['components', 'schemas', 'Problem'], body),
  }
}

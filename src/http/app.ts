import { OpenAPIHono } from '@hono/zod-openapi'
import type { Actor } from '../change/actor.ts'
import type { History } from '../ledger/history.ts'
import { clientAddress } from '../lib/client-address.ts'
import { traceparentOf } from '../lib/trace.ts'
import type { Registry } from '../model/adapter.ts'
import { type Problem, ok, refuse, type Result } from '../model/problems.ts'
import { type AdmissionParts, createAdmission } from './admission.ts'
import { describeOperations, openApiDocument } from './openapi.ts'
import { type Operation, type OperationContext, problemResponse, readQuery } from './operation.ts'
import { requestIdOf } from './request-headers.ts'
import { auditOperations } from './routes/audit.ts'
import { changeOperations } from './routes/changes.ts'
import { type DocumentationParts, documentationOperations } from './routes/docs.ts'
import { healthOperations, type Readiness } from './routes/health.ts'
import { providerOperations } from './routes/providers.ts'
import { resourceOperations } from './routes/resources.ts'

/** What the entries hand in: everything that differs between the runtimes. */
export interface AppParts extends AdmissionParts, Omit<DocumentationParts, 'document'> {
  registry: Registry
  actor(connection: string): Actor | undefined
  history: History
  /** Reads the keys of token issuers. */
  readiness: Readiness
  /** The request target as it came over the wire, if the runtime provides it: URLs are normalized, targets are not. */
  targetOf(environment: unknown): string | undefined
  /** The peer's address out of what the runtime passes along with a request. */
  addressOf(environment: unknown): string | null
  /** Why nothing but health is served. */
  closed?: Problem
}

/** Headers of every response. Responses are not documents: they may load nothing and not be framed. */
export const ALWAYS = {
  'x-content-type-options': 'nosniff',
  // A proxy that compresses would weaken the tag.
  'cache-control': 'no-store, no-transform',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
}

/** The stateless front: who calls, is it well formed, which connection, pass it on. */
export function createApp(parts: AppParts): OpenAPIHono {
  const app = new OpenAPIHono()
  const admit = createAdmission(parts)
  let document: object | undefined
  const operations: Operation[] = [
    ...resourceOperations(parts),
    ...changeOperations(parts),
    ...auditOperations(parts),
    ...providerOperations(parts),
    ...healthOperations(parts.readiness),
    ...documentationOperations({ ...parts, document: () => (document ??= openApiDocument(app)) }),
  ]

  async function run(
    operation: Operation,
    context: OperationContext,
    headers: Record<string, string>,
  ): Promise<Result<Response>> {
    const query = readQuery(operation, context.url)
    if (operation.public) return query.ok ? ok(await operation.handle(context)) : query
    return admit(context, headers, async (caller) =>
      query.ok ? operation.handle({ ...context, query: query.value, caller }) : query,
    )
  }

  async function answer(
    request: Request,
    environment: unknown,
    operation?: Operation,
    allow?: string,
  ): Promise<Response> {
    const started = performance.now()
    const requestId = requestIdOf(request.headers)
    const traceparent = traceparentOf(request.headers)
    const url = new URL(request.url)
    const headers: Record<string, string> = { ...ALWAYS }

    async function dispatch(): Promise<Result<Response>> {
      if (parts.closed && !operation?.path.startsWith('/health/')) return { ok: false, problem: parts.closed }
      const target = parts.targetOf(environment)
      if (target !== undefined && target.split('?')[0] !== url.pathname) {
        return refuse('invalid-id', 'the path is not in its normal form')
      }
      if (allow) return refuse('method-not-allowed', `this route takes ${allow}`)
      if (!operation) return refuse('not-found', 'there is no such route')
      const at = operation.path.split('/').findIndex((part) => part.startsWith('{'))
      const segment = url.pathname.split('/')[at] ?? ''
      const peer = parts.addressOf(environment)
      const address = clientAddress(peer, request.headers, parts.config.trustedProxies)
      return run(operation, { request, url, segment, query: {}, requestId, traceparent, address }, headers)
    }

    let result: Result<Response>
    try {
      result = await dispatch()
    } catch (error) {
      const told = error instanceof Error ? (error.stack ?? error.message) : 'unknown'
      parts.log.error('request failed', { requestId, error: told })
      result = refuse('internal-error', 'see the log entry of this request')
    }
    const response = result.ok ? result.value : problemResponse(result.problem, requestId, url.pathname)
    if (allow) headers['allow'] = allow
    headers['x-request-id'] = requestId
    headers['traceparent'] = traceparent
    const own = response.headers
    for (const name in headers) {
      // A page's own policy and caching take precedence.
      if (!own.has(name)) own.set(name, headers[name] ?? '')
    }
    parts.log.info('request', {
      requestId,
      trace: traceparent.slice(3, 35),
      method: request.method,
      route: operation?.path ?? null,
      status: response.status,
      durationMs: Math.round(performance.now() - started),
    })
    return response
  }

  for (const [path, routes] of Map.groupBy(operations, ({ path }) => path)) {
    const pattern = path.replace(/\{(\w+)\}/g, ':$1')
    for (const operation of routes) {
      app.on(operation.method.toUpperCase(), pattern, (c) => answer(c.req.raw, c.env, operation))
    }
    // HEAD is answered wherever GET is.
    const methods = routes.flatMap(({ method }) =>
      method === 'get' ? ['GET', 'HEAD'] : [method.toUpperCase()],
    )
    app.all(pattern, (c) => answer(c.req.raw, c.env, undefined, methods.join(', ')))
  }
  app.notFound((c) => answer(c.req.raw, c.env))

  describeOperations(app, operations)
  return app
}

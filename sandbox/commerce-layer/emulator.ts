import { randomBytes } from 'node:crypto'
import { z } from 'zod'
import type { Clock } from '../clock.ts'
import { keeps } from '../deviation.ts'
import {
  accepts,
  type Answer,
  type Change,
  type Emulator,
  isObject,
  json,
  mediaType,
  parseJson,
  type Received,
  segmentsOf,
} from '../exchange.ts'
import { createSettings } from '../settings.ts'
import { createSlidingWindows, type Standing } from '../sliding-window.ts'
import { readDocument, violations } from './documents.ts'
import { apiError, authError, authRefusal, errors, jsonApiType, notFound, refusal } from './errors.ts'
import { obeyed, retoldDocument, writableMembers } from './members.ts'
import { parseQuery, type Query } from './query.ts'
import {
  isResourceType,
  ownOrganization,
  resources,
  type ResourceType,
  roleLink,
  specimen,
  type Stored,
} from './resources.ts'
import { createStore, included, pageLinks, rendered, type Resource } from './store.ts'
import { clientOf, createTokens, jsonWebKeySet, type UserClient } from './tokens.ts'

const allowanceSchema = z.strictObject({ limit: z.number().int().min(1), seconds: z.number().min(1) })

const limitsSchema = z.strictObject({
  /** All endpoints together, and each endpoint by itself. */
  writes: z.strictObject({ average: allowanceSchema, burst: allowanceSchema }),
  reads: z.strictObject({ average: allowanceSchema, burst: allowanceSchema }),
  token: allowanceSchema,
})

/**
 * docs.commercelayer.io/core/rate-limits and the Provisioning API's specification. Two versions of the latter
 * disagree on reads; this is the more generous one. PATCH and DELETE are not named: counted as writes (assumption).
 */
const publishedLimits: z.infer<typeof limitsSchema> = {
  writes: { average: { limit: 200, seconds: 60 }, burst: { limit: 50, seconds: 10 } },
  reads: { average: { limit: 1000, seconds: 60 }, burst: { limit: 250, seconds: 10 } },
  token: { limit: 30, seconds: 60 },
}

const settingsSchema = z.strictObject({
  limits: z.union([z.enum(['published', 'off']), limitsSchema]),
  /** The body of a 429 is not documented; nor is `Retry-After`. */
  limitBody: z.enum(['json', 'empty', 'text']),
  retryAfter: z.boolean(),
  tokenLifetimeSeconds: z.number().int().min(1),
  /** Custom roles, and creating roles at all, need the Enterprise plan. */
  enterprise: z.boolean(),
})

/** Subjects that `_add_missing_base_permissions` adds; the published documentation does not list them (assumption). */
const basePermissionSubjects = ['organizations', 'api_credentials', 'roles']

const methodsOf = (type: ResourceType, path: string[]): string[] => {
  if (path.length === 1) return ['GET', 'POST']
  if (path.length === 3) return ['GET']
  return resources[type].deletable ? ['GET', 'PATCH', 'DELETE'] : ['GET', 'PATCH']
}

const document = (status: number, body: unknown): Answer =>
  json(status, body, { 'content-type': jsonApiType })

const newId = () => randomBytes(16).toString('base64url').replaceAll(/[-_]/g, '').slice(0, 10).padEnd(10, '0')

/** The Provisioning API and the token endpoint of Commerce Layer, on one server. */
export function createCommerceLayer(clock: Clock, limits: 'published' | 'off'): Emulator {
  const settings = createSettings(settingsSchema, {
    limits,
    limitBody: 'json',
    retryAfter: false,
    tokenLifetimeSeconds: 7200,
    enterprise: true,
  })
  const windows = createSlidingWindows(clock)
  const tokens = createTokens(clock)
  const store = createStore()

  const activeLimits = () => {
    const { limits } = settings.current()
    return typeof limits === 'string' ? publishedLimits : limits
  }

  function api(request: Received, path: string[]): Answer {
    const [type, id, relationship] = path
    const standing = countedCall(request, path)
    const headers = limitHeaders(standing)
    const answer = standing.allowed ? routed() : tooMany(standing)
    return { ...answer, headers: { ...answer.headers, ...headers } }

    // Authentication comes first, then what the framework checks: route, method, media types (jsonapi-resources).
    function routed(): Answer {
      const bearer = /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? '')?.[1]
      const user = bearer === undefined ? undefined : tokens.owner(bearer)
      if (!user)
        return errors([
          apiError(401, 'INVALID_TOKEN', 'Invalid token', 'The access token you provided is invalid.'),
        ])
      if (!isResourceType(type) || path.length > 3)
        return errors([apiError(404, 'NOT_FOUND', 'Not found', 'There is nothing at this path.')])
      if (relationship !== undefined && !resources[type].relationshipOrder.includes(relationship))
        return errors([apiError(404, 'NOT_FOUND', 'Not found', 'There is no such relationship.')])
      const allowed = methodsOf(type, path)
      if (!allowed.includes(request.method)) {
        const refused = refusal(405)
        return { ...refused, headers: { ...refused.headers, allow: allowed.join(', ') } }
      }
      if (writes(request) && request.method !== 'DELETE') {
        // A charset parameter is tolerated, though the framework rejects media type parameters (assumption).
        if (mediaType(request.headers['content-type']) !== jsonApiType) return refusal(415)
      }
      if (!accepts(request.headers.accept, jsonApiType)) return refusal(406)
      if (writes(request) && !user.admin) return refusal(401, 'UNAUTHORIZED')
      return performed(request, type, id, relationship)
    }
  }

  function performed(
    request: Received,
    type: ResourceType,
    id: string | undefined,
    relationship: string | undefined,
  ): Answer {
    const query = parseQuery(type, request.query)
    if (Array.isArray(query)) return errors(query)
    if (id === undefined)
      return request.method === 'POST'
        ? create(request, type, query)
        : list(type, store.all(type).filter(query.matches).toSorted(query.order), query)
    if (request.method === 'PATCH') return update(request, type, id, query)
    if (request.method === 'DELETE') return destroy(type, id)
    return retrieve(type, id, relationship, query)
  }

  function retrieve(type: ResourceType, id: string, relationship: string | undefined, query: Query): Answer {
    const resource = store.find(type, id)
    if (!resource) return notFound(id)
    if (relationship === undefined) return shown(200, resource, query)
    const target = store.related(resource, relationship)
    // Includes name relationships of the resource in the path, not of what it leads to.
    const shape = { include: [], fields: query.fields }
    if (Array.isArray(target)) return list(`${type}/${id}/${relationship}`, target, { ...query, ...shape })
    return document(200, { data: target && rendered(target, store, shape) })
  }

  function list(path: string, found: Resource[], query: Query): Answer {
    const { size, number } = query.page
    const page = found.slice((number - 1) * size, number * size)
    const pages = Math.ceil(found.length / size)
    return document(200, {
      data: page.map((resource) => rendered(resource, store, query)),
      ...included(page, store, query),
      meta: { record_count: found.length, page_count: pages },
      links: pageLinks(path, query.page, pages),
    })
  }

  const shown = (status: number, resource: Stored, query: Query): Answer =>
    document(status, {
      data: rendered(resource, store, query),
      ...included([resource], store, query),
    })

  function create(request: Received, type: ResourceType, query: Query): Answer {
    const draft = readDocument(type, undefined, request.body)
    if (Array.isArray(draft)) return errors(draft)
    if (type === 'roles' && !settings.current().enterprise) return refusal(401, 'UNAUTHORIZED')
    const asked = drafted(newborn(type, newId(), draft.attributes['kind']), draft)
    const broken = violations(asked, draft, store, settings.current().enterprise)
    if (broken.length > 0) return errors(broken)
    const next = store.put(obeyed(undefined, asked, request.deviation))
    return { ...shown(201, next, query), change: change(request, type, undefined, next) }
  }

  function update(request: Received, type: ResourceType, id: string, query: Query): Answer {
    const draft = readDocument(type, id, request.body)
    if (Array.isArray(draft)) return errors(draft)
    const before = store.find(type, id)
    if (!before) return notFound(id)
    const asked = drafted(before, draft)
    const broken = violations(asked, draft, store, settings.current().enterprise)
    if (broken.length > 0) return errors(broken)
    const next = store.put(obeyed(before, asked, request.deviation))
    const trigger = '_add_missing_base_permissions'
    if (draft.attributes[trigger] === true && !keeps(request.deviation, trigger)) addBasePermissions(id)
    return { ...shown(200, next, query), change: change(request, type, before, next) }
  }

  function destroy(type: ResourceType, id: string): Answer {
    const before = store.find(type, id)
    if (!before) return notFound(id)
    store.remove(before)
    return {
      status: 204,
      headers: {},
      change: { operation: `DELETE ${type}`, id, body: null, before, after: null },
    }
  }

  const change = (request: Received, type: string, before: Stored | undefined, after: Stored): Change => ({
    operation: `${request.method} ${type}`,
    id: after.id,
    body: JSON.parse(request.body),
    before: before ?? null,
    after,
  })

  /** Only sent members change; `metadata` is replaced as one value (assumption). Triggers leave no trace. */
  function drafted(
    base: Stored,
    { attributes, relationships }: Pick<Stored, 'attributes' | 'relationships'>,
  ): Stored {
    const { _add_missing_base_permissions: _, ...stored } = attributes
    return {
      ...base,
      attributes: { ...base.attributes, ...stored, updated_at: clock.iso() },
      relationships: { ...base.relationships, ...relationships },
    }
  }

  /** What the server fills in for a new resource. */
  function newborn(type: ResourceType, id: string, kind: unknown): Stored {
    const { attributes } = specimen(type, id)
    const nothing = Object.fromEntries(Object.keys(attributes).map((name) => [name, null]))
    const stamps = { created_at: clock.iso(), metadata: {} }
    switch (type) {
      case 'api_credentials':
        return {
          id,
          type,
          attributes: {
            ...nothing,
            ...stamps,
            confidential: kind !== 'sales_channel',
            client_id: randomBytes(32).toString('base64url'),
            client_secret: randomBytes(32).toString('base64url'),
            scopes: 'market:all',
            expires_in: kind === 'sales_channel' ? 14_400 : 7200,
            mode: 'live',
            custom: false,
          },
          relationships: { organization: ownOrganization, role: roleLink(null) },
        }
      case 'roles':
        return {
          id,
          type,
          attributes: { ...nothing, ...stamps, kind: 'custom' },
          relationships: { organization: ownOrganization },
        }
      case 'permissions':
        return {
          id,
          type,
          attributes: { ...nothing, ...stamps, restrictions: {} },
          relationships: { organization: ownOrganization, role: roleLink(null) },
        }
    }
  }

  function addBasePermissions(roleId: string): void {
    const covered = new Set(
      store
        .all('permissions')
        .filter(({ relationships }) => relationships['role']?.data?.id === roleId)
        .map(({ attributes }) => attributes['subject']),
    )
    for (const subject of basePermissionSubjects) {
      if (covered.has(subject)) continue
      store.put(
        drafted(newborn('permissions', newId(), undefined), {
          attributes: { subject, can_create: false, can_read: true, can_update: false, can_destroy: false },
          relationships: { role: roleLink(roleId) },
        }),
      )
    }
  }

  function countedCall(request: Received, path: string[]): Standing {
    const { average, burst } = writes(request) ? activeLimits().writes : activeLimits().reads
    if (settings.current().limits === 'off')
      return { ...burst, allowed: true, remaining: burst.limit, freesAt: clock.now() }
    const endpoint = `${request.method} ${path[0] ?? ''}${path.length > 1 ? '/:id' : ''}`
    const family = writes(request) ? 'writes' : 'reads'
    const overall = windows.hit(`${request.source} ${family}`, average)
    const here = windows.hit(`${request.source} ${endpoint}`, burst)
    return overall.remaining < here.remaining || !overall.allowed ? overall : here
  }

  const limitHeaders = ({
    limit,
    seconds,
    remaining,
  }: Pick<Standing, 'limit' | 'seconds' | 'remaining'>) => ({
    'x-ratelimit-limit': String(limit),
    'x-ratelimit-interval': String(seconds),
    'x-ratelimit-remaining': String(remaining),
  })

  function tooMany(standing: Standing): Answer {
    const { limitBody, retryAfter } = settings.current()
    const wait = Math.max(1, Math.ceil((standing.freesAt - clock.now()) / 1000))
    const headers = retryAfter ? { 'retry-after': String(wait) } : {}
    if (limitBody === 'empty') return { status: 429, headers }
    if (limitBody === 'text')
      return {
        status: 429,
        headers: { ...headers, 'content-type': 'text/plain' },
        body: { text: 'Slow down' },
      }
    const refused = refusal(429)
    return { ...refused, headers: { ...refused.headers, ...headers } }
  }

  async function oauth(request: Received, action: string | undefined): Promise<Answer> {
    if (action !== 'token' && action !== 'revoke')
      return authError(404, 'NOT_FOUND', 'not_found', 'There is nothing at this path.')
    if (request.method !== 'POST')
      return authError(405, 'METHOD_NOT_ALLOWED', 'method_not_allowed', 'Use POST.')
    if (action === 'token' && settings.current().limits !== 'off') {
      const standing = windows.hit(`${request.source} token`, activeLimits().token)
      if (!standing.allowed) {
        const refused = authError(429, 'TOO_MANY_REQUESTS', 'too_many_requests', 'Cache the token.')
        return { ...refused, headers: { ...refused.headers, ...limitHeaders(standing) } }
      }
    }
    // The documentation sends one media type, the official client library the other.
    if (!['application/json', jsonApiType].includes(mediaType(request.headers['content-type'])))
      return authError(415, 'UNSUPPORTED_MEDIA_TYPE', 'unsupported_media_type', 'Send JSON.')
    const body = parseJson(request.body)
    if (!body.ok || !isObject(body.value))
      return authError(400, 'BAD_REQUEST', 'invalid_request', 'The body is no JSON object.')
    const { grant_type, client_id, client_secret, token } = body.value
    const client = clientOf(client_id, client_secret)
    return action === 'token' ? issued(grant_type, client) : revoked(token, client)
  }

  async function issued(grant: unknown, client: UserClient | undefined): Promise<Answer> {
    if (grant === undefined)
      return authError(400, 'BAD_REQUEST', 'invalid_request', 'A grant type is required.')
    if (grant !== 'client_credentials')
      return authError(400, 'BAD_REQUEST', 'unsupported_grant_type', 'This grant type is not supported.')
    if (!client)
      return authError(401, 'UNAUTHORIZED', 'invalid_client', 'The client could not be authenticated.')
    return json(200, await tokens.issue(client, settings.current().tokenLifetimeSeconds))
  }

  function revoked(token: unknown, client: UserClient | undefined): Answer {
    if (!client)
      return authError(
        403,
        'FORBIDDEN',
        'unauthorized_client',
        'You are not authorized to revoke this token.',
      )
    if (typeof token === 'string') tokens.revoke(token)
    return json(200, {})
  }

  return {
    target(request) {
      const path = segmentsOf(request.path)
      const [root, type, id] = path ?? []
      return writes(request) && root === 'api' && path?.length === 3 ? `${type}/${id}` : undefined
    },

    async answer(request) {
      const path = segmentsOf(request.path)
      if (!path) return refusal(400)
      const [root, ...rest] = path
      if (root === 'api') return api(request, rest)
      if (root === 'oauth' && rest.length === 1) return oauth(request, rest[0])
      if (request.method === 'GET' && request.path === '/.well-known/jwks.json')
        return json(200, await jsonWebKeySet())
      return errors([apiError(404, 'NOT_FOUND', 'Not found', 'There is nothing at this path.')])
    },

    refusal(status, path, { code } = {}) {
      if (path.startsWith('/oauth/')) return authRefusal(status, code)
      const refused = refusal(status, code)
      const { burst } = activeLimits().writes
      const remaining = status === 429 ? 0 : burst.limit
      return { ...refused, headers: { ...refused.headers, ...limitHeaders({ ...burst, remaining }) } }
    },

    members: writableMembers,
    retold: retoldDocument,

    read: (type, id) => store.find(type, id),

    write(type, id, body) {
      if (!isResourceType(type)) return { ok: false, reason: `no such type: ${type}` }
      const overlay = overlaySchema.safeParse(body)
      if (!overlay.success) return { ok: false, reason: z.prettifyError(overlay.error) }
      const { attributes, relationships } = overlay.data
      const base = store.find(type, id) ?? specimen(type, id)
      const written: Stored = {
        ...base,
        attributes: { ...base.attributes, ...attributes },
        relationships: { ...base.relationships, ...relationships },
      }
      return { ok: true, value: store.put(written) }
    },

    settings: () => settings.current(),
    configure: (change) => settings.change(change),

    reset() {
      settings.reset()
      windows.clear()
      tokens.clear()
      store.clear()
    },

    control(app) {
      app.post('/tokens/expire', (context) => context.json({ tokens: tokens.expireAll() }))
      app.post('/tokens/revoke', (context) => context.json({ tokens: tokens.revokeAll() }))
    },
  }
}

const overlaySchema = z.strictObject({
  attributes: z.record(z.string(), z.unknown()).default({}),
  relationships: z
    .record(
      z.string(),
      z.strictObject({ data: z.strictObject({ type: z.string(), id: z.string() }).nullable() }),
    )
    .default({}),
})

const writes = ({ method }: Received): boolean => !['GET', 'HEAD', 'OPTIONS'].includes(method)

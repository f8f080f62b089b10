import { randomUUID } from 'node:crypto'
import { STATUS_CODES } from 'node:http'
import { z } from 'zod'
import type { Clock } from '../clock.ts'
import { deviated } from '../deviation.ts'
import {
  accepts,
  type Answer,
  type Deviation,
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

interface ApiClient {
  id: string
  name: string
  organization: string
}

interface ApiKey {
  organization: string
  scopes: readonly string[]
}

/** The key alone selects the organization; only a key made in the web console reaches `api_clients`. */
const keys = new Map<string, ApiKey>([
  ['sandbox-discue-key', { organization: 'sandbox', scopes: ['api_clients', 'queues', 'messages'] }],
  ['sandbox-discue-limited-key', { organization: 'sandbox', scopes: ['queues', 'messages'] }],
])

const seeds: readonly ApiClient[] = [
  { id: '5bc2be68-7498-4853-aa64-4be0ca62934e', name: 'example.com/dev', organization: 'sandbox' },
  { id: 'V1StGXR8_Z5jdHi6B-myT', name: 'example.com/staging', organization: 'sandbox' },
  { id: '_A36cABAOqhBdNeZeXB0l', name: 'example.com/production', organization: 'sandbox' },
  { id: '0b9f5c1e-3d0a-4a55-9f2e-7c1d2a6f4e11', name: 'other.example/production', organization: 'foreign' },
]

const settingsSchema = z.strictObject({
  /** The documentation warns of the lock-out without any number; these are assumptions. */
  lockout: z.strictObject({
    badKeys: z.number().int().min(1),
    withinSeconds: z.number().min(1),
    forSeconds: z.number().min(1),
  }),
  /** Described, and flagged as not yet available: no headers and no 429 unless a test asks for them. */
  rateLimit: z.strictObject({ perMinute: z.number().int().min(1) }).nullable(),
})

/** No pattern is published: a non-empty string without control characters (assumption). */
const nameSchema = z
  .string()
  .min(1)
  .max(255)
  .regex(/^\P{Cc}+$/u)

/** Errors are exactly two keys, with the reason phrase as title. */
const refusal = (status: number, headers: Record<string, string> = {}): Answer =>
  json(status, { title: STATUS_CODES[status] ?? 'Unknown', status }, headers)

/** The path behind the optional version. */
function routeOf(path: string): { id?: string } | undefined {
  const [first, ...rest] = segmentsOf(path) ?? []
  const [collection, id, ...more] = first === 'v1' ? rest : [first, ...rest]
  if (collection !== 'api_clients' || more.length > 0 || id === '') return undefined
  return id === undefined ? {} : { id }
}

export function createDiscue(clock: Clock): Emulator {
  const settings = createSettings(settingsSchema, {
    lockout: { badKeys: 5, withinSeconds: 60, forSeconds: 60 },
    rateLimit: null,
  })
  const windows = createSlidingWindows(clock)
  const lockedUntil = new Map<string, number>()
  let clients = seeded()

  /** One failed attempt more; at the limit the source is locked out, and every further one starts the time anew. */
  function countBadKey(source: string): void {
    const { badKeys, withinSeconds, forSeconds } = settings.current().lockout
    const standing = windows.hit(`bad keys ${source}`, { limit: badKeys, seconds: withinSeconds })
    if (standing.remaining === 0) lockedUntil.set(source, clock.now() + forSeconds * 1000)
  }

  // The documentation fixes no order of checks; this one goes from who to what (assumption).
  function answered(request: Received): Answer {
    const presented = request.headers['x-api-key']
    const key = typeof presented === 'string' ? keys.get(presented) : undefined
    const locked = (lockedUntil.get(request.source) ?? 0) > clock.now()
    if (!key && presented !== undefined) countBadKey(request.source)
    if (locked) return refusal(403)
    if (!key) return refusal(401)

    const route = routeOf(request.path)
    if (!route) return refusal(404)
    if (!key.scopes.includes('api_clients')) return refusal(403)
    const method = route.id === undefined ? 'POST' : 'PUT'
    if (request.method !== method) return refusal(405, { allow: method })
    if (!accepts(request.headers.accept, 'application/json', 'application/*')) return refusal(406)
    if (request.body !== '' && mediaType(request.headers['content-type']) !== 'application/json')
      return refusal(415)
    // The schema marks the body as optional: none is a change of nothing.
    const body = request.body === '' ? { ok: true as const, value: {} } : parseJson(request.body)
    if (!body.ok) return refusal(400)
    return route.id === undefined
      ? create(body.value, key.organization, request.deviation)
      : update(route.id, body.value, key.organization, request.deviation)
  }

  function create(body: unknown, organization: string, deviation: Deviation): Answer {
    if (!isObject(body)) return refusal(422)
    const id = randomUUID()
    const name = body['name'] === undefined ? `api-client/${id}` : body['name']
    if (!isFree(name, id)) return refusal(422)
    const after = deviated(undefined, { id, name, organization }, deviation)
    clients.set(after.id, after)
    const change = { operation: 'POST api_clients', id: after.id, body, before: null, after }
    return { ...shown(after), change }
  }

  function update(id: string, body: unknown, organization: string, deviation: Deviation): Answer {
    const before = clients.get(id)
    if (!before || before.organization !== organization) return refusal(404)
    if (!isObject(body)) return refusal(422)
    // An id that contradicts the path has no documented answer (assumption: 422).
    if (body['id'] !== undefined && body['id'] !== id) return refusal(422)
    const name = body['name'] === undefined ? before.name : body['name']
    if (!isFree(name, id)) return refusal(422)
    const after = deviated(before, { ...before, name }, deviation)
    if (after.id !== id) clients.delete(id)
    clients.set(after.id, after)
    return { ...shown(after), change: { operation: 'PUT api_clients', id, body, before, after } }
  }

  /** A usable name that no other client has. 422 for a duplicate is documented for queues, assumed for clients. */
  const isFree = (name: unknown, id: string): name is string =>
    nameSchema.safeParse(name).success &&
    ![...clients.values()].some((other) => other.name === name && other.id !== id)

  /** The link carries the published host and no version. */
  const shown = ({ id, name }: ApiClient): Answer =>
    json(200, {
      api_client: { id, name },
      _links: { self: { href: `https://api.discue.io/api_clients/${id}` } },
    })

  const limitHeaders = ({ limit, remaining, freesAt }: Standing) => ({
    'x-ratelimit-limit': String(limit),
    'x-ratelimit-remaining': String(remaining),
    'x-ratelimit-reset': String(Math.ceil(freesAt / 1000)),
  })

  function limited(request: Received): Answer {
    const { rateLimit } = settings.current()
    if (!rateLimit) return answered(request)
    const standing = windows.hit(`calls ${request.source}`, { limit: rateLimit.perMinute, seconds: 60 })
    const answer = standing.allowed ? answered(request) : refusal(429)
    return { ...answer, headers: { ...answer.headers, ...limitHeaders(standing) } }
  }

  const indented = (answer: Answer): Answer =>
    answer.body && 'json' in answer.body ? { ...answer, body: { ...answer.body, indent: 2 } } : answer

  return {
    target(request) {
      const id = request.method === 'PUT' ? routeOf(request.path)?.id : undefined
      return id === undefined ? undefined : `api_clients/${id}`
    },

    answer(request) {
      const answer = limited(request)
      const pretty = request.query.get('pretty')
      return pretty !== null && pretty !== 'false' ? indented(answer) : answer
    },

    refusal: (status) => refusal(status),

    members: new Set(['id', 'name']),

    retold: (body, change) =>
      isObject(body) && isObject(body['api_client'])
        ? { ...body, api_client: change(body['api_client']) }
        : body,

    read: (type, id) => (type === 'api_clients' ? clients.get(id) : undefined),

    write(type, id, body) {
      if (type !== 'api_clients') return { ok: false, reason: `no such type: ${type}` }
      const overlay = overlaySchema.safeParse(body)
      if (!overlay.success) return { ok: false, reason: z.prettifyError(overlay.error) }
      const base = clients.get(id) ?? { name: `example.com/${id}`, organization: 'sandbox' }
      const written: ApiClient = {
        id,
        name: overlay.data.name ?? base.name,
        organization: overlay.data.organization ?? base.organization,
      }
      clients.set(id, written)
      return { ok: true, value: written }
    },

    settings: () => settings.current(),
    configure: (change) => settings.change(change),

    reset() {
      settings.reset()
      windows.clear()
      lockedUntil.clear()
      clients = seeded()
    },
  }
}

const overlaySchema = z.strictObject({
  id: z.string().optional(),
  name: z.string().optional(),
  organization: z.string().optional(),
})

const seeded = () => new Map(seeds.map((client) => [client.id, client]))

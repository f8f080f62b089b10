import type { Sandbox } from '../../sandbox/server.ts'

/** A document of a provider. Tests read it member by member, and an assertion follows every read. */
export type Json = ReturnType<typeof JSON.parse>

export interface Reply {
  status: number
  headers: Headers
  text: string
  /** The body as JSON; undefined when it is none. */
  json: Json
}

export interface Call {
  headers?: Record<string, string>
  /** A string goes out as it is, anything else as JSON. */
  body?: unknown
}

export async function call(method: string, url: string, { headers = {}, body }: Call = {}): Promise<Reply> {
  const response = await fetch(url, {
    method,
    headers,
    redirect: 'manual',
    ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  })
  const text = await response.text()
  return { status: response.status, headers: response.headers, text, json: parsed(text) }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** The control API of one provider. */
export function controlOf(url: string) {
  const base = `${new URL(url).origin}/_sandbox`
  const send = async (method: string, path: string, body?: unknown) => {
    const reply = await call(method, `${base}${path}`, {
      headers: { 'content-type': 'application/json' },
      ...(body !== undefined && { body }),
    })
    if (reply.status >= 400) throw new Error(`${method} ${path}: ${reply.status} ${reply.text}`)
    return reply.json
  }
  return {
    send,
    fault: (fault: object, more: object = {}) => send('POST', '/faults', { fault, ...more }),
    ledger: async () => (await send('GET', '/ledger')).entries as Json[],
    requests: async () => (await send('GET', '/requests')).entries as Json[],
    state: (type: string, id: string) => send('GET', `/state/${type}/${encodeURIComponent(id)}`),
    mint: (type: string, id: string, body: object = {}) =>
      send('PUT', `/state/${type}/${encodeURIComponent(id)}`, body),
    settings: (change: object) => send('POST', '/settings', change),
    advance: (advanceMs: number) => send('POST', '/clock', { advanceMs }),
    reset: () => send('POST', '/reset'),
  }
}

export type Control = ReturnType<typeof controlOf>

const jsonApi = { accept: 'application/vnd.api+json', 'content-type': 'application/vnd.api+json' }

/** Calls on Commerce Layer as one of its users. */
export async function commerceLayerAs(sandbox: Sandbox, client = 'sandbox-client') {
  const { commerceLayer, commerceLayerAuth } = sandbox.urls
  const issued = await call('POST', `${commerceLayerAuth}/oauth/token`, {
    headers: { 'content-type': 'application/json' },
    body: { grant_type: 'client_credentials', client_id: `${client}-id`, client_secret: `${client}-secret` },
  })
  const token = issued.json.access_token as string
  const headers = { ...jsonApi, authorization: `Bearer ${token}` }
  const as = (method: string, path: string, body?: unknown, more: Record<string, string> = {}) =>
    call(method, `${commerceLayer}${path}`, {
      headers: { ...headers, ...more },
      ...(body !== undefined && { body }),
    })
  return Object.assign(as, { token, headers })
}

export const patch = (type: string, id: string, attributes: object, relationships?: object) => ({
  data: { type, id, attributes, ...(relationships && { relationships }) },
})

export const apinizerHeaders = {
  authorization: 'Bearer sandbox-token',
  'content-type': 'application/json',
}
export const discueHeaders = {
  'content-type': 'application/json',
  accept: 'application/json',
  'x-api-key': 'sandbox-discue-key',
}

export const credential = (username: string, more: object = {}) => ({
  username,
  password: 'NewSecurePassword123!',
  email: 'updated@example.com',
  fullName: 'Updated User',
  description: 'Updated description',
  roleNameList: ['API_USER'],
  enabled: true,
  ipList: [],
  expireDate: null,
  ...more,
})

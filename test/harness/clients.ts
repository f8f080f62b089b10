import { randomBytes } from 'node:crypto'
import { campaignMs } from '../faults/scale.ts'
import { keys } from './configuration.ts'
import type { Json } from './sandbox-calls.ts'

export interface Reply {
  status: number
  headers: Headers
  body: Json
  ms: number
}

export interface Asked {
  /** The gateway's API key; the caller `admin` unless told otherwise. */
  key?: string
  headers?: Record<string, string>
}

/** Names one request at the provider and in the audit (W3C Trace Context). */
export const newTrace = (): string =>
  `00-${randomBytes(16).toString('hex')}-${randomBytes(8).toString('hex')}-01`

/** One request and its reply, or undefined when the connection ended before one. */
export async function request(
  method: string,
  url: string,
  body?: unknown,
  { key = keys.admin, headers = {} }: Asked = {},
): Promise<Reply | undefined> {
  const started = performance.now()
  try {
    const response = await fetch(url, {
      method,
      headers: {
        'x-api-key': key,
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(campaignMs),
    })
    const text = await response.text()
    const json = response.headers.get('content-type')?.includes('json')
    return {
      status: response.status,
      headers: response.headers,
      body: json ? JSON.parse(text) : text,
      ms: performance.now() - started,
    }
  } catch {
    return undefined
  }
}

/** As `request`, of a gateway that must answer. */
export async function answered(...asked: Parameters<typeof request>): Promise<Reply> {
  const reply = await request(...asked)
  if (!reply) throw new Error(`no reply to ${asked[0]} ${asked[1]}`)
  return reply
}

/** One PUT under a trace of its own. */
export interface Put {
  trace: string
  path: string
  body: object
  idempotencyKey?: string
  reply?: Reply | undefined
}

export async function send(gateway: string, put: Put, more: Asked = {}): Promise<Reply | undefined> {
  put.reply = await request('PUT', gateway + put.path, put.body, {
    ...more,
    headers: {
      traceparent: put.trace,
      ...(put.idempotencyKey !== undefined && { 'idempotency-key': put.idempotencyKey }),
      ...more.headers,
    },
  })
  return put.reply
}

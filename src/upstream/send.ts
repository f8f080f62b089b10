import { createFetch } from 'ofetch'
import { Secret } from '../lib/secret.ts'
import type { Body, UpstreamRequest, UpstreamResponse } from '../model/adapter.ts'
import { encodePart } from '../model/resource-id.ts'
import { parseAnswer } from '../model/unreadable.ts'

/** The gateway's only way out. Bodies are unwrapped here and nowhere else. */
export type Send = (request: OutgoingRequest) => Promise<Answer>

export interface OutgoingRequest extends UpstreamRequest {
  baseUrl: string
  /** Headers that sign in; their values are secret. */
  credentials: Readonly<Record<string, Secret>>
  traceparent: string
  /** Milliseconds until the attempt is given up. */
  timeoutMs: number
  encoding?: 'json' | 'form'
}

export type Answer =
  | { received: true; response: UpstreamResponse }
  /** `sent: false` is a proof that no byte of the request reached the provider. */
  | { received: false; sent: boolean; detail: string }
  | HeldBack

/** The gateway itself did not let the request go, and will not for so many milliseconds. */
export interface HeldBack {
  received: false
  sent: false
  detail: string
  held: {
    problem: 'upstream-rate-limited' | 'upstream-unavailable'
    ms: number
    /** The provider is well, and others are before this request. */
    crowded: boolean
  }
}

export const heldBack = (
  problem: HeldBack['held']['problem'],
  ms: number,
  crowded: boolean,
  detail: string,
): HeldBack => ({ received: false, sent: false, detail, held: { problem, ms, crowded } })

const UTF_8 = new TextDecoder('utf-8', { fatal: true })
const ANY_BYTES = new TextDecoder()

/** Bytes that are no UTF-8 become lone surrogates, which make a text unusable: a replacement character could be the provider's own. */
function decode(bytes: Uint8Array): string {
  try {
    return UTF_8.decode(bytes)
  } catch {
    return ANY_BYTES.decode(bytes).replaceAll('\ufffd', '\udfff')
  }
}

/** Bytes of an answer that are read. */
const MAX_BYTES = { list: 16 << 20, single: 1 << 20 }

/**
 * The URL of a request, or undefined when the finished URL is not what the template says. It is compared as text after
 * parsing, so that nothing that URL resolution would change ("..", "\", a second "?") can be sent.
 */
export function buildUrl(
  baseUrl: string,
  { template, ref }: Pick<UpstreamRequest, 'template' | 'ref'>,
): URL | undefined {
  const expanded = template.replace(/\{(\w+)\}/g, (_, name: string) => encodePart(ref[name] ?? ''))
  const text = baseUrl + expanded
  const url = URL.parse(text)
  const segments = (path: string) => path.split('?')[0]?.split('/').length
  return url?.href === text && segments(expanded) === segments(template) ? url : undefined
}

/** The path with its query, as it goes over the wire. */
export const pathOf = (url: URL): string => url.pathname + url.search

/** Serializes a body and opens its secrets. `JSON.stringify` would see `toJSON` first, so the holder is asked. */
function serialize(body: Body, encoding: 'json' | 'form'): string {
  if (encoding === 'form') {
    const fields = Object.entries(body as Record<string, string | Secret>)
    return new URLSearchParams(
      fields.map(
        ([name, value]) => [name, value instanceof Secret ? value.expose() : value] as [string, string],
      ),
    ).toString()
  }
  return JSON.stringify(body, function (this: Record<string, unknown>, key, value: unknown) {
    const held = this[key]
    return held instanceof Secret ? held.expose() : value
  })
}

async function readBytes(response: Fetched, limit: number): Promise<Uint8Array | undefined> {
  if ('read' in response) return response.read(limit)
  const chunks: Uint8Array[] = []
  let size = 0
  const reader = (response.body as ReadableStream<Uint8Array> | null)?.getReader()
  if (!reader) return new Uint8Array()
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return Buffer.concat(chunks)
    size += value.length
    if (size > limit) {
      await reader.cancel()
      return undefined
    }
    chunks.push(value)
  }
}

/**
 * Whether a success may be JSON by its content type: the page of a proxy or of a sign-in is none, whatever it holds.
 * One that is absent claims nothing; the body has to prove itself to the adapter anyway.
 */
function saysJson({ headers }: Pick<UpstreamResponse, 'headers'>): boolean {
  const type = headers['content-type']
  return type === undefined || /^application\/([\w.+-]+\+)?json\s*(;|$)/i.test(type)
}

/** An answer whose body is read without a stream, which costs more than all the rest of a small one. */
export interface PlainAnswer {
  status: number
  headers: Iterable<[string, string]>
  /** The body, or undefined as soon as it is longer than `limit` bytes. */
  read(limit: number): Promise<Uint8Array | undefined>
}
type Fetched = Response | PlainAnswer

/** The part of `fetch` that is used: the URL as text, and all else beside it. */
export type Fetch = (url: string, init: RequestInit) => Promise<Fetched>

/**
 * @param fetcher The runtime's way of sending.
 * @param provesUnsent Whether an error that it threw proves that nothing was sent; runtimes differ in what they reveal.
 */
export function createSend(fetcher: Fetch, provesUnsent: (error: unknown) => boolean): Send {
  // What is not a response has no body that the client would look at, and passes as it is.
  const client = createFetch({ fetch: fetcher as typeof globalThis.fetch })

  return async (request) => {
    const url = buildUrl(request.baseUrl, request)
    if (!url) return { received: false, sent: false, detail: 'the id does not fit the provider’s address' }
    // Edges such as Cloudflare's turn away requests that name no agent.
    const headers = new Headers({ 'user-agent': 'credential-gateway', ...request.headers })
    headers.set('traceparent', request.traceparent)
    try {
      for (const [name, value] of Object.entries(request.credentials)) headers.set(name, value.expose())
    } catch {
      return { received: false, sent: false, detail: 'the credentials do not fit into a header' }
    }
    const late = new AbortController()
    // Cleared below, which `AbortSignal.timeout` cannot be: a timer left behind keeps a Durable Object in memory, and billed.
    const timer = setTimeout(() => late.abort(), Math.max(1, Math.ceil(request.timeoutMs)))
    let response: Fetched
    try {
      response = await client.raw(url.href, {
        method: request.method,
        headers,
        ...(request.body !== undefined && { body: serialize(request.body, request.encoding ?? 'json') }),
        signal: late.signal,
        redirect: 'manual',
        retry: false,
        ignoreResponseError: true,
        responseType: 'stream',
      })
    } catch (error) {
      clearTimeout(timer)
      // The error holds headers and body of the request: it ends here.
      return provesUnsent(error)
        ? { received: false, sent: false, detail: 'no connection to the provider' }
        : { received: false, sent: true, detail: 'the connection ended before an answer' }
    }
    const received = { status: response.status, headers: Object.fromEntries(response.headers) }
    try {
      const bytes = await readBytes(response, request.list ? MAX_BYTES.list : MAX_BYTES.single)
      const readable = received.status < 200 || received.status > 299 || saysJson(received)
      if (!bytes || !readable) return { received: true, response: { ...received, body: undefined } }
      const text = decode(bytes)
      return { received: true, response: { ...received, body: parseAnswer(text), text } }
    } catch {
      return { received: false, sent: true, detail: 'the connection ended in the middle of an answer' }
    } finally {
      clearTimeout(timer)
    }
  }
}

import { hash } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import { parseAccept } from 'hono/utils/accept'
import { entityTagsOf } from './request-headers.ts'

export type Coding = 'gzip' | 'identity'

export type Bytes = Uint8Array<ArrayBuffer>

/** Bytes that all replies share, or a stream of its own for each. */
export type StaticBody = Bytes | ReadableStream<Uint8Array>

/** What is the same in every reply while the process lives. */
export interface StaticFile {
  type: string
  caching: string
  /** 32 characters of base64url, as all of the gateway's tags. */
  tag(): string
  body(coding: Coding): StaticBody | Promise<StaticBody>
}

/** How a runtime sends bytes without a copy of them for each reply. */
export type BodyOf = (bytes: Bytes) => StaticBody

/** RFC 9110 §12.5.3, except that without the header nothing is compressed. */
function codingFor(accepted: string | null): Coding {
  const codings = parseAccept(accepted ?? '')
  const named = (name: string) => codings.find(({ type }) => type.toLowerCase() === name)
  return (named('gzip') ?? named('*'))?.q ? 'gzip' : 'identity'
}

export async function serveStatic({ headers }: Request, file: StaticFile, bodyOf: BodyOf): Promise<Response> {
  const coding = codingFor(headers.get('accept-encoding'))
  const tag = file.tag()
  const held = entityTagsOf(headers, 'if-none-match')
  const own = {
    // RFC 9110 §8.8.3.3: each form has a tag of its own. As a condition either names the file.
    etag: coding === 'gzip' ? `"${tag}-gzip"` : `"${tag}"`,
    vary: 'accept-encoding',
    'cache-control': file.caching,
  }
  if (held.ok && held.value?.some((name) => name === '*' || name === `"${tag}"`))
    return new Response(null, { status: 304, headers: own })
  const init = {
    headers: {
      ...own,
      'content-type': file.type,
      ...(coding === 'gzip' && { 'content-encoding': coding }),
    },
    // workerd would compress what is compressed.
    encodeBody: 'manual',
  }
  const body = await file.body(coding)
  return new Response(body instanceof Uint8Array ? bodyOf(body) : body, init)
}

/** A text that is made when it is first asked for, compressed at most once. */
export function staticText(type: string, caching: string, make: () => string): StaticFile {
  let identity: Bytes | undefined
  let gzip: Bytes | undefined
  let tag: string | undefined
  const plain = () => (identity ??= new TextEncoder().encode(make()))
  return {
    type,
    caching,
    tag: () => (tag ??= hash('sha256', plain(), 'base64url').slice(0, 32)),
    // Not while others run: all who ask for it at once would compress it.
    body: (coding) => (coding === 'gzip' ? (gzip ??= gzipSync(plain())) : plain()),
  }
}

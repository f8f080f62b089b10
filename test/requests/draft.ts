import { gzipSync } from 'node:zlib'

/** Members of a JSON object as texts, so that a name can come twice and a value need not be JSON. */
export type Members = [name: string, value: string][]

/** A request before it is bytes. Text is latin1, one character a byte, except in a body. */
export interface Draft {
  method: string
  target: string
  version: string
  headers: [name: string, value: string][]
  /** A string of a body is UTF-8; `bytes` go out as they are. */
  body?: { members: Members } | { text: string } | { bytes: string }
  gzip?: true
  framing: 'length' | 'chunked' | { headers: [string, string][]; before?: string; after?: string }
  /** Sent so many times in a row before any reply is read. */
  copies: number
  /** The client ends its side of the connection when it has sent everything. */
  halfClose?: true
  /** Not HTTP as a client library would send it: it can come over a bare socket only. */
  raw?: true
  /** The parameters that its operation documents. */
  parameters: { in: string; name: string }[]
  /** What was done to it. */
  mutations: string[]
  /** Stands for `@CANARY@` wherever that is: text that a refusal must not repeat. */
  canary: string
}

const latin1 = (text: string): Buffer => Buffer.from(text, 'latin1')

function content(draft: Draft): Buffer | undefined {
  const { body, canary } = draft
  if (!body) return undefined
  if ('bytes' in body) return latin1(body.bytes)
  const text =
    'text' in body ? body.text : `{${body.members.map(([name, value]) => `${name}:${value}`).join(',')}}`
  const plain = Buffer.from(text.replaceAll('@CANARY@', canary))
  return draft.gzip ? gzipSync(plain) : plain
}

/** In several chunks, so that a reader cannot take the first one for all of it. */
function chunked(bytes: Buffer): Buffer {
  const size = Math.max(1, Math.ceil(bytes.length / 3))
  const parts: Buffer[] = []
  for (let at = 0; at < bytes.length; at += size) {
    const part = bytes.subarray(at, at + size)
    parts.push(latin1(`${part.length.toString(16)}\r\n`), part, latin1('\r\n'))
  }
  return Buffer.concat([...parts, latin1('0\r\n\r\n')])
}

/** The bytes of one copy. */
export function bytesOf(draft: Draft): Buffer {
  const { method, target, version, canary, framing } = draft
  const plain = content(draft)
  const headers = [...draft.headers]
  let body = plain ?? Buffer.alloc(0)
  if (typeof framing === 'object') {
    headers.push(...framing.headers)
    body = Buffer.concat([latin1(framing.before ?? ''), body, latin1(framing.after ?? '')])
  } else if (plain && framing === 'length') headers.push(['Content-Length', String(plain.length)])
  else if (plain) {
    headers.push(['Transfer-Encoding', 'chunked'])
    body = chunked(plain)
  }
  const head = [
    `${method} ${target} HTTP/${version}`,
    ...headers.map(([name, value]) => (name === '' ? value : `${name}: ${value}`)),
  ]
  return Buffer.concat([latin1(`${head.join('\r\n')}\r\n\r\n`.replaceAll('@CANARY@', canary)), body])
}

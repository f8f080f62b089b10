import { type JsonObject, parseObject } from '../lib/json.ts'
import { ok, refuse, type Result } from '../model/problems.ts'

/** Bytes of a request body. */
export const MAX_BODY = 64 * 1024

const tooLarge = () => refuse('payload-too-large', `the body is larger than ${MAX_BODY} bytes`)

const UTF_8 = new TextDecoder('utf-8', { fatal: true })

/** The body's bytes, or undefined as soon as there are too many. */
async function readBounded({ body }: Request): Promise<Uint8Array | undefined> {
  const chunks: Uint8Array[] = []
  let size = 0
  // Not cancelled: on Node that would end the connection before the reply.
  for await (const chunk of body?.values({ preventCancel: true }) ?? []) {
    size += chunk.length
    if (size > MAX_BODY) return undefined
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

/** One JSON object in UTF-8, read no further than the limit. */
export async function readJsonBody(request: Request): Promise<Result<JsonObject>> {
  const [type = '', ...parameters] = (request.headers.get('content-type') ?? '')
    .toLowerCase()
    .split(/\s*;\s*/)
  const foreignCharset = parameters.some((parameter) => /^charset=(?!"?utf-8"?$)/.test(parameter))
  if (type.trim() !== 'application/json' || foreignCharset) {
    return refuse('unsupported-media-type', 'the body must be application/json in UTF-8')
  }
  const encoding = request.headers.get('content-encoding')
  if (encoding !== null && encoding !== 'identity') {
    return refuse('unsupported-media-type', 'the body must not have a content encoding')
  }
  const length = request.headers.get('content-length')
  if (Number(length) > MAX_BODY) return tooLarge()
  let bytes: Uint8Array | ArrayBuffer | undefined
  try {
    // A body with a declared length has exactly that length; reading it at once avoids a stream.
    bytes = length === null ? await readBounded(request) : await request.arrayBuffer()
  } catch {
    return refuse('malformed-request', 'the body did not arrive whole')
  }
  if (!bytes) return tooLarge()
  let text: string
  try {
    text = UTF_8.decode(bytes)
  } catch {
    return refuse('malformed-request', 'the body is not UTF-8')
  }
  const parsed = parseObject(text)
  return parsed.ok ? ok(parsed.value) : refuse('malformed-request', parsed.detail)
}

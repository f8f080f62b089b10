import { type JsonObject, parseObject } from './json.ts'
import { ok, refuse, type Result } from './problems.ts'

/** Bytes of a request body. */
export const MAX_BODY = 64 * 1024

const tooLarge = () => refuse('payload-too-large', `the body is larger than ${MAX_BODY} bytes`)

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
  if (Number(request.headers.get('content-length')) > MAX_BODY) return tooLarge()
  const chunks: Uint8Array[] = []
  let size = 0
  try {
    // Not cancelled: on Node that would end the connection before the reply.
    for await (const chunk of request.body?.values({ preventCancel: true }) ?? []) {
      size += chunk.length
      if (size > MAX_BODY) return tooLarge()
      chunks.push(chunk)
    }
  } catch {
    return refuse('malformed-request', 'the body did not arrive whole')
  }
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks))
  } catch {
    return refuse('malformed-request', 'the body is not UTF-8')
  }
  const parsed = parseObject(text)
  return parsed.ok ? ok(parsed.value) : refuse('malformed-request', parsed.detail)
}

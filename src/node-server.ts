import { getRequestListener, type HttpBindings, RequestError } from '@hono/node-server'
import { createServer, type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from 'node:http'
import type { Duplex } from 'node:stream'
import { v7 as uuidv7 } from 'uuid'
import { ALWAYS } from './app.ts'
import type { Log } from './log.ts'
import { problemResponse } from './operation.ts'
import { type ProblemSlug, refuse } from './problems.ts'

/** How long clients may take. Milliseconds. */
export interface Patience {
  /** From the first byte, or from the connection, to the end of the headers. */
  headersMs: number
  /** To the end of the body. */
  requestMs: number
  /** While nothing of a reply can be written. */
  replyMs: number
  /** Between two requests. */
  idleMs: number
}

/** A proxy keeps idle connections for 60 s as a rule; one that is closed under its hands costs it a request. */
const PATIENCE: Patience = { headersMs: 10_000, requestMs: 30_000, replyMs: 30_000, idleMs: 65_000 }

/** Bytes of the request line and the headers together. */
const MAX_HEADERS = 16 * 1024

/** What is still read of a body whose request has been answered, so that the client comes to reading the reply. */
const LINGER_BYTES = 256 * 1024
const LINGER_MS = 500

export interface ServerParts {
  fetch(request: Request, environment: HttpBindings): Response | Promise<Response>
  log: Log
  patience?: Partial<Patience>
}

/** Takes what is left of a body, up to a bound. Beyond it the client has to stop by itself or is cut off. */
function linger(incoming: IncomingMessage): void {
  const { socket } = incoming
  const destroySoon = socket.destroySoon.bind(socket)
  // Node calls it with the last reply; bytes that are unread by then make the client's system drop the reply.
  socket.destroySoon = () => void socket.end()
  const end = setTimeout(destroySoon, LINGER_MS)
  incoming.once('close', () => {
    clearTimeout(end)
    socket.destroySoon = destroySoon
    if (socket.writableEnded) destroySoon()
  })
  let left = LINGER_BYTES
  incoming.on('data', (chunk: Buffer) => {
    left -= chunk.length
    if (left > 0) incoming.resume()
    else incoming.pause()
  })
  // Otherwise the server would take the body for one that nobody reads, and throw it away without end.
  incoming.read()
  incoming.resume()
}

/** What cannot become a request is refused here. `detail` never holds anything of it. */
function refusalOf(slug: ProblemSlug, detail: string, log: Log): Response {
  const requestId = uuidv7()
  const response = problemResponse(refuse(slug, detail).problem, requestId, '/')
  for (const [name, value] of Object.entries({ ...ALWAYS, 'x-request-id': requestId }))
    response.headers.set(name, value)
  log.info('request', { requestId, method: null, route: null, status: response.status, detail })
  return response
}

const MALFORMED = ['malformed-request', 'the request is not well-formed HTTP'] as const

/** By the codes of Node's HTTP server. */
const refusals: Record<string, readonly [ProblemSlug, string]> = {
  HPE_HEADER_OVERFLOW: [
    'headers-too-large',
    `the request line and the headers are larger than ${MAX_HEADERS} bytes`,
  ],
  ERR_HTTP_REQUEST_TIMEOUT: ['request-timeout', 'the request did not arrive in time'],
}

/** Writes a reply past the HTTP server, which has given the connection up, and ends the connection. */
async function answer(socket: Duplex, response: Response): Promise<void> {
  const body = await response.text()
  const head = [
    `HTTP/1.1 ${response.status} ${STATUS_CODES[response.status]}`,
    ...[...response.headers].map(([name, value]) => `${name}: ${value}`),
    `content-length: ${Buffer.byteLength(body)}`,
    `date: ${new Date().toUTCString()}`,
    'connection: close',
  ]
  if (!socket.writable) return void socket.destroy()
  // Nothing more is read; closing at once could make the client's system drop the reply unread.
  socket.pause()
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`)
  setTimeout(() => socket.destroy(), LINGER_MS)
}

/** RFC 9112 §3.2: one Host; HTTP/1.0, which health checks still speak, needs none. */
function hasOneHost({ headersDistinct, httpVersion }: IncomingMessage): boolean {
  const hosts = headersDistinct['host']?.length ?? 0
  return hosts === 1 || (hosts === 0 && httpVersion === '1.0')
}

/** Node's HTTP server in front of an app: every connection has bounds, and every refusal is a problem document. */
export function createGatewayServer({ fetch, log, patience = {} }: ServerParts): Server {
  const { headersMs, requestMs, replyMs, idleMs } = { ...PATIENCE, ...patience }
  /** The last request of each connection. */
  const latest = new WeakMap<Duplex, ServerResponse>()
  const refused = new WeakSet<Duplex>()
  const refuseAll = (socket: Duplex, [slug, detail]: readonly [ProblemSlug, string]): void => {
    refused.add(socket)
    void answer(socket, refusalOf(slug, detail, log))
  }

  const listener = getRequestListener(
    async (request, environment) => {
      const { incoming } = environment as HttpBindings
      if (!hasOneHost(incoming))
        return refusalOf('malformed-request', 'the request does not have one Host', log)
      const response = await fetch(request, environment as HttpBindings)
      // Null when the client has gone, whatever its type says.
      incoming.socket?.setTimeout(replyMs)
      return response
    },
    {
      hostname: 'localhost',
      // What is left of a body is lingered on below, with a smaller bound.
      autoCleanupIncoming: false,
      errorHandler(error) {
        if (error instanceof RequestError)
          return refusalOf('malformed-request', 'the target or the Host of the request is not valid', log)
        log.error('request failed', { error: String(error) })
        return refusalOf('internal-error', 'see the log entry of this request', log)
      },
    },
  )
  const server = createServer(
    {
      maxHeaderSize: MAX_HEADERS,
      headersTimeout: headersMs,
      requestTimeout: requestMs,
      keepAliveTimeout: idleMs,
      connectionsCheckingInterval: Math.min(1000, headersMs),
      // Node would answer by itself, without a body.
      requireHostHeader: false,
    },
    (incoming, outgoing) => {
      latest.set(incoming.socket, outgoing)
      // Node loses what follows a wish to upgrade on the connection, though nothing is upgraded.
      if (incoming.headers.upgrade !== undefined) outgoing.shouldKeepAlive = false
      outgoing.prependOnceListener('finish', () => {
        if (!incoming.complete && !incoming.destroyed) linger(incoming)
      })
      void listener(incoming, outgoing)
    },
  )
  // Headers are bounded by their size alone.
  server.maxHeadersCount = 0

  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    if (refused.has(socket)) return
    if (error.code === 'ECONNRESET' || !socket.writable) return void socket.destroy()
    const refusal = refusals[error.code ?? ''] ?? MALFORMED
    const last = latest.get(socket)
    if (!last || last.writableFinished) return refuseAll(socket, refusal)
    // What came before it on the connection is answered first.
    if (last.req.complete) return void last.once('close', () => refuseAll(socket, refusal))
    if (last.headersSent || !last.socket) return void socket.destroy()
    refuseAll(socket, refusal)
  })
  server.on('connect', (_, socket) => refuseAll(socket, MALFORMED))
  // RFC 9110 §10.1.1 leaves it open; Node would refuse without a body.
  server.on('checkExpectation', (incoming, outgoing) => server.emit('request', incoming, outgoing))
  return server
}

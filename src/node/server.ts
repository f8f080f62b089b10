import { createServer, type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { getRequestListener, type HttpBindings, RequestError } from '@hono/node-server'
import { NO_HOST, NO_TARGET, refuseEarly } from '../http/early-refusal.ts'
import { MAX_BODY } from '../http/request-body.ts'
import { isHost, readTarget } from '../http/request-target.ts'
import { Deadline } from '../lib/deadline.ts'
import type { Log } from '../lib/log.ts'
import type { ProblemSlug } from '../model/problems.ts'
import { createPipeline } from './pipeline.ts'
import { boundConnections } from './sockets.ts'

/** How long clients may take. Milliseconds. */
export interface Patience {
  /** From the first byte, or from the connection, to the end of the headers. */
  headersMs: number
  /** To the end of the body. */
  requestMs: number
  /** From the beginning of a reply to its end, as long as nothing goes through the connection. */
  replyMs: number
  /** Between two requests. */
  idleMs: number
}

/** Proxies usually keep idle connections for 60 s; closing one that the proxy is about to reuse costs it a request. */
const PATIENCE: Patience = { headersMs: 10_000, requestMs: 30_000, replyMs: 30_000, idleMs: 65_000 }

/** Bytes of the request line and the headers together. */
const MAX_HEADERS = 16 * 1024

/** How much of a body is still read after the response, so that the client gets to read the response. */
const LINGER_BYTES = 10 << 20
const LINGER_MS = 2000
/** Connections that this is done for at once; further ones are closed as they are. */
const MAX_LINGERING = 64

/** How long a reply waits for a body that is small. Milliseconds. */
const SMALL_MS = 100

/** For the client to take the last reply on a connection that is not read any more. Milliseconds. */
const PARTING_MS = 500

export interface ServerParts {
  fetch(request: Request, environment: HttpBindings): Response | Promise<Response>
  log: Log
  patience?: Partial<Patience>
}

/** A body of an acceptable length is on its way already: with it taken, the connection can be kept. */
async function takeSmall(incoming: IncomingMessage): Promise<void> {
  if (!(Number(incoming.headers['content-length']) <= MAX_BODY)) return
  const ended = new Promise<void>((resolve) => void incoming.once('end', resolve).once('close', resolve))
  incoming.resume()
  await new Deadline(SMALL_MS).within(ended)
}

/** Takes what is left of a body, up to a bound. Beyond it the client has to stop by itself or is cut off. */
function linger(incoming: IncomingMessage, lingering: Set<Socket>): void {
  const { socket } = incoming
  if (lingering.size >= MAX_LINGERING) return
  lingering.add(socket)
  const destroySoon = socket.destroySoon.bind(socket)
  // Node calls it with the last reply; bytes that are unread by then make the client's system drop the reply.
  socket.destroySoon = () => void socket.end()
  const late = setTimeout(destroySoon, LINGER_MS)
  const end = (): void => {
    lingering.delete(socket)
    clearTimeout(late)
    socket.destroySoon = destroySoon
    if (socket.writableEnded) destroySoon()
  }
  // The end of the body, or that of the connection.
  incoming.once('end', end)
  socket.once('close', end)
  let left = LINGER_BYTES
  incoming.on('data', (chunk: Buffer) => {
    left -= chunk.length
    if (left > 0) incoming.resume()
    else incoming.pause()
  })
  // Otherwise the server would treat the body as unread, and discard it without end.
  incoming.read()
  incoming.resume()
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

/** A reply as it is written past the HTTP server, which has given the connection up. */
async function bytesOf(response: Response): Promise<string> {
  const body = await response.text()
  const head = [
    `HTTP/1.1 ${response.status} ${STATUS_CODES[response.status]}`,
    ...[...response.headers].map(([name, value]) => `${name}: ${value}`),
    `content-length: ${Buffer.byteLength(body)}`,
    `date: ${new Date().toUTCString()}`,
    'connection: close',
  ]
  return `${head.join('\r\n')}\r\n\r\n${body}`
}

/** Ends a connection of which not everything was read; closed at once, the client's system could drop the last reply. */
function part(socket: Socket): void {
  socket.end()
  setTimeout(() => socket.destroy(), PARTING_MS)
}

/** Nothing more is read of a connection, so that nothing that still comes prolongs it. */
function deafen(socket: Socket): void {
  socket.pause()
  // Node reads on when a body is wanted or a reply was written.
  socket.on('resume', () => socket.pause())
  // Node calls it with the last reply.
  socket.destroySoon = () => part(socket)
}

/**
 * Why nothing can be made of the request's first line and its Host, or undefined. RFC 9112 §3.2: one Host; HTTP/1.0, which
 * health checks still speak, needs none. An absolute form is made an origin form, with its own host.
 */
function targetFault(incoming: IncomingMessage): string | undefined {
  const { headersDistinct, httpVersion, url = '' } = incoming
  const hosts = headersDistinct['host'] ?? (httpVersion === '1.0' ? ['localhost'] : [])
  const [host = ''] = hosts
  if (hosts.length !== 1 || !isHost(host)) return NO_HOST
  const target = readTarget(url)
  if (!target) return NO_TARGET
  incoming.url = target.path
  // The listener knows no port that is empty.
  incoming.headers.host = (target.host ?? host).replace(/:$/, '')
  return undefined
}

/** Node's HTTP server in front of an app: every connection has bounds, and every refusal is a problem document. */
export function createGatewayServer({ fetch, log, patience = {} }: ServerParts): Server {
  const { headersMs, requestMs, replyMs, idleMs } = { ...PATIENCE, ...patience }
  /** The last request of each connection. */
  const latest = new WeakMap<Duplex, ServerResponse>()
  const refused = new WeakSet<Duplex>()
  /** Connections that end with a reply that was given. */
  const ending = new WeakSet<Duplex>()
  const lingering = new Set<Socket>()
  /** Why a request that came whole is none. */
  const unfit = new WeakMap<IncomingMessage, string>()

  /** Refuses what cannot be read, when everything that came before it on the connection has been answered. */
  async function refuseRest(socket: Socket, [slug, detail]: readonly [ProblemSlug, string]): Promise<void> {
    refused.add(socket)
    deafen(socket)
    const refusal = await bytesOf(refuseEarly(slug, detail, log))
    const last = latest.get(socket)
    const refuseNow = (): void => {
      if (socket.writable) socket.write(refusal)
      part(socket)
    }
    const inTurn = (): void => {
      if (!last) return refuseNow()
      // What cannot be read is the last request itself, or came after it.
      const isBroken = !last.req.complete
      if (isBroken && !last.headersSent) return last.socket ? refuseNow() : void last.once('socket', inTurn)
      if (!last.writableFinished) return void last.once('close', inTurn)
      // A second reply to one request would be taken for the reply to another.
      return isBroken ? part(socket) : refuseNow()
    }
    inTurn()
  }

  /** Bounds a reply when its turn on the connection has come. */
  function bound(outgoing: ServerResponse): void {
    if (outgoing.socket) outgoing.socket.setTimeout(replyMs)
    else outgoing.once('socket', (socket) => socket.setTimeout(replyMs))
  }

  const listener = getRequestListener(
    async (request, environment) => {
      const { incoming, outgoing } = environment as HttpBindings
      const fault = unfit.get(incoming)
      if (fault !== undefined) return refuseEarly('malformed-request', fault, log)
      const response = await fetch(request, environment as HttpBindings)
      if (!incoming.complete) await takeSmall(incoming)
      // One that is streamed has its end too late.
      bound(outgoing)
      return response
    },
    {
      hostname: 'localhost',
      // What is left of a body is lingered on below, with a smaller bound.
      autoCleanupIncoming: false,
      errorHandler(error) {
        if (error instanceof RequestError)
          return refuseEarly('malformed-request', 'the target or the Host of the request is not valid', log)
        log.error('request failed', { error: String(error) })
        return refuseEarly('internal-error', 'see the log entry of this request', log)
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
      const { socket } = incoming
      latest.set(socket, outgoing)
      connections.mark(socket, 'working')
      outgoing.once('prefinish', () => connections.mark(socket, 'answered'))
      outgoing.once('close', () => {
        if (latest.get(socket) === outgoing) connections.mark(socket, 'idle')
        else connections.mark(socket, 'working')
      })
      inTurn(socket, outgoing, () => {
        // Its outcome could not be reported to anyone.
        if (!ending.has(socket)) begin(incoming, outgoing)
      })
    },
  )
  const connections = boundConnections(server)
  const inTurn = createPipeline()

  function begin(incoming: IncomingMessage, outgoing: ServerResponse): void {
    const { writeHead } = outgoing
    outgoing.writeHead = (...head: unknown[]) => {
      // The rest of the body would precede the next request.
      if (!incoming.complete) {
        outgoing.shouldKeepAlive = false
        ending.add(incoming.socket)
      }
      return Reflect.apply(writeHead, outgoing, head)
    }
    // Node loses what follows a wish to upgrade on the connection, though nothing is upgraded.
    if (incoming.headers.upgrade !== undefined) outgoing.shouldKeepAlive = false
    outgoing.once('prefinish', () => bound(outgoing))
    outgoing.prependOnceListener('finish', () => {
      // The next request may be worked on for longer.
      outgoing.socket?.setTimeout(0)
      if (!incoming.complete && !incoming.destroyed) linger(incoming, lingering)
    })
    const fault = targetFault(incoming)
    // What the listener gets is well-formed, so that it can be built.
    if (fault !== undefined) {
      incoming.url = '/'
      incoming.headers.host = 'localhost'
      unfit.set(incoming, fault)
    }
    void listener(incoming, outgoing)
  }
  // Headers are bounded by their size alone.
  server.maxHeadersCount = 0

  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    if (socket.destroyed || refused.has(socket)) return
    void refuseRest(socket as Socket, refusals[error.code ?? ''] ?? MALFORMED)
  })
  server.on('connect', (_, socket) => {
    // Node has taken its own listeners off. Without the first, a reset would end the process.
    socket.on('error', () => {})
    socket.on('timeout', () => socket.destroy())
    // Node stops reading only when this is full, and whatever it reads prolongs the time for a reply.
    socket.unshift(Buffer.alloc(socket.readableHighWaterMark))
    void refuseRest(socket as Socket, MALFORMED)
  })
  // RFC 9110 §10.1.1 leaves it open; Node would refuse without a body.
  server.on('checkExpectation', (incoming, outgoing) => server.emit('request', incoming, outgoing))
  return server
}

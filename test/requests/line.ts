import { once } from 'node:events'
import { connect, type Socket } from 'node:net'

export interface Reply {
  status: number
  headers: Headers
  text: string
}

export interface Heard {
  replies: Reply[]
  /** The server ended the connection. */
  closed: boolean
  /** Neither happened in time. */
  silent: boolean
  /** Bytes that came with the last reply and belong to none. */
  surplus: number
  /** It was said a second time, because the connection had ended before the first one was answered. */
  repeated: boolean
  ms: number
}

export interface Said {
  bytes: Buffer
  /** Of the requests among the bytes: a reply to HEAD has no body. */
  methods: string[]
  halfClose: boolean
  /** The connection can serve another request afterwards. */
  reusable: boolean
}

interface Taken {
  reply?: Reply
  rest: Buffer
}

/** The first whole reply in the bytes, or undefined while it is not whole. Interim replies are passed over. */
function take(bytes: Buffer, method: string, ended: boolean): Taken | undefined {
  const end = bytes.indexOf('\r\n\r\n')
  if (end === -1) return undefined
  const [first = '', ...lines] = bytes.subarray(0, end).toString('latin1').split('\r\n')
  const status = Number(/^HTTP\/1\.[01] (\d{3})( |$)/.exec(first)?.[1] ?? Number.NaN)
  const headers = new Headers(lines.map((line) => line.split(/: ?(.*)/s).slice(0, 2) as [string, string]))
  const rest = bytes.subarray(end + 4)
  if (status < 200) return { rest }
  const whole = (body: Buffer, after: Buffer): Taken => ({
    reply: { status, headers, text: body.toString() },
    rest: after,
  })
  if (method === 'HEAD' || status === 204 || status === 304) return whole(Buffer.alloc(0), rest)
  if (headers.get('transfer-encoding') === 'chunked') return unchunk(rest, whole)
  const length = headers.get('content-length')
  if (length === null) return ended ? whole(rest, Buffer.alloc(0)) : undefined
  const size = Number(length)
  return rest.length < size ? undefined : whole(rest.subarray(0, size), rest.subarray(size))
}

function unchunk(bytes: Buffer, whole: (body: Buffer, rest: Buffer) => Taken): Taken | undefined {
  const parts: Buffer[] = []
  for (let at = 0; ;) {
    const end = bytes.indexOf('\r\n', at)
    if (end === -1) return undefined
    const size = Number.parseInt(bytes.subarray(at, end).toString('latin1'), 16)
    const next = end + 2 + size + 2
    if (bytes.length < next) return undefined
    if (size === 0) return whole(Buffer.concat(parts), bytes.subarray(next))
    parts.push(bytes.subarray(end + 2, end + 2 + size))
    at = next
  }
}

/** One client's connection, byte by byte. It is opened anew when a request has spoiled it. */
export function openLine(origin: string, replyMs: number) {
  const { hostname, port } = new URL(origin)
  let socket: Socket | undefined

  async function connected(): Promise<Socket> {
    if (socket && !socket.destroyed && socket.writable) return socket
    const fresh = connect({ host: hostname, port: Number(port), noDelay: true })
    await once(fresh, 'connect')
    // How a connection ends is told by its end; a reset is one.
    fresh.on('error', () => {})
    return (socket = fresh)
  }

  function hear(on: Socket, methods: readonly string[]): Promise<Heard> {
    const started = performance.now()
    return new Promise((resolve) => {
      let bytes: Buffer = Buffer.alloc(0)
      const replies: Reply[] = []
      const done = (how: { closed?: boolean; silent?: boolean }) => {
        clearTimeout(timer)
        on.off('data', onData).off('close', onClose).off('end', onClose)
        const [surplus, ms] = [bytes.length, performance.now() - started]
        resolve({ replies, closed: false, silent: false, surplus, repeated: false, ms, ...how })
      }
      const read = (ended: boolean) => {
        while (replies.length < methods.length) {
          const taken = take(bytes, methods[replies.length] ?? 'GET', ended)
          if (!taken) return
          bytes = taken.rest
          if (taken.reply) replies.push(taken.reply)
        }
      }
      const onData = (chunk: Buffer) => {
        bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk])
        read(false)
        if (replies.length === methods.length) done({})
      }
      const onClose = () => {
        read(true)
        done({ closed: true })
      }
      const timer = setTimeout(() => done({ silent: true }), replyMs)
      on.on('data', onData).once('close', onClose).once('end', onClose)
    })
  }

  async function sayOnce(said: Said): Promise<Heard> {
    const on = await connected()
    const hearing = hear(on, said.methods)
    if (said.halfClose) on.end(said.bytes)
    else on.write(said.bytes)
    const heard = await hearing
    const parting = heard.replies.some(({ headers }) => headers.get('connection') === 'close')
    if (!said.reusable || parting || heard.closed || heard.silent) on.destroy()
    return heard
  }

  return {
    async say(said: Said): Promise<Heard> {
      const isUsed = socket !== undefined && !socket.destroyed
      const heard = await sayOnce(said)
      // A connection may end between two requests; on a fresh one there has to be a reply, but to a client that left.
      if (!isUsed || !heard.closed || heard.replies.length > 0 || said.halfClose) return heard
      return { ...(await sayOnce(said)), repeated: true }
    },
    hangUp: () => void socket?.destroy(),
  }
}

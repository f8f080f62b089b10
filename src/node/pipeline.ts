import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

/** Requests of one connection that may wait before nothing more is read of it. */
const UNREAD = 16

/** Requests that may wait in all: one chunk of bytes can hold a thousand of them, and each takes some ten kilobytes. */
const MAX_WAITING = 4000

/**
 * Handles the requests of a socket one after the other: each begins when the response before it was taken, so that a
 * client that reads nothing holds one response in memory, however many requests it sends.
 */
export function createPipeline(): (socket: Socket, outgoing: ServerResponse, begin: () => void) => void {
  interface Line {
    last: ServerResponse
    waiting: number
  }
  const lines = new WeakMap<Socket, Line>()
  let waiting = 0

  return (socket, outgoing, begin) => {
    const line = lines.get(socket)
    if (!line) {
      lines.set(socket, { last: outgoing, waiting: 0 })
      socket.once('close', () => (waiting -= lines.get(socket)?.waiting ?? 0))
      return begin()
    }
    const before = line.last
    line.last = outgoing
    if (before.closed) return begin()
    waiting += 1
    line.waiting += 1
    // No legitimate client sends so many.
    if (waiting > MAX_WAITING) return void socket.destroy()
    if (line.waiting >= UNREAD) socket.pause()
    before.once('close', () => {
      if (socket.destroyed) return
      waiting -= 1
      line.waiting -= 1
      begin()
      if (line.waiting < UNREAD) socket.resume()
    })
  }
}

import type { Server } from 'node:http'
import type { Socket } from 'node:net'

/** Far more than a proxy keeps open, and few enough for the memory that each may take. New ones beyond it are closed. */
const MAX_CONNECTIONS = 1000

/** The part of them that is kept free for who comes, as long as some are idle. */
const SPARE = 0.05

interface Standing {
  address: string
  /** `idle`: no whole request has come since the last reply; `answered`: the reply waits to be taken. */
  is: 'idle' | 'working' | 'answered'
  /** Since when, on the monotonic clock. */
  since: number
}

/** What the server says of its connections, so that the right one gives way. */
export interface Connections {
  /** Records the state of a socket. */
  mark(socket: Socket, is: Standing['is']): void
}

/**
 * Bounds how many connections there are. When few places are left, a new one takes that of the one that has been idle for the
 * longest, of the address that holds most. One that is worked on never gives way.
 */
export function boundConnections(server: Server): Connections {
  server.maxConnections = MAX_CONNECTIONS
  const all = new Map<Socket, Standing>()

  /** The connection that gives way to the new one, if any can. */
  function weakest(arrived: Socket): Socket | undefined {
    const held = new Map<string, number>()
    for (const { address } of all.values()) held.set(address, (held.get(address) ?? 0) + 1)
    const rank = ({ address, is, since }: Standing) =>
      [is === 'idle' ? 0 : 1, -(held.get(address) ?? 0), since] as const
    let found: [Socket, readonly number[]] | undefined
    for (const [socket, standing] of all) {
      if (standing.is === 'working' || socket === arrived) continue
      const own = rank(standing)
      const at = own.findIndex((value, index) => value !== found?.[1][index])
      if (!found || (at !== -1 && (own[at] ?? 0) < (found[1][at] ?? 0))) found = [socket, own]
    }
    return found?.[0]
  }

  server.on('connection', (socket) => {
    all.set(socket, { address: socket.remoteAddress ?? '', is: 'idle', since: performance.now() })
    socket.once('close', () => all.delete(socket))
    const most = server.maxConnections
    const gone = all.size > most - Math.floor(most * SPARE) ? weakest(socket) : undefined
    if (!gone) return
    all.delete(gone)
    gone.destroy()
  })
  return {
    mark(socket, is) {
      const standing = all.get(socket)
      if (standing && standing.is !== is) Object.assign(standing, { is, since: performance.now() })
    },
  }
}

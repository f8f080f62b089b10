import type { IncomingHttpHeaders } from 'node:http'
import type { Clock } from './clock.ts'
import { createJournal, type Journal } from './journal.ts'

/** One request on a provider path, written down when its headers arrive. */
export interface Seen {
  at: string
  method: string
  path: string
  headers: IncomingHttpHeaders
  /** Absent until a status line went out: a connection that was cut before it never gets one. */
  status?: number
  applied: boolean
  /** The body as it was spelled, without the value of a password, where a fault asks for that. */
  text?: string
}

const credentialHeaders = new Set([
  'authorization',
  'proxy-authorization',
  'x-api-key',
  'x-backend-auth',
  'cookie',
])

const masked = (headers: IncomingHttpHeaders): IncomingHttpHeaders =>
  Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [name, credentialHeaders.has(name) ? '[masked]' : value]),
  )

export interface Requests extends Pick<Journal<Seen>, 'entries' | 'dropped' | 'clear'> {
  arrived(method: string, path: string, headers: IncomingHttpHeaders): Seen
}

export function createRequests(clock: Clock): Requests {
  const journal = createJournal<Seen>()
  return {
    ...journal,
    arrived: (method, path, headers) =>
      journal.add({ at: clock.iso(), method, path, headers: masked(headers), applied: false }),
  }
}

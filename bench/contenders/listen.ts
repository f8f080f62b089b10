import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'

/** Says where it listens as the gateway does, and keeps connections open for as long as a bench may pause. */
export function listen(server: Server): void {
  server.keepAliveTimeout = 60_000
  server.listen(0, '127.0.0.1', () => say(`http://127.0.0.1:${(server.address() as AddressInfo).port}`))
}

export const say = (url: string): void =>
  void process.stdout.write(`${JSON.stringify({ message: 'listening', url })}\n`)

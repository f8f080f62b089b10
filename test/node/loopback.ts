import type { LookupAddress } from 'node:dns'
import { once } from 'node:events'
import { createServer, type RequestListener, type Server as HttpServer } from 'node:http'
import type { AddressInfo, Server } from 'node:net'
import { onTestFinished } from 'vitest'
import { openSender, provesUnsent } from '../../src/node/sender.ts'
import { createSend, type OutgoingRequest, type Send } from '../../src/upstream/send.ts'

/** Listens on a free port, on this machine's loopback addresses only, until the test has finished. */
export async function listen(server: Server, host = '127.0.0.1'): Promise<number> {
  server.listen(0, host)
  await once(server, 'listening')
  onTestFinished(() => {
    server.close()
    if ('closeAllConnections' in server) (server as HttpServer).closeAllConnections()
  })
  return (server.address() as AddressInfo).port
}

export interface Provider {
  port: number
  url: string
  server: HttpServer
  /** Connections that were ever made. */
  connections(): number
}

export async function startProvider(listener: RequestListener): Promise<Provider> {
  const server = createServer(listener)
  let connections = 0
  server.on('connection', () => (connections += 1))
  const port = await listen(server)
  return { port, url: `http://127.0.0.1:${port}`, server, connections: () => connections }
}

/** What a name resolves to, answer by answer; the last one stays. An error is thrown by the resolver. */
export type Answers = readonly (readonly string[] | NodeJS.ErrnoException)[]

/** A resolver that answers what it is told to, and counts how often it was asked. */
export function resolver(...answers: Answers) {
  let asked = 0
  const lookup = (
    _name: string,
    _options: unknown,
    callback: (error: NodeJS.ErrnoException | null, found: LookupAddress[]) => void,
  ) => {
    const answer = answers[Math.min(asked, answers.length - 1)] ?? []
    asked += 1
    if (answer instanceof Error) return callback(answer, [])
    callback(
      null,
      answer.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })),
    )
  }
  return { lookup: lookup as unknown as Parameters<typeof openSender>[3], asked: () => asked }
}

export interface TestSender {
  send: Send
  /** Lines of the log. */
  logged: { message: string; connection: unknown }[]
  close(): Promise<void>
}

/** A sender as the gateway makes one for each connection. */
export function startSender(
  options: {
    allowPrivateAddresses?: boolean
    connections?: number
    lookup?: Parameters<typeof openSender>[3]
  } = {},
): TestSender {
  const logged: TestSender['logged'] = []
  const write = (message: string, properties: Record<string, unknown>) =>
    void logged.push({ message, ...properties, connection: properties['connection'] })
  const log = { debug: write, info: write, warn: write, error: write }
  const { allowPrivateAddresses = false, connections = 8, lookup } = options
  const connection = { name: 'tested', allowPrivateAddresses }
  const sender = openSender(connection, connections, log, lookup)
  onTestFinished(() => sender.close())
  return { send: createSend(sender.fetch, provesUnsent), logged, close: () => sender.close() }
}

export const outgoing = (baseUrl: string, more: Partial<OutgoingRequest> = {}): OutgoingRequest => ({
  method: 'GET',
  baseUrl,
  template: '/thing',
  ref: {},
  headers: {},
  credentials: {},
  traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
  timeoutMs: 20_000,
  ...more,
})

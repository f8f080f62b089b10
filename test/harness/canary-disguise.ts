import { createServer, type IncomingHttpHeaders, type IncomingMessage, request, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Sandbox } from '../../sandbox/server.ts'
import { canaryToken } from './canary-search.ts'
import { environment } from './configuration.ts'

// The sandbox knows fixed accounts. A disguise stands in front of each provider, so that the gateway signs in with
// canaries and is issued canaries, and everything else passes through byte for byte.

/** What of the fixed environment is secret. */
const secretNames = Object.keys(environment).filter(
  (name) => !/_ID$|_USER$/.test(name),
) as (keyof typeof environment)[]

export interface Disguise {
  urls: Sandbox['urls']
  /** What the gateway is to sign in with, by the name of its variable. */
  env: Record<string, string>
  /** Every token that the gateway was issued. */
  tokens: string[]
  /** Targets and headers of all requests of the gateway, without the headers that are there to sign in. */
  heads: string[]
  close(): void
}

const CREDENTIALS = ['authorization', 'x-api-key']

const headOf = (incoming: IncomingMessage): string =>
  [
    `${incoming.method} ${incoming.url}`,
    ...Object.entries(incoming.headers).flatMap(([name, value]) =>
      CREDENTIALS.includes(name) ? [] : [`${name}: ${String(value)}`],
    ),
  ].join('\n')

export async function disguise(urls: Sandbox['urls']): Promise<Disguise> {
  const env = Object.fromEntries(secretNames.map((name) => [name, canaryToken()]))
  /** Canary → what the sandbox knows. */
  const known = new Map(secretNames.map((name) => [env[name] ?? '', environment[name]]))
  const tokens: string[] = []
  const heads: string[] = []
  const servers: Server[] = []

  const undisguised = (text: string): string => {
    let plain = text
    for (const [canary, real] of known) plain = plain.replaceAll(canary, real)
    return plain
  }

  /** The reply of a token endpoint with a canary in place of the token. */
  function disguised(text: string): string {
    const [, token] = /"access_token":"([^"]+)"/.exec(text) ?? []
    if (token === undefined) return text
    const canary = canaryToken()
    known.set(canary, token)
    tokens.push(canary)
    return text.replaceAll(token, canary)
  }

  function pass(origin: URL, incoming: IncomingMessage, body: string): Promise<IncomingMessage> {
    const { method, url, headers } = incoming
    const sent: IncomingHttpHeaders = { ...headers, host: origin.host }
    for (const name of CREDENTIALS) if (sent[name] !== undefined) sent[name] = undisguised(String(sent[name]))
    const plain = Buffer.from(undisguised(body))
    delete sent['transfer-encoding']
    if (body !== '') sent['content-length'] = `${plain.length}`
    const { hostname, port } = origin
    return new Promise((resolve, reject) => {
      request({ hostname, port, method, path: url, headers: sent }, resolve).once('error', reject).end(plain)
    })
  }

  async function inFrontOf(url: string): Promise<string> {
    const origin = new URL(url)
    const server = createServer(async (incoming, outgoing) => {
      heads.push(headOf(incoming))
      const cut = () => void incoming.socket.resetAndDestroy()
      try {
        const body = Buffer.concat(await incoming.toArray()).toString()
        const answer = await pass(origin, incoming, body)
        const { statusCode = 0, rawHeaders } = answer
        answer.once('error', cut).once('close', () => answer.complete || cut())
        if (!incoming.url?.endsWith('/token'))
          return void answer.pipe(outgoing.writeHead(statusCode, rawHeaders))
        const text = disguised(Buffer.concat(await answer.toArray()).toString())
        const type = answer.headers['content-type']
        outgoing.writeHead(statusCode, type === undefined ? {} : { 'content-type': type }).end(text)
      } catch {
        cut()
      }
    })
    servers.push(server)
    await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
    return url.replace(origin.origin, `http://127.0.0.1:${(server.address() as AddressInfo).port}`)
  }

  const fronts = await Promise.all(
    Object.entries(urls).map(async ([name, url]) => [name, await inFrontOf(url)] as const),
  )
  return {
    urls: { ...urls, ...Object.fromEntries(fronts) },
    env,
    tokens,
    heads,
    close() {
      for (const server of servers) {
        server.close()
        server.closeAllConnections()
      }
    },
  }
}

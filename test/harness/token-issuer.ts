import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'

/** What an issuer answers in place of its documents. */
export interface Fault {
  /** The end of the path that it is for: `keys` or `openid-configuration`. */
  on: string
  status?: number
  headers?: Record<string, string>
  body?: string
  /** The answer waits this long; with `null` it never comes. */
  delayMs?: number | null
}

export interface IssuerState {
  keys: object[]
  /** In place of what its discovery document says. */
  discovery: object
  faults: Fault[]
}

/**
 * Issuers of tokens, real HTTP and as many as are asked for: each is a path of its own, publishes the keys that it is
 * told to (`PUT {issuer}/control`) and remembers what it was asked for (`GET {issuer}/requests`).
 */
export async function startTokenIssuers(): Promise<{ url: string; close: () => Promise<void> }> {
  const states = new Map<string, IssuerState & { requests: string[] }>()
  const server = createServer()

  async function answer(issuer: string, path: string): Promise<Fault> {
    const state = states.get(issuer)
    if (!state) return { on: path, status: 404 }
    state.requests.push(path)
    const fault = state.faults.find(({ on }) => path.endsWith(on))
    const documents: Record<string, object> = {
      keys: { keys: state.keys },
      '.well-known/openid-configuration': {
        issuer: `${url}/${issuer}`,
        jwks_uri: `${url}/${issuer}/keys`,
        ...state.discovery,
      },
    }
    const document = documents[path]
    return { on: path, status: document ? 200 : 404, body: JSON.stringify(document ?? {}), ...fault }
  }

  server.on('request', async (request, response) => {
    const [, issuer = '', path = ''] = /^\/(\w+\/\w+)\/(.+)$/.exec(request.url ?? '') ?? []
    if (path === 'control') {
      const told = JSON.parse(await text(request)) as Partial<IssuerState>
      const { requests = [], ...before } = states.get(issuer) ?? {}
      states.set(issuer, { keys: [], discovery: {}, faults: [], ...before, ...told, requests })
      response.end()
    } else if (path === 'requests') {
      response.end(JSON.stringify(states.get(issuer)?.requests ?? []))
    } else {
      const { status = 200, headers = {}, body = '', delayMs = 0 } = await answer(issuer, path)
      if (delayMs === null) return
      await new Promise((resolve) => setTimeout(resolve, delayMs))
      response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(body)
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return {
    url,
    async close() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

import { connect, type Socket } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'

/** What the besieger is told: where, with whose keys, and what to ask for. */
export interface Siege {
  url: string
  keys: { reader: string; planner: string; narrow: string; admin: string }
  /** Paths of a resource whose reads fail, of one whose reads are slow, and of one that may be guessed at. */
  failing: string
  slow: string
  guessed: string
}

/**
 * Everything at once that a stranger or a narrow caller can do: sockets without a head, replies that nobody reads, requests without
 * end on one connection, reads that fail or are slow, plans, refused attempts and guesses at a key's body.
 */
process.once('message', (siege: Siege) => {
  const { hostname, port } = new URL(siege.url)
  const open = (text: string): Socket => {
    const socket = connect({ host: hostname, port: Number(port) })
    socket.on('error', () => {})
    if (text !== '') socket.write(text)
    return socket.pause()
  }
  const script = 'GET /docs/reference.js HTTP/1.1\r\nHost: gateway.example\r\n\r\n'
  const kinds: [number, string][] = [
    [800, ''],
    [200, 'GET /health/live HTTP/1.1\r\nHost: gateway.example\r\nX-Half:'],
    [100, script],
    [4, script.repeat(300)],
  ]
  /** Keeps so many connections open, and opens no more than fifty a second anew of each kind. */
  async function keep(count: number, text: string): Promise<never> {
    const held = new Set<Socket>()
    for (;;) {
      for (let n = 0; n < 25 && held.size < count; n++) {
        const socket = open(text)
        held.add(socket)
        socket.once('close', () => held.delete(socket))
      }
      await pause(500)
    }
  }

  /** Asks again and again, so many times a second, and never for more than a hundred replies at once. */
  async function ask(perSecond: number, path: string, key: string, init: RequestInit = {}): Promise<never> {
    let open = 0
    for (;;) {
      if (open < 100) {
        open += 1
        const headers = { 'x-api-key': key, 'content-type': 'application/json', ...init.headers }
        void fetch(siege.url + path, { ...init, headers, signal: AbortSignal.timeout(20_000) })
          .then((reply) => reply.text())
          .catch(() => {})
          .finally(() => (open -= 1))
      }
      await pause(1000 / perSecond)
    }
  }
  const { reader, planner, narrow, admin } = siege.keys
  const guess = { method: 'PUT', body: '{"name":"a guess"}', headers: { 'idempotency-key': 'guessed' } }
  const plan = { method: 'PUT', body: '{"name":"Plan"}' }
  for (const [count, text] of kinds) void keep(count, text)
  void ask(20, siege.failing, reader)
  void ask(20, siege.slow, reader)
  void ask(10, `${siege.failing}?dryRun=true`, planner, plan)
  void ask(20, siege.slow, narrow)
  void ask(5, siege.guessed, admin, guess)
})

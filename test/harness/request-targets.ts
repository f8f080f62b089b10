import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

/** Starts a gateway to which bare sockets can be opened. */
export type StartTarget = () => Promise<{ url: string; close(): Promise<unknown> }>

/** Hosts that are none, as the line that they stand in. Whatever is built from them must choose no route. */
const hosts: [string, string[]][] = [
  ['that goes on as a path', ['Host: x/audit?limit=1#']],
  ['that goes on as a path of the health', ['Host: x/health/live?']],
  ['with a query', ['Host: x?y']],
  ['with a fragment', ['Host: x#y']],
  ['with a backslash', ['Host: x\\audit']],
  ['with a user', ['Host: someone@x']],
  ['with a port that is none', ['Host: x:99999']],
  ['with a word for a port', ['Host: x:http']],
  ['with a space in it', ['Host: x y']],
  ['with a tab in it', ['Host: x\ty']],
  ['with an escape', ['Host: x%2faudit']],
  ['with an open bracket', ['Host: [::1']],
  ['that is too long', [`Host: ${'x'.repeat(2000)}`]],
  ['that is there twice', ['Host: x', 'Host: y']],
  ['that is there twice, the same', ['Host: x', 'Host: x']],
  ['that is empty', ['Host:']],
  ['that is missing', []],
]

/** Targets, the Host beside them, and the status of a route that is public, of one that is absent, or of a refusal. */
const targets: [string, number][] = [
  ['/health/live', 200],
  ['http://gateway.example/health/live', 200],
  ['http://other.example:8080/health/live', 200],
  ['HTTP://[::1]:80/health/live', 200],
  ['https://gateway.example/health/live', 200],
  ['http://gateway.example/providers', 401],
  ['http://gateway.example', 404],
  ['http://gateway.example?x=1', 404],
  ['http://someone@gateway.example/health/live', 400],
  ['http://gateway.example:99999/health/live', 400],
  ['//gateway.example/health/live', 404],
  ['///health/live', 404],
  ['*', 400],
]

/** What the lines are answered with: the status and, of a refusal, its problem. */
async function ask(url: string, lines: string[]): Promise<{ status: number; type: string; problem: string }> {
  const { port, hostname } = new URL(url)
  const text = await new Promise<string>((resolve, reject) => {
    const socket = connect(Number(port), hostname)
    let got = ''
    socket.setTimeout(10_000, () => socket.destroy(new Error(`no answer to ${lines.join('|')}`)))
    socket.on('data', (chunk) => (got += String(chunk)))
    socket.once('close', () => resolve(got))
    socket.once('error', (error) => (got === '' ? reject(error) : undefined))
    socket.write(`${lines.join('\r\n')}\r\n\r\n`)
  })
  const [head = '', body = ''] = text.split(/\r\n\r\n(.*)/s)
  const [, status] = /^HTTP\/1\.[01] (\d{3})/.exec(head) ?? []
  const [, type = ''] = /^content-type: ([^;\r]*)/im.exec(head) ?? []
  const [, problem = ''] = /"type":"\/problems\/([^"]+)"/.exec(body) ?? []
  return { status: Number(status), type, problem }
}

const malformed = { status: 400, type: 'application/problem+json', problem: 'malformed-request' }

/** Neither a Host nor a target leads to another route than the one that it names, and each refusal is a problem document. */
export function requestTargets(start: StartTarget): void {
  let gateway: Awaited<ReturnType<StartTarget>>
  beforeAll(async () => {
    gateway = await start()
  })
  afterAll(() => gateway.close())

  describe('a Host', () => {
    test.each(hosts)('%s is refused', async (_, lines) => {
      const rest = [...lines, 'Connection: close']
      expect(await ask(gateway.url, ['GET /health/live HTTP/1.1', ...rest])).toEqual(malformed)
      expect(await ask(gateway.url, ['GET /audit HTTP/1.1', ...rest])).toEqual(malformed)
    })

    test.each(['x', 'x.example:443', '127.0.0.1:8787', '[::1]', '[2001:db8::1]:80', 'a_b.internal', 'x:'])(
      '%s is as good as any',
      async (host) => {
        const lines = ['GET /health/live HTTP/1.1', `Host: ${host}`, 'Connection: close']
        expect((await ask(gateway.url, lines)).status).toBe(200)
      },
    )
  })

  test.each(targets)('the target %s is answered with %i', async (target, status) => {
    const lines = [`GET ${target} HTTP/1.1`, 'Host: gateway.example', 'Connection: close']
    const answer = await ask(gateway.url, lines)
    expect(answer.status).toBe(status)
    if (status >= 400) expect(answer.type).toBe('application/problem+json')
  })
}

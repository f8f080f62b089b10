import { generateKeyPairSync, sign } from 'node:crypto'
import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import { createServer as createTcpServer, type Socket } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import { describe, expect, test } from 'vitest'
import { Secret } from '../../src/lib/secret.ts'
import { openSender, provesUnsent } from '../../src/node/sender.ts'
import { listen, outgoing, resolver, startProvider, startSender } from './loopback.ts'

const silentLog = { debug() {}, info() {}, warn() {}, error() {} }

/** A certificate that nobody has signed but itself, in DER (RFC 5280). */
function selfSigned(): { key: string; cert: string } {
  const der = (tag: number, ...parts: Buffer[]): Buffer => {
    const content = Buffer.concat(parts)
    const size = content.length < 128 ? [content.length] : [0x82, content.length >> 8, content.length & 255]
    return Buffer.concat([Buffer.from([tag, ...size]), content])
  }
  const sequence = (...parts: Buffer[]) => der(0x30, ...parts)
  const oid = (hex: string) => der(0x06, Buffer.from(hex, 'hex'))
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const ecdsaWithSha256 = sequence(oid('2a8648ce3d040302'))
  const name = sequence(der(0x31, sequence(oid('550403'), der(0x0c, Buffer.from('localhost')))))
  const time = (text: string) => der(0x17, Buffer.from(text))
  const content = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, Buffer.from([1])),
    ecdsaWithSha256,
    name,
    sequence(time('250101000000Z'), time('491231235959Z')),
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
  )
  const signature = der(0x03, Buffer.from([0]), sign('sha256', content, privateKey))
  const text = sequence(content, ecdsaWithSha256, signature).toString('base64')
  return {
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
    cert: `-----BEGIN CERTIFICATE-----\n${text}\n-----END CERTIFICATE-----\n`,
  }
}

async function closedPort(): Promise<number> {
  const server = createTcpServer()
  const port = await listen(server)
  server.close()
  await once(server, 'close')
  return port
}

/** Whatever arrives on an encrypted connection that was set up, in vain as far as HTTP goes. */
async function tlsServer(options: { key?: string; cert?: string }): Promise<number> {
  const server = createTlsServer(options, (socket) => void socket.end()).on('tlsClientError', () => {})
  return listen(server)
}

const failing = (code: string) => Object.assign(new Error(code), { code, syscall: 'getaddrinfo' })

/** Everything that keeps a request from being sent: where it is sent to, and the code that tells why it was not. */
const unsent: Record<
  string,
  () => Promise<{ url: string; code: string; lookup?: ReturnType<typeof resolver> }>
> = {
  'a port that nobody listens on': async () => ({
    url: `http://127.0.0.1:${await closedPort()}`,
    code: 'ECONNREFUSED',
  }),
  'every address of a name refusing': async () => ({
    url: `http://localhost:${await closedPort()}`,
    code: 'ECONNREFUSED',
    lookup: resolver(['127.0.0.1', '127.0.0.2']),
  }),
  'a port that Node’s own fetch would not use': async () => ({
    url: 'http://127.0.0.1:6000',
    code: 'ECONNREFUSED',
  }),
  'a name that does not exist': async () => ({
    url: 'https://provider.example',
    code: 'ENOTFOUND',
    lookup: resolver(failing('ENOTFOUND')),
  }),
  'a resolver that does not answer': async () => ({
    url: 'https://provider.example',
    code: 'EAI_AGAIN',
    lookup: resolver(failing('EAI_AGAIN')),
  }),
  'a server without TLS': async () => ({
    url: `https://127.0.0.1:${(await startProvider((_, answer) => answer.end())).port}`,
    code: 'ERR_SSL_WRONG_VERSION_NUMBER',
  }),
  'a certificate that nobody has signed': async () => ({
    url: `https://localhost:${await tlsServer(selfSigned())}`,
    code: 'DEPTH_ZERO_SELF_SIGNED_CERT',
    lookup: resolver(['127.0.0.1']),
  }),
  'no common cipher': async () => ({
    url: `https://127.0.0.1:${await tlsServer({})}`,
    code: 'ERR_SSL_SSL/TLS_ALERT_HANDSHAKE_FAILURE',
  }),
  'a connection that is cut in the handshake': async () => ({
    url: `https://127.0.0.1:${await listen(createTcpServer((socket) => void socket.resetAndDestroy()))}`,
    code: 'ECONNRESET',
  }),
}

const put = { method: 'PUT', body: '{"name":"New"}' }

describe('nothing was sent', () => {
  test.each(Object.keys(unsent))('%s', async (title) => {
    const { url, code, lookup } = await (unsent[title] as (typeof unsent)[string])()
    const sender = openSender({ name: 'tested', allowPrivateAddresses: false }, 4, silentLog, lookup?.lookup)
    const error = await sender.fetch(url, put).catch((thrown: unknown) => thrown)
    await sender.close()
    expect(provesUnsent(error)).toBe(true)
    expect((error as Error).cause).toMatchObject({ code })

    const { send } = startSender(lookup && { lookup: lookup.lookup })
    const answer = await send(outgoing(url, { method: 'PUT', body: { name: 'New' } }))
    expect(answer).toEqual({ received: false, sent: false, detail: 'no connection to the provider' })
  })

  test('a handshake that is never answered, when the time is up', async () => {
    const silent: Socket[] = []
    const port = await listen(createTcpServer((socket) => void silent.push(socket)))
    const { send } = startSender()
    const answer = await send(outgoing(`https://127.0.0.1:${port}`, { timeoutMs: 300 }))
    expect(answer).toMatchObject({ received: false, sent: false })
    expect(silent).toHaveLength(1)
    for (const socket of silent) socket.destroy()
  })

  test('no connection that is free before the time is up, nor afterwards', async () => {
    const seen: string[] = []
    const held = Promise.withResolvers<() => void>()
    const provider = await startProvider(({ url = '' }, answer) => {
      seen.push(url)
      if (url === '/first') held.resolve(() => answer.end('{}'))
      else answer.end('{}')
    })
    const { send } = startSender({ connections: 1 })
    const first = send(outgoing(provider.url, { template: '/first' }))
    const release = await held.promise
    const second = await send(outgoing(provider.url, { template: '/second', timeoutMs: 200 }))
    expect(second).toMatchObject({ received: false, sent: false })
    release()
    expect(await first).toMatchObject({ received: true })
    // What was given up is not sent late either: the third one passes it.
    expect(await send(outgoing(provider.url, { template: '/third' }))).toMatchObject({ received: true })
    expect(seen).toEqual(['/first', '/third'])
  })
})

describe('something may have been sent', () => {
  test.each<[string, (socket: Socket) => void, string]>([
    [
      'a reset before the request is read',
      (socket) => socket.pause().once('readable', () => socket.resetAndDestroy()),
      'before an answer',
    ],
    [
      'a reset after the request',
      (socket) => socket.once('data', () => socket.resetAndDestroy()),
      'before an answer',
    ],
    ['an end without an answer', (socket) => socket.once('data', () => socket.end()), 'before an answer'],
    [
      'an answer that is no HTTP',
      (socket) => socket.once('data', () => socket.end('no HTTP\r\n\r\n')),
      'before an answer',
    ],
    [
      'a status that does not exist',
      (socket) => socket.once('data', () => socket.end('HTTP/1.1 999 ?\r\ncontent-length: 0\r\n\r\n')),
      'before an answer',
    ],
    ['silence', (socket) => socket.resume(), 'before an answer'],
    [
      'half of an answer',
      (socket) =>
        socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"half":')),
      'in the middle of an answer',
    ],
    [
      'half of an answer, then silence',
      (socket) =>
        socket.once('data', () => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"half":')),
      'in the middle of an answer',
    ],
  ])('%s, and it is not sent again', async (_, behave, detail) => {
    let connections = 0
    const sockets: Socket[] = []
    const port = await listen(
      createTcpServer((socket) => {
        connections += 1
        sockets.push(socket.on('error', () => {}))
        behave(socket)
      }),
    )
    const { send } = startSender()
    const answer = await send(
      outgoing(`http://127.0.0.1:${port}`, { method: 'PUT', body: { name: 'New' }, timeoutMs: 1000 }),
    )
    expect(answer).toEqual({ received: false, sent: true, detail: `the connection ended ${detail}` })
    expect(connections).toBe(1)
    for (const socket of sockets) socket.destroy()
  })
})

describe('an answer', () => {
  test('comes whole, however large a list may be', async () => {
    const text = 'x'.repeat(15 << 20)
    const provider = await startProvider((_, answer) => answer.end(JSON.stringify({ text })))
    const answer = await startSender().send(outgoing(provider.url, { list: true }))
    expect(answer).toMatchObject({ received: true, response: { status: 200 } })
    expect(answer.received && (answer.response.body as { text: string }).text === text).toBe(true)
  })

  const ENDLESS = 256 << 20

  test.each([
    ['a resource without an end', ENDLESS, {}],
    ['a list without an end', ENDLESS, { list: true as const }],
    ['a resource of one byte too many', (1 << 20) + 1, {}],
    ['a list of one byte too many', (16 << 20) + 1, { list: true as const }],
  ])('is cut where it becomes too large, and its connection with it: %s', async (_, bytes, more) => {
    let written = 0
    const closed = Promise.withResolvers<void>()
    const provider = await startProvider((_, answer) => {
      const write = () => {
        while (written < bytes && !answer.destroyed) {
          const piece = Buffer.alloc(Math.min(64 << 10, bytes - written), 'x')
          written += piece.length
          if (!answer.write(piece)) return void answer.once('drain', write)
        }
      }
      answer.once('close', closed.resolve)
      write()
    })
    // Whoever waits for the request's time to run out waits longer than a test may.
    const answer = await startSender().send(outgoing(provider.url, { ...more, timeoutMs: 100_000 }))
    expect(answer).toMatchObject({ received: true, response: { status: 200, body: undefined } })
    await closed.promise
    expect(written).toBeLessThan(ENDLESS)
  })

  test('may be empty', async () => {
    const provider = await startProvider((_, answer) => answer.writeHead(204).end())
    const empty = await startSender().send(outgoing(provider.url))
    expect(empty).toMatchObject({ received: true, response: { status: 204, body: undefined } })
  })

  test('leaves its connection for later requests', async () => {
    const provider = await startProvider((_, answer) => answer.end('{}'))
    const { send } = startSender()
    for (let n = 0; n < 20; n++) expect(await send(outgoing(provider.url))).toMatchObject({ received: true })
    // It rests for a turn of the event loop before it is used again, so that two take turns.
    expect(provider.connections()).toBeLessThanOrEqual(2)
  })

  test('may come after a hint, and have headers twice and beyond ASCII', async () => {
    const provider = await startProvider((_, answer) => {
      answer.writeEarlyHints({ link: '</style.css>; rel=preload' })
      answer.writeHead(200, {
        'x-said': 'd\u00e9j\u00e0',
        'x-twice': ['a', 'b'],
      })
      answer.end('{"some":"thing"}')
    })
    expect(await startSender().send(outgoing(provider.url))).toMatchObject({
      received: true,
      response: {
        status: 200,
        headers: { 'x-said': 'd\u00e9j\u00e0', 'x-twice': 'a, b' },
        body: { some: 'thing' },
      },
    })
  })

  test.each([
    ['application/json', true],
    ['application/json;charset=UTF-8', true],
    ['APPLICATION/JSON ; charset=utf-8', true],
    ['application/vnd.api+json', true],
    ['application/vnd.api+json; ext="bulk"', true],
    ['application/problem+json', true],
    [undefined, true],
    ['text/html', false],
    ['text/html; charset=application/json', false],
    ['text/plain', false],
    ['application/octet-stream', false],
    ['application/jsonp', false],
    ['application/x-json-page', false],
    ['application/', false],
    ['', false],
  ])('of the type %s is read: %s', async (type, isRead) => {
    const provider = await startProvider((request, answer) => {
      answer.statusCode = request.url === '/refused' ? 422 : 200
      if (type !== undefined) answer.setHeader('content-type', type)
      answer.end('{"some":"thing"}')
    })
    const { send } = startSender()
    expect(await send(outgoing(provider.url))).toMatchObject({
      response: { status: 200, body: isRead ? { some: 'thing' } : undefined },
    })
    // A refusal is one by its status; what its body adds is looked for whatever it is called.
    expect(await send(outgoing(provider.url, { template: '/refused' }))).toMatchObject({
      response: { status: 422, body: { some: 'thing' } },
    })
  })
})

test('a request arrives as it was made', async () => {
  const seen: { method: unknown; url: unknown; headers: object; body: string }[] = []
  const provider = await startProvider(async (request, answer) => {
    const body = Buffer.concat(await request.toArray()).toString()
    seen.push({ method: request.method, url: request.url, headers: request.headers, body })
    answer.end('{}')
  })
  await startSender().send(
    outgoing(`${provider.url}/base`, {
      method: 'PATCH',
      template: '/things/{id}?include=all',
      ref: { id: 'a b' },
      headers: { 'content-type': 'application/vnd.api+json' },
      credentials: { authorization: new Secret('Bearer token') },
      body: { name: 'Ünïcode', secret: new Secret('s') },
    }),
  )
  const body = '{"name":"Ünïcode","secret":"s"}'
  expect(seen).toEqual([
    {
      method: 'PATCH',
      url: '/base/things/a%20b?include=all',
      headers: {
        host: `127.0.0.1:${provider.port}`,
        connection: 'keep-alive',
        accept: 'application/json',
        'accept-encoding': 'identity',
        authorization: 'Bearer token',
        'content-length': String(Buffer.byteLength(body)),
        'content-type': 'application/vnd.api+json',
        traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
        'user-agent': 'credential-gateway',
      },
      body,
    },
  ])
})

test('connections to a provider are bounded, and every request gets one in the end', async () => {
  const waiting: ServerResponse[] = []
  const provider = await startProvider((_, answer) => {
    if (waiting.push(answer) < 3) return
    for (const one of waiting.splice(0)) one.end('{}')
  })
  const { send } = startSender({ connections: 3 })
  const answers = await Promise.all(Array.from({ length: 48 }, () => send(outgoing(provider.url))))
  expect(answers.every(({ received }) => received)).toBe(true)
  expect(provider.connections()).toBe(3)
})

test('closing waits for no silent provider, and nothing is sent afterwards', async () => {
  const arrived = Promise.withResolvers<void>()
  const provider = await startProvider(() => arrived.resolve())
  const sender = startSender()
  const pending = sender.send(outgoing(provider.url))
  await arrived.promise
  await sender.close()
  expect(await pending).toMatchObject({ received: false, sent: true })
  expect(await sender.send(outgoing(provider.url))).toMatchObject({ received: false, sent: false })
  expect(provider.connections()).toBe(1)
})

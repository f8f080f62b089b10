import diagnostics from 'node:diagnostics_channel'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { MAX_BODY } from '../../src/request-body.ts'
import { configuration, keys } from '../configuration.ts'
import { startTestGateway, type TestGateway } from '../gateway.node.ts'

// What a client can do to a connection that no HTTP library would: everything here goes over bare sockets.
let gateway: TestGateway
/** A gateway that waits for nobody. */
let hasty: TestGateway
beforeAll(async () => {
  const document = configuration(inject('sandbox'))
  hasty = await startTestGateway(document, {
    patience: { headersMs: 100, requestMs: 300, replyMs: 100, idleMs: 100 },
  })
  // The last, because a process has one log.
  gateway = await startTestGateway(document)
})
afterAll(async () => {
  await gateway.close()
  await hasty.close()
})

/** The gateway's ends of the connections on which a request has begun. */
const ends = new Map<number | undefined, Socket>()
function begun(message: unknown): void {
  const { socket } = message as { socket: Socket }
  ends.set(socket.remotePort, socket)
}
beforeAll(() => diagnostics.subscribe('http.server.request.start', begun))
afterAll(() => diagnostics.unsubscribe('http.server.request.start', begun))
/** A socket that was closed does not tell its port any more. */
const ports = new WeakMap<Socket, number | undefined>()
const endOf = (client: Socket): Socket | undefined => ends.get(ports.get(client))

async function open({ url }: TestGateway): Promise<Socket> {
  const { hostname, port } = new URL(url)
  const socket = connect({ host: hostname, port: Number(port) })
  socket.on('error', () => {})
  await once(socket, 'connect')
  ports.set(socket, socket.localPort)
  return socket
}

/** Everything that the gateway says until it ends the connection. */
async function heard(socket: Socket): Promise<string> {
  const chunks: Buffer[] = []
  socket.on('data', (chunk) => chunks.push(chunk))
  // Not `once`, which fails when the gateway cuts off what is still being sent.
  await new Promise((closed) => socket.on('close', closed))
  return Buffer.concat(chunks).toString()
}

async function say(to: TestGateway, text: string): Promise<string> {
  const socket = await open(to)
  socket.write(text, 'latin1')
  return heard(socket)
}

const CANARY = 'canary-0123456789'

/** The one reply in the text is this problem, is complete, and repeats nothing. */
function expectRefusal(text: string, status: number, slug: string): void {
  const [head = '', body = ''] = text.split(/\r\n\r\n(.*)/s)
  expect(head.split('\r\n')[0]).toMatch(new RegExp(`^HTTP/1.1 ${status} `))
  const headers = new Map(
    head
      .toLowerCase()
      .split('\r\n')
      .slice(1)
      .map((line) => line.split(': ') as [string, string]),
  )
  expect(headers.get('content-type')).toBe('application/problem+json')
  expect(headers.get('cache-control')).toBe('no-store')
  expect(Number(headers.get('content-length'))).toBe(Buffer.byteLength(body))
  const problem = JSON.parse(body)
  expect(problem).toMatchObject({ type: `/problems/${slug}`, status })
  expect(problem.requestId).toBe(headers.get('x-request-id'))
  expect(text).not.toContain(CANARY)
}

const signedIn = `Host: gateway.example\r\nX-API-Key: ${keys.admin}\r\n`

describe('what is no request is refused as a problem, and repeated nowhere', () => {
  test.each([
    ['a method that is none', `${CANARY} / HTTP/1.1\r\n\r\n`],
    ['a control character in a header', `GET /providers HTTP/1.1\r\n${signedIn}X: ${CANARY}\0\r\n\r\n`],
    ['a folded header', `GET /providers HTTP/1.1\r\n${signedIn}X: a\r\n ${CANARY}\r\n\r\n`],
    ['TLS', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'],
    ['no Host', `GET /providers?${CANARY} HTTP/1.1\r\nConnection: close\r\n\r\n`],
    ['two Hosts', `GET /providers HTTP/1.1\r\nHost: ${CANARY}\r\n${signedIn}Connection: close\r\n\r\n`],
    ['a Host that is none', `GET / HTTP/1.1\r\nHost: ${CANARY} x\r\nConnection: close\r\n\r\n`],
    ['a target that is no path', 'OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n'],
    ['a tunnel', `CONNECT ${CANARY}:443 HTTP/1.1\r\nHost: a\r\n\r\n`],
    [
      'two framings',
      `PUT /credentials/discue:a HTTP/1.1\r\n${signedIn}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n`,
    ],
    [
      'chunks that are none',
      `PUT /credentials/discue:a HTTP/1.1\r\n${signedIn}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n${CANARY}\r\n`,
    ],
  ])('%s', async (_, text) => expectRefusal(await say(gateway, text), 400, 'malformed-request'))

  test('headers that are too large', async () => {
    const text = `GET /providers HTTP/1.1\r\nX: ${CANARY}${'x'.repeat(20_000)}\r\n\r\n`
    expectRefusal(await say(gateway, text), 431, 'headers-too-large')
  })

  test('after the requests before it on the connection were answered', async () => {
    const request = `GET /credentials/seed-credential HTTP/1.1\r\n${signedIn}\r\n`
    const text = await say(gateway, `${request}${request}${CANARY}\r\n\r\n`)
    const replies = text.split(/(?=HTTP\/1\.1 )/)
    expect(replies.map((reply) => reply.slice(0, 12))).toEqual([
      'HTTP/1.1 200',
      'HTTP/1.1 200',
      'HTTP/1.1 400',
    ])
    expectRefusal(replies[2] ?? '', 400, 'malformed-request')
  })

  test('a wish to upgrade is not granted, and the connection ends with the reply', async () => {
    const request = `GET /providers HTTP/1.1\r\n${signedIn}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n`
    const text = await say(gateway, request + request)
    expect(text.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 200'])
    expect(text.toLowerCase()).toContain('connection: close')
  })

  test('HTTP/1.0 needs no Host, an unknown expectation is none, and headers may be many', async () => {
    expect(await say(gateway, 'GET /health/live HTTP/1.0\r\n\r\n')).toMatch(/^HTTP\/1\.1 200 /)
    const expecting = `GET /providers HTTP/1.1\r\n${signedIn}Expect: ${CANARY}\r\nConnection: close\r\n\r\n`
    expect(await say(gateway, expecting)).toMatch(/^HTTP\/1\.1 200 /)
    const late = `GET /providers HTTP/1.1\r\nHost: a\r\nConnection: close\r\n${'a:\r\n'.repeat(2500)}X-API-Key: ${keys.admin}\r\n\r\n`
    expect(await say(gateway, late)).toMatch(/^HTTP\/1\.1 200 /)
  })
})

describe('a client that takes too long is let go', () => {
  test.each([
    ['says nothing', ''],
    ['does not end its headers', `PUT /credentials/discue:a HTTP/1.1\r\n${signedIn}`],
    [
      'does not end its body',
      `PUT /credentials/discue:a HTTP/1.1\r\n${signedIn}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"name":"${CANARY}`,
    ],
  ])('that %s', async (_, text) => expectRefusal(await say(hasty, text), 408, 'request-timeout'))

  test('that sends its headers byte by byte', async () => {
    const socket = await open(hasty)
    const drip = setInterval(() => socket.write('X'), 10)
    try {
      socket.write(`GET /providers HTTP/1.1\r\n${signedIn}`)
      expectRefusal(await heard(socket), 408, 'request-timeout')
    } finally {
      clearInterval(drip)
    }
  })

  test('that sends no second request', async () => {
    const text = await say(hasty, 'GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n')
    expect(text.match(/HTTP\/1\.1/g)).toHaveLength(1)
    expect(text).toMatch(/^HTTP\/1\.1 200 /)
  })

  test('that does not read its replies', async () => {
    const socket = await open(hasty)
    // More than systems keep for a reader.
    const asked = 400
    socket.write('GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(asked))
    await expect.poll(() => endOf(socket)?.destroyed, { timeout: 20_000 }).toBe(true)
    const text = await heard(socket)
    expect(text.match(/HTTP\/1\.1 200 /g)?.length).toBeLessThan(asked)
  })
})

describe('a body without an end', () => {
  const chunk = Buffer.concat([Buffer.from('4000\r\n'), Buffer.alloc(0x4000, ' '), Buffer.from('\r\n')])

  /** Sends the head and then whatever the connection takes, and hears the reply and how much was read. */
  async function flood(head: string, piece: Buffer): Promise<{ text: string; read: number }> {
    const socket = await open(gateway)
    const hearing = heard(socket)
    socket.write(head)
    const pour = () => {
      while (!socket.destroyed && socket.write(piece));
    }
    socket.on('drain', pour)
    pour()
    const text = await hearing
    return { text, read: endOf(socket)?.bytesRead ?? Number.NaN }
  }
  const put = `PUT /credentials/discue:a HTTP/1.1\r\n${signedIn}Content-Type: application/json\r\n`

  test.each([
    ['with a length', `${put}Content-Length: 9999999999\r\n\r\n`, Buffer.alloc(0x4000, ' '), 413],
    ['in chunks', `${put}Transfer-Encoding: chunked\r\n\r\n`, chunk, 413],
    ['after the last request', `${put}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n`, chunk, 413],
    ['that is compressed', `${put}Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n`, chunk, 415],
    [
      'of nobody',
      'PUT /credentials/discue:a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n',
      chunk,
      401,
    ],
    [
      'where none belongs',
      'GET /health/live HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n',
      chunk,
      200,
    ],
    ['to nowhere', 'PUT * HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n', chunk, 400],
  ])('%s is answered while it comes, and little of it is read', async (_, head, piece, status) => {
    const { text, read } = await flood(head, piece)
    expect(text).toMatch(new RegExp(`^HTTP/1.1 ${status} `))
    expect(read).toBeLessThan(10 * MAX_BODY)
  })

  test('that nobody reads does not cost a client the reply to its last request', async () => {
    const socket = await open(gateway)
    const head =
      'GET /openapi.json HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 200000\r\n\r\n'
    socket.write(head + ' '.repeat(200_000))
    await expect.poll(() => endOf(socket)?.destroyed).toBe(true)
    const [told = '', body = ''] = (await heard(socket)).split(/\r\n\r\n(.*)/s)
    expect(told).toMatch(/^HTTP\/1\.1 200 /)
    expect(Buffer.byteLength(body)).toBe(Number(/content-length: (\d+)/i.exec(told)?.[1]))
  })

  test('that stops coming is answered too', async () => {
    const socket = await open(gateway)
    socket.write(`${put}Content-Length: ${MAX_BODY + 1}\r\n\r\n{`)
    const [first] = await once(socket, 'data')
    expectRefusal(String(first), 413, 'payload-too-large')
    socket.destroy()
  })

  test('that is a little too long leaves the connection to the next request', async () => {
    const body = ' '.repeat(2 * MAX_BODY)
    const text = await say(
      gateway,
      `${put}Content-Length: ${body.length}\r\n\r\n${body}GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`,
    )
    expect(text.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 413', 'HTTP/1.1 200'])
  })

  test('that breaks off is no fault of the gateway', async () => {
    const socket = await open(gateway)
    socket.write(`${put}Content-Length: 100\r\n\r\n{`)
    await expect.poll(() => endOf(socket)).toBeDefined()
    const before = gateway.logged.length
    socket.resetAndDestroy()
    const told = () => gateway.logged.slice(before).some((line) => line.includes('"status":400'))
    await expect.poll(told).toBe(true)
    expect(gateway.logged.filter((line) => line.includes('request failed'))).toEqual([])
  })
})

import diagnostics from 'node:diagnostics_channel'
import { once } from 'node:events'
import type { Server } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { MAX_BODY } from '../../src/http/request-body.ts'
import { createGatewayServer, type Patience } from '../../src/node/server.ts'
import { configuration, keys } from '../harness/configuration.ts'
import { startTestGateway, type TestGateway } from '../harness/gateway.node.ts'

// What a client can do to a connection that no HTTP library would: everything here goes over bare sockets.
let gateway: TestGateway
/** A gateway that waits for no request. */
let hasty: TestGateway
/** A gateway that waits for nobody whom it has answered. Requests have their time, so that a stall cannot cost one. */
let curt: TestGateway
beforeAll(async () => {
  const document = configuration(inject('sandbox'))
  hasty = await startTestGateway(document, { patience: { headersMs: 100, requestMs: 300 } })
  curt = await startTestGateway(document, { patience: { replyMs: 100, idleMs: 100 } })
  // The last, because a process has one log.
  gateway = await startTestGateway(document)
})
afterAll(async () => {
  await gateway.close()
  await hasty.close()
  await curt.close()
})

/** The server's ends of all connections, and those of them on which a request has begun. */
const ends = new Map<number | undefined, Socket>()
const begun = new WeakSet<Socket>()
function accepted(message: unknown): void {
  const { socket } = message as { socket: Socket }
  ends.set(socket.remotePort, socket)
}
function asked(message: unknown): void {
  begun.add((message as { socket: Socket }).socket)
}
beforeAll(() => {
  diagnostics.subscribe('net.server.socket', accepted)
  diagnostics.subscribe('http.server.request.start', asked)
})
afterAll(() => {
  diagnostics.unsubscribe('net.server.socket', accepted)
  diagnostics.unsubscribe('http.server.request.start', asked)
})
/** A socket that was closed does not tell its port any more. */
const ports = new WeakMap<Socket, number | undefined>()
const endOf = (client: Socket): Socket | undefined => ends.get(ports.get(client))
/** For as long as a test may take. */
const until = (check: () => unknown): Promise<void> => expect.poll(check, { timeout: 20_000 }).toBe(true)
/** The server has let a connection go. */
const gone = (client: Socket): Promise<void> => until(() => endOf(client)?.destroyed)

async function open({ url }: { url: string }): Promise<Socket> {
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

async function say(to: { url: string }, text: string): Promise<string> {
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
  expect(headers.get('cache-control')).toBe('no-store, no-transform')
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

  test('a tunnel whose client resets the connection is no fault of the gateway', async () => {
    const socket = await open(gateway)
    socket.write('CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n')
    await once(socket, 'data')
    socket.resetAndDestroy()
    await gone(socket)
    expect(await say(gateway, 'GET /health/live HTTP/1.0\r\n\r\n')).toMatch(/^HTTP\/1\.1 200 /)
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
    const text = await say(curt, 'GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n')
    expect(text.match(/HTTP\/1\.1/g)).toHaveLength(1)
    expect(text).toMatch(/^HTTP\/1\.1 200 /)
  })

  test('that does not read its replies', async () => {
    const socket = await open(curt)
    // More than systems keep for a reader.
    const asked = 400
    socket.write('GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(asked))
    await gone(socket)
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
  ])('%s is answered while it comes, and at most 10 MiB of it are read', async (_, head, piece, status) => {
    const { text, read } = await flood(head, piece)
    expect(text).toMatch(new RegExp(`^HTTP/1.1 ${status} `))
    // And what was on its way when that was enough.
    expect(read).toBeLessThan(11 << 20)
  })

  test('that nobody reads does not cost a client the reply to its last request', async () => {
    const socket = await open(gateway)
    const head =
      'GET /openapi.json HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 200000\r\n\r\n'
    socket.write(head + ' '.repeat(200_000))
    await gone(socket)
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

  test('that is too long ends the connection, which says so', async () => {
    const body = ' '.repeat(2 * MAX_BODY)
    const text = await say(
      gateway,
      `${put}Content-Length: ${body.length}\r\n\r\n${body}GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`,
    )
    expect(text.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 413'])
    expect(text).toMatch(/\r\nconnection: close\r\n/i)
  })

  test.each([
    ['no Host', 'PUT / HTTP/1.1\r\n'],
    ['a Host that is none', 'PUT / HTTP/1.1\r\nHost: a b\r\n'],
    ['a target that is no path', 'PUT * HTTP/1.1\r\nHost: a\r\n'],
  ])('of a request that has %s ends the connection, which says so', async (_, head) => {
    const body = ' '.repeat(2 * MAX_BODY)
    const text = await say(gateway, `${head}Content-Length: ${body.length}\r\n\r\n${body}`)
    expectRefusal(text, 400, 'malformed-request')
    expect(text).toMatch(/\r\nconnection: close\r\n/i)
  })

  test('that nobody needed and that is small leaves the connection to the next request', async () => {
    const socket = await open(gateway)
    const hearing = heard(socket)
    socket.write(`PUT /credentials/discue:a HTTP/1.1\r\nHost: a\r\nContent-Length: ${MAX_BODY}\r\n\r\n`)
    await until(() => begun.has(endOf(socket) ?? socket))
    socket.write(' '.repeat(MAX_BODY))
    socket.write('GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n')
    expect((await hearing).match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 401', 'HTTP/1.1 200'])
  })

  test('of more clients at once than may linger costs none its reply', async () => {
    const sockets = await Promise.all(Array.from({ length: 80 }, () => open(gateway)))
    const replies = sockets.map(heard)
    for (const socket of sockets) socket.write(`${put}Content-Length: ${1 << 22}\r\n\r\n `)
    const texts = await Promise.all(replies)
    expect(texts.filter((text) => text.startsWith('HTTP/1.1 413 ')).length).toBe(80)
  })

  test('that breaks off is no fault of the gateway', async () => {
    const socket = await open(gateway)
    socket.write(`${put}Content-Length: 100\r\n\r\n{`)
    await until(() => begun.has(endOf(socket) ?? socket))
    const before = gateway.logged.length
    socket.resetAndDestroy()
    await until(() => gateway.logged.slice(before).some((line) => line.includes('"status":400')))
    expect(gateway.logged.filter((line) => line.includes('request failed'))).toEqual([])
  })
})

describe('replies on one connection', () => {
  /** More than systems keep for a reader. */
  const LARGE = 'x'.repeat(32 * 1024 * 1024)
  let release: () => void
  let released: Promise<void>
  const apps: Record<string, (request: Request) => Promise<Response> | Response> = {
    '/soon': () => new Response('soon'),
    '/later': () => released.then(() => new Response('later')),
    '/body': async (request) => new Response(await request.text()),
    '/refused': () => new Response('refused', { status: 413 }),
    '/large': () => new Response(LARGE),
    '/read': async (request) => {
      await released
      return new Response(await request.text())
    },
    '/streamed': () =>
      new Response(
        new ReadableStream({ pull: (controller) => controller.enqueue(Buffer.alloc(1 << 16, 'x')) }),
      ),
  }
  const servers: Server[] = []
  afterAll(() => {
    for (const server of servers) server.close().closeAllConnections()
  })

  /** A server whose app does what the path says. */
  async function serve(patience: Partial<Patience> = {}) {
    ;({ promise: released, resolve: release } = Promise.withResolvers<void>())
    const answered: string[] = []
    const refused: number[] = []
    const note = (_: string, { status }: Record<string, unknown>): void => void refused.push(Number(status))
    const server = createGatewayServer({
      async fetch(request) {
        const { pathname } = new URL(request.url)
        const response = await apps[pathname]?.(request)
        answered.push(pathname)
        return response ?? new Response(null, { status: 404 })
      },
      log: { debug: note, info: note, warn: note, error: note },
      patience,
    })
    servers.push(server)
    await once(server.listen(0, '127.0.0.1'), 'listening')
    return {
      server,
      url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      /** Paths to which the app had its reply. */
      answered,
      /** Statuses of what the server refused by itself. */
      refused,
    }
  }
  const get = (path: string, headers = ''): string => `GET ${path} HTTP/1.1\r\nHost: a\r\n${headers}\r\n`
  const chunked = (path: string): string =>
    `PUT ${path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n`
  const TUNNEL = 'CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n'
  const statuses = (text: string): string[] =>
    text.match(/HTTP\/1\.1 \d{3}/g)?.map((one) => one.slice(9)) ?? []

  test.each([
    ['a tunnel', TUNNEL, 400],
    ['what is no request', 'no request\r\n\r\n', 400],
    ['a request whose body is none', `${chunked('/body')}zz\r\n`, 400],
    ['a request that does not end', `${chunked('/body')}1\r\n`, 408],
  ])('%s waits until the request before it is answered', async (_, text, status) => {
    const to = await serve()
    const socket = await open(to)
    socket.write(get('/later') + text)
    await until(() => begun.has(endOf(socket) ?? socket))
    // What Node's server does when the time is over, which a stalled test could not be sure to see in order.
    const over = Object.assign(new Error('over'), { code: 'ERR_HTTP_REQUEST_TIMEOUT' })
    if (status === 408) to.server.emit('clientError', over, endOf(socket))
    await until(() => to.refused.length > 0)
    release()
    expect(statuses(await heard(socket))).toEqual(['200', String(status)])
    expect(to.refused).toEqual([status])
  })

  test.each([
    ['first', get('/later') + get('/soon')],
    ['last', get('/soon') + get('/later')],
  ])('a request that takes longer than a reply may is answered when it comes %s', async (_, text) => {
    const to = await serve({ replyMs: 50 })
    const socket = await open(to)
    const hearing = heard(socket)
    socket.write(text)
    await until(() =>
      text.startsWith('GET /later') ? begun.has(endOf(socket) ?? socket) : to.answered.includes('/soon'),
    )
    // By the end of another connection everything has happened that follows the app's reply.
    await say(to, get('/soon', 'Connection: close\r\n'))
    expect(endOf(socket)?.timeout || undefined).toBeUndefined()
    release()
    socket.write(get('/soon', 'Connection: close\r\n'))
    expect(statuses(await hearing)).toEqual(['200', '200', '200'])
  })

  test.each([
    ['', chunked('/refused')],
    ['that is still being written', chunked('/large')],
  ])('a body that turns out to be none gets no second reply after an early one %s', async (_, head) => {
    const to = await serve()
    const socket = await open(to)
    socket.write(`${head}1\r\nx\r\n`)
    await until(() => to.answered.length > 0)
    socket.write('zz\r\n')
    await until(() => to.refused.length > 0)
    const [told = '', body = ''] = (await heard(socket)).split(/\r\n\r\n(.*)/s)
    expect(statuses(told + body)).toHaveLength(1)
    expect(body).toHaveLength(Number(/content-length: (\d+)/i.exec(told)?.[1]))
  })

  test.each([
    ['of a told length', get('/refused', `Content-Length: ${2 * MAX_BODY}\r\n`) + ' '.repeat(2 * MAX_BODY)],
    ['in chunks', `${chunked('/refused')}1\r\nx\r\n0\r\n\r\n`],
  ])('what follows a body %s that nobody read is not begun', async (_, refused) => {
    const to = await serve()
    expect(statuses(await say(to, refused + get('/soon')))).toEqual(['413'])
    await say(to, get('/refused', 'Connection: close\r\n'))
    expect(to.answered).toEqual(['/refused', '/refused'])
  })

  test('what follows the last request gets no reply', async () => {
    const to = await serve()
    const text = await say(to, `${get('/body', 'Connection: close\r\n')}no request\r\n\r\n`)
    expect(statuses(text)).toEqual(['200'])
  })

  test.each([
    ['of a large reply', get('/large')],
    ['of a reply that is streamed', get('/streamed')],
    ['of a large reply before a tunnel', get('/large') + TUNNEL],
    ['of a large reply before what is no request', `${get('/large')}no request\r\n\r\n`],
    ['of a large reply before a body that is none', `${get('/large')}${chunked('/read')}zz\r\n`],
    ['of refusals', 'GET / HTTP/1.1\r\n\r\n'.repeat(60_000)],
    ['of refusals of targets', 'GET * HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(60_000)],
  ])('a client that reads nothing %s cannot keep the connection by sending on', async (_, text) => {
    const to = await serve({ replyMs: 100 })
    const socket = await open(to)
    socket.write(text)
    await until(() => begun.has(endOf(socket) ?? socket))
    release()
    const drip = setInterval(() => socket.write('x'), 10)
    try {
      await gone(socket)
    } finally {
      clearInterval(drip)
      socket.destroy()
    }
  })

  test('connections have a number', async () => {
    const to = await serve()
    expect(to.server.maxConnections).toBe(1000)
    to.server.maxConnections = 1
    const first = await open(to)
    first.write(get('/soon'))
    await once(first, 'data')
    expect(await say(to, get('/soon'))).toBe('')
    first.destroy()
  })

  test('requests on one connection are worked on one after the other', async () => {
    const to = await serve()
    const socket = await open(to)
    const hearing = heard(socket)
    socket.write(get('/later') + get('/soon') + get('/soon'))
    await until(() => begun.has(endOf(socket) ?? socket))
    // By the end of another connection everything has happened that would.
    await say(to, get('/refused', 'Connection: close\r\n'))
    expect(to.answered).toEqual(['/refused'])
    release()
    socket.write(get('/soon', 'Connection: close\r\n'))
    expect(statuses(await hearing)).toEqual(['200', '200', '200', '200'])
    expect(to.answered).toEqual(['/refused', '/later', '/soon', '/soon', '/soon'])
  })

  test('1,000 idle connections, without a head or with half of one, shut nobody out', async () => {
    const to = await serve()
    const working = await open(to)
    const hearing = heard(working)
    working.write(get('/later'))
    await until(() => begun.has(endOf(working) ?? working))
    const kept = await open(to)
    kept.write(get('/soon'))
    await once(kept, 'data')

    const idle: Socket[] = []
    for (let n = 0; n < 1100; n++) {
      const socket = await open(to)
      if (n % 2) socket.write('GET /soon HTTP/1.1\r\nHost: a\r\nX-Half:')
      idle.push(socket)
    }
    for (let n = 0; n < 20; n++)
      expect(statuses(await say(to, get('/soon', 'Connection: close\r\n')))).toEqual(['200'])
    // The longest idle have given way, and what is worked on has not.
    expect(endOf(kept)?.destroyed).toBe(true)
    expect(endOf(idle.at(-1) as Socket)?.destroyed).toBe(false)
    expect(endOf(working)?.destroyed).toBe(false)
    release()
    working.write(get('/soon', 'Connection: close\r\n'))
    expect(statuses(await hearing)).toEqual(['200', '200'])
    for (const socket of [...idle, kept]) socket.destroy()
  })

  test('of requests that wait there is a bounded number, and whoever sends more loses its connection', async () => {
    const to = await serve()
    const flooding = await Promise.all(Array.from({ length: 12 }, () => open(to)))
    for (const socket of flooding) socket.write(get('/later') + get('/soon').repeat(2000))
    await until(() => flooding.some((socket) => endOf(socket)?.destroyed))
    expect(statuses(await say(to, get('/soon', 'Connection: close\r\n')))).toEqual(['200'])
    // None of those behind the first was begun.
    expect(to.answered).toEqual(['/soon'])
    for (const socket of flooding) socket.destroy()
    await until(() => flooding.every((socket) => endOf(socket)?.destroyed))
    // What waited is not counted any more.
    const socket = await open(to)
    socket.write(get('/soon').repeat(500) + get('/soon', 'Connection: close\r\n'))
    expect(statuses(await heard(socket))).toHaveLength(501)
  })
})

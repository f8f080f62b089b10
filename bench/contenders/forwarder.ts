import { createServer } from 'node:http'
import { Pool } from 'undici'
import { listen } from './listen.ts'

// The least that a forwarder can be: node:http in front of an undici pool. The first argument is the upstream.
const pool = new Pool(process.argv[2] ?? '', { connections: 64, pipelining: 1 })

const server = createServer(async (request, response) => {
  const { host: _host, connection: _connection, ...headers } = request.headers
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  const answer = await pool.request({
    method: 'PUT',
    path: request.url ?? '/',
    headers,
    body: Buffer.concat(chunks),
  })
  const body = Buffer.from(await answer.body.arrayBuffer())
  response.writeHead(answer.statusCode, { 'content-type': answer.headers['content-type'] as string })
  response.end(body)
})
listen(server)

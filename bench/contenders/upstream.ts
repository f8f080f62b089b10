import { createServer } from 'node:http'
import { setTimeout as pause } from 'node:timers/promises'
import { listen } from './listen.ts'

// A Discue that always answers a PUT with its documented body, after as many milliseconds as the first argument says.
const delayMs = Number(process.argv[2] ?? 0)

const server = createServer(async (request, response) => {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  if (delayMs > 0) await pause(delayMs)
  const { name } = JSON.parse(Buffer.concat(chunks).toString()) as { name: string }
  const id = request.url?.split('/').at(-1)
  const body = JSON.stringify({ api_client: { id, name } })
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) })
  response.end(body)
})
listen(server)

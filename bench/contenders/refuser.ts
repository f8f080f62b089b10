import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

// What an attack costs whoever is attacked, whatever it does: every request is refused at once.
const server = createServer((request, response) => {
  request.resume()
  response.writeHead(503, { 'content-type': 'application/json' }).end('{}')
})
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address() as AddressInfo
  process.stdout.write(`${JSON.stringify({ message: 'listening', url: `http://127.0.0.1:${port}` })}\n`)
})

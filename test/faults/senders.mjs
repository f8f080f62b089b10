// Sends bodies that nobody wants, by a client as it comes, and says what it got: `node senders.mjs fetch|http`. Each is followed by a
// change that is in order, on the same agent. Errors that reach nobody are counted and not hidden.
import { Agent, request } from 'node:http'

const [, , client, orders] = process.argv
const { url, refused, good } = JSON.parse(orders)
let uncaught = 0
process.on('uncaughtException', () => void (uncaught += 1))
process.on('unhandledRejection', () => void (uncaught += 1))

const agent = new Agent({ keepAlive: true, maxSockets: 1 })
const byHttp = ({ path, headers, body }) =>
  new Promise((resolve) => {
    const sent = request(url + path, {
      method: 'PUT',
      agent,
      headers: { ...headers, 'content-length': Buffer.byteLength(body) },
    })
    const failed = ({ code }) => resolve(code)
    sent.on('response', (reply) => {
      reply.resume().on('end', () => resolve(reply.statusCode))
      // From here on an error would reach nobody.
      sent.off('error', failed)
    })
    sent.on('error', failed)
    sent.end(body)
  })
const byFetch = async ({ path, headers, body }) => {
  try {
    const reply = await fetch(url + path, { method: 'PUT', headers, body })
    await reply.arrayBuffer()
    return reply.status
  } catch (error) {
    return error.cause?.code ?? error.message
  }
}
const send = client === 'http' ? byHttp : byFetch

const answers = []
for (const { size, ...rest } of refused) {
  const first = await send({ ...rest, body: `{"name":"${'x'.repeat(size)}"}` })
  answers.push([first, await send(good)])
}
agent.destroy()
console.log(JSON.stringify({ answers, uncaught }))

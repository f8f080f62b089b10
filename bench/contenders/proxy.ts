import fastify from 'fastify'
import proxy from '@fastify/http-proxy'
import { say } from './listen.ts'

// @fastify/http-proxy as its documentation sets it up, with a pool as large as the others have. Nothing is logged.
const server = fastify({ logger: false, keepAliveTimeout: 60_000 })
await server.register(proxy, {
  upstream: process.argv[2] ?? '',
  undici: { connections: 64, pipelining: 1 },
})
say(await server.listen({ port: 0, host: '127.0.0.1' }))

import type { Server } from 'node:http'
import Database from 'better-sqlite3'
import { Hono } from 'hono'
import { serve } from '@hono/node-server'
import { ofetch } from 'ofetch'
import { say } from './listen.ts'

// What a team would write in an afternoon: one route, one call, one audit row. Arguments: the upstream, the database.
const [upstream = '', file = ''] = process.argv.slice(2)
const database = new Database(file)
database.pragma('journal_mode = WAL')
database.pragma('synchronous = FULL')
database.exec(
  'CREATE TABLE audit (id INTEGER PRIMARY KEY, at TEXT, caller TEXT, resource TEXT, fields TEXT, status INTEGER)',
)
const audit = database.prepare(
  'INSERT INTO audit (at, caller, resource, fields, status) VALUES (?, ?, ?, ?, ?)',
)

const app = new Hono()
app.put('/credentials/:id', async (c) => {
  const id = c.req.param('id').replace(/^discue:/, '')
  const body = await c.req.json<{ name: string }>()
  const answer = await ofetch<object>(`${upstream}/api_clients/${id}`, {
    method: 'PUT',
    headers: { 'x-api-key': 'discue-key' },
    body: { id, name: body.name },
    retry: 0,
  })
  const caller = c.req.header('x-api-key') ?? ''
  audit.run(new Date().toISOString(), caller.slice(0, 8), id, JSON.stringify(body), 200)
  return c.json(answer)
})
const server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }, ({ port }) =>
  say(`http://127.0.0.1:${port}`),
) as Server
server.keepAliveTimeout = 60_000

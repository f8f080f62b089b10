import { execFile, spawn } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { build } from 'esbuild'
import createClient from 'openapi-fetch'
import type { Json } from '../harness/sandbox-calls.ts'

/** A reply as a client hands it on: data or a problem. */
export interface Told {
  status: number
  body: Json
}
type Kind = 'credential' | 'role' | 'permission'

/** A client as it comes: nothing in it knows how this gateway wants an id. */
export interface Client {
  get(kind: Kind, id: string, headers?: Record<string, string>): Promise<Told>
  put(kind: Kind, id: string, body: object, headers?: Record<string, string>): Promise<Told>
  list(path: 'audit' | 'changes', query: Record<string, string>): Promise<Told>
  /** Where it is a process of its own. */
  close?(): void
}

const run = promisify(execFile)
const types = fileURLToPath(new URL('../../tools/types/', import.meta.url))

/** The clients that generators make of a gateway's own description. `folder` is one below the project. */
export async function generate(url: string, folder: string): Promise<{ sdk: Json; client: Json }> {
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  const document = join(folder, 'openapi.json')
  writeFileSync(document, await (await fetch(`${url}/openapi.json`)).text())
  const tool = (name: string, args: string[]) =>
    run('npm', ['exec', '--no', '--', name, ...args], { cwd: types })
  await tool('openapi-typescript', [document, '-o', join(folder, 'openapi-fetch.d.ts')])
  await tool('openapi-ts', ['-i', document, '-o', join(folder, 'hey-api')])
  const bundle = async (file: string) => {
    const outfile = join(folder, `${file.replace(/\W/g, '-')}.mjs`)
    await build({
      entryPoints: [join(folder, 'hey-api', file)],
      outfile,
      bundle: true,
      format: 'esm',
      platform: 'node',
    })
    return (await import(pathToFileURL(outfile).href)) as Json
  }
  return { sdk: await bundle('sdk.gen.ts'), client: await bundle('client/index.ts') }
}

/** Compiles a program that uses both clients, with the TypeScript of their makers. */
export async function compile(folder: string, program: string): Promise<void> {
  const file = join(folder, 'program.ts')
  writeFileSync(file, program)
  const options = [
    '--noEmit',
    '--strict',
    '--skipLibCheck',
    '--module',
    'esnext',
    '--moduleResolution',
    'bundler',
    '--target',
    'es2022',
  ]
  await run('npm', ['exec', '--no', '--', 'tsc', ...options, file], { cwd: types }).catch(
    ({ stdout }: { stdout: string }) => {
      throw new Error(stdout)
    },
  )
}

/** Success has to arrive as data and everything else as an error: programs branch on that and not on the status. */
function withBody({ response, data, error }: Json): Told {
  if (response.ok !== (error === undefined) || response.ok !== (data !== undefined))
    throw new Error(`${response.status} arrived as ${data === undefined ? 'an error' : 'data'}`)
  return { status: response.status, body: data ?? error }
}

export function openapiFetch(baseUrl: string, key: string): Client {
  // What it sends is the same without the types, which are made while the tests run.
  const client = createClient<Json>({ baseUrl, headers: { 'x-api-key': key } }) as Json
  return {
    get: async (kind, id, headers = {}) =>
      withBody(await client.GET(`/${kind}s/{id}`, { params: { path: { id } }, headers })),
    put: async (kind, id, body, headers = {}) =>
      withBody(await client.PUT(`/${kind}s/{id}`, { params: { path: { id } }, body, headers })),
    list: async (path, query) => withBody(await client.GET(`/${path}`, { params: { query } })),
  }
}

export function heyApi(
  baseUrl: string,
  key: string,
  { sdk, client: made }: { sdk: Json; client: Json },
): Client {
  // It sends the key in both of the headers that the description names.
  const client = made.createClient({ baseUrl, auth: () => key })
  const named = (verb: string, kind: Kind) => sdk[`${verb}${kind[0]?.toUpperCase()}${kind.slice(1)}`]
  return {
    get: async (kind, id, headers = {}) =>
      withBody(await named('get', kind)({ client, path: { id }, headers })),
    put: async (kind, id, body, headers = {}) =>
      withBody(await named('update', kind)({ client, path: { id }, body, headers })),
    list: async (path, query) =>
      withBody(await (path === 'audit' ? sdk.listAuditEvents : sdk.listChanges)({ client, query })),
  }
}

interface Call {
  method: string
  path: string
  body?: object
  headers?: Record<string, string>
}

/** A 304 has no body. */
const parsed = (body: string): Json => (body === '' ? undefined : JSON.parse(body))

const overCalls = (send: (call: Call) => Promise<Told>): Client => ({
  get: (kind, id, headers = {}) =>
    send({ method: 'GET', path: `/${kind}s/${encodeURIComponent(id)}`, headers }),
  put: (kind, id, body, headers = {}) =>
    send({ method: 'PUT', path: `/${kind}s/${encodeURIComponent(id)}`, body, headers }),
  list: (path, query) => send({ method: 'GET', path: `/${path}?${new URLSearchParams(query)}` }),
})

export const nodeFetch = (url: string, key: string): Client =>
  overCalls(async ({ method, path, body, headers }) => {
    const reply = await fetch(url + path, {
      method,
      headers: { 'x-api-key': key, 'content-type': 'application/json', ...headers },
      ...(body && { body: JSON.stringify(body) }),
    })
    return { status: reply.status, body: parsed(await reply.text()) }
  })

export const nodeHttp = (url: string, key: string): Client =>
  overCalls(async ({ method, path, body, headers }) => {
    const sent = request(url + path, {
      method,
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json', ...headers },
    })
    const reply = await new Promise<Json>((resolve, reject) => {
      sent.on('response', resolve).on('error', reject)
      sent.end(body && JSON.stringify(body))
    })
    return { status: reply.statusCode, body: parsed(await text(reply)) }
  })

/** @param quote What `quote` is told besides the id; by itself it leaves a slash as it is. */
export function urllib(url: string, key: string, quote: { safe?: string } = {}): Client {
  const program = fileURLToPath(new URL('calls.py', import.meta.url))
  const python = spawn('python3', [program], { stdio: ['pipe', 'pipe', 'inherit'] })
  const replies = createInterface(python.stdout)[Symbol.asyncIterator]()
  const send = async (order: object): Promise<Told> => {
    python.stdin.write(`${JSON.stringify({ url, key, quote, ...order })}\n`)
    const reply = await replies.next()
    if (reply.done) throw new Error('Python has ended')
    return JSON.parse(reply.value) as Told
  }
  return {
    get: (kind, id, headers = {}) => send({ method: 'GET', route: `${kind}s`, id, headers }),
    put: (kind, id, body, headers = {}) => send({ method: 'PUT', route: `${kind}s`, id, body, headers }),
    list: (route, query) => send({ method: 'GET', route, query }),
    close: () => void python.stdin.end(),
  }
}

import { execFile } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { build } from 'esbuild'
import createClient from 'openapi-fetch'
import type { Json } from '../sandbox-calls.ts'

/** A reply as a client hands it on: data or a problem. */
export interface Told {
  status: number
  body: Json
}
type Kind = 'credential' | 'role' | 'permission'

/** A client as it comes: nothing in it knows how this gateway wants an id. */
export interface Client {
  get(kind: Kind, id: string): Promise<Told>
  put(kind: Kind, id: string, body: object, headers?: Record<string, string>): Promise<Told>
  list(path: 'audit' | 'changes', query: Record<string, string>): Promise<Told>
}

const run = promisify(execFile)
const types = fileURLToPath(new URL('../../tools/types/', import.meta.url))

/** The clients that generators make of a gateway's own description. `folder` is one below the project. */
export async function generate(url: string, folder: string): Promise<{ sdk: Json; client: Json }> {
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  const document = join(folder, 'openapi.json')
  writeFileSync(document, await (await fetch(`${url}/openapi.json`)).text())
  const tool = (name: string, args: string[]) => run('npm', ['exec', '--', name, ...args], { cwd: types })
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
  await run('npm', ['exec', '--', 'tsc', ...options, file], { cwd: types }).catch(
    ({ stdout }: { stdout: string }) => {
      throw new Error(stdout)
    },
  )
}

const withBody = ({ response, data, error }: Json): Told => ({ status: response.status, body: data ?? error })

export function openapiFetch(baseUrl: string, key: string): Client {
  // What it sends is the same without the types, which are made while the tests run.
  const client = createClient<Json>({ baseUrl, headers: { 'x-api-key': key } }) as Json
  return {
    get: async (kind, id) => withBody(await client.GET(`/${kind}s/{id}`, { params: { path: { id } } })),
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
  const named = (method: string, kind: Kind) => sdk[`${method}${kind[0]?.toUpperCase()}${kind.slice(1)}sId`]
  return {
    get: async (kind, id) => withBody(await named('get', kind)({ client, path: { id } })),
    put: async (kind, id, body, headers = {}) =>
      withBody(await named('put', kind)({ client, path: { id }, body, headers })),
    list: async (path, query) =>
      withBody(await (path === 'audit' ? sdk.getAudit : sdk.getChanges)({ client, query })),
  }
}

interface Call {
  method: string
  path: string
  body?: object
  headers?: Record<string, string>
}

const overCalls = (send: (call: Call) => Promise<Told>): Client => ({
  get: (kind, id) => send({ method: 'GET', path: `/${kind}s/${encodeURIComponent(id)}` }),
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
    return { status: reply.status, body: await reply.json() }
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
    return { status: reply.statusCode, body: JSON.parse(await text(reply)) }
  })

/** @param safe What `quote` leaves as it is; its own default is a slash. */
export function urllib(url: string, key: string, safe: string): Client {
  const send = async (order: object): Promise<Told> => {
    const program = fileURLToPath(new URL('calls.py', import.meta.url))
    const { stdout } = await run('python3', [program, JSON.stringify({ url, key, safe, ...order })])
    return JSON.parse(stdout) as Told
  }
  return {
    get: (kind, id) => send({ method: 'GET', route: `${kind}s`, id }),
    put: (kind, id, body, headers = {}) => send({ method: 'PUT', route: `${kind}s`, id, body, headers }),
    list: (route, query) => send({ method: 'GET', route, query }),
  }
}

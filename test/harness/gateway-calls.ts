import { gatewayFetch } from '#gateway'
import { expect, inject } from 'vitest'
import { keys } from './configuration.ts'
import { controlOf, type Json } from './sandbox-calls.ts'

export interface Answer {
  status: number
  headers: Headers
  /** The body as JSON, or its text where it is none. */
  body: Json
}

export interface CallOptions {
  key?: string | null
  headers?: Record<string, string>
}

/** One call on the gateway, as the caller `admin` unless told otherwise. */
export async function call(
  method: string,
  path: string,
  body?: unknown,
  { key = keys.admin, headers = {} }: CallOptions = {},
): Promise<Answer> {
  const response = await gatewayFetch(path, {
    method,
    headers: {
      ...(key !== null && { 'x-api-key': key }),
      ...(body !== undefined && { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  })
  await expectDocumented(method, path, response)
  const text = await response.text()
  const json = /\bjson\b/.test(response.headers.get('content-type') ?? '')
  return {
    status: response.status,
    headers: response.headers,
    body: json && text !== '' ? JSON.parse(text) : text,
  }
}

let description: Promise<Json> | undefined

/** Every answer of every suite is one that the OpenAPI document lists for its operation. */
async function expectDocumented(method: string, path: string, response: Response): Promise<void> {
  description ??= gatewayFetch('/openapi.json').then((answer) => answer.json())
  const { paths: known, components } = (await description) as Json
  const [pathname = ''] = path.split('?')
  const template = Object.keys(known).find((one) =>
    new RegExp(`^${one.replaceAll('.', '\\.').replace(/\{\w+\}/g, '[^/]+')}$`).test(pathname),
  )
  const operation =
    template === undefined ? undefined : known[template][method === 'HEAD' ? 'get' : method.toLowerCase()]
  if (!operation) {
    expect([404, 405]).toContain(response.status)
    return
  }
  const said = operation.responses[response.status]
  const documented = said?.$ref ? components.responses[said.$ref.split('/').at(-1)] : said
  expect(
    documented,
    `${method} ${template} answered ${response.status}, which is not documented`,
  ).toBeDefined()
  const type = response.headers.get('content-type')?.split(';')[0]
  if (type) expect(Object.keys(documented.content ?? {})).toContain(type)
}

export const put = (path: string, body: unknown, options?: CallOptions) => call('PUT', path, body, options)
export const get = (path: string, options?: CallOptions) => call('GET', path, undefined, options)

/** The sandbox's side: what each provider saw and applied. */
export const providers = () => {
  const urls = inject('sandbox')
  return {
    commerceLayer: controlOf(urls.commerceLayer),
    discue: controlOf(urls.discue),
    apinizer: controlOf(urls.apinizer),
  }
}

let minted = 0
/** A fresh opaque id of 10 characters, as Commerce Layer makes them. */
export const freshId = (): string => {
  minted += 1
  return `t${process.pid.toString(36)}${minted.toString(36)}${Math.random().toString(36).slice(2, 12)}`
    .slice(0, 10)
    .padEnd(10, '0')
}

/** The audit's events of one resource, oldest first. Only its connection is asked. */
export async function eventsOf(resource: string): Promise<Json[]> {
  const [connection] = resource.split(':')
  const page = await get(
    `/audit?limit=1000&connection=${connection}&resource=${encodeURIComponent(resource)}`,
  )
  return page.body.data.toReversed()
}

/** A new Apinizer credential in a project of its own, so that faults and requests can be told apart by path. */
export async function mintApinizer(
  values: object = {},
): Promise<{ id: string; project: string; username: string; state: () => Promise<Json> }> {
  const project = `P${freshId()}`
  // Unique over all projects, as at Apinizer itself: one user is one resource.
  const username = `user-${project}`
  const { apinizer } = providers()
  await apinizer.mint('credential', `${project}/${username}`, {
    email: 'user@example.com',
    fullName: 'API User',
    description: 'made by a test',
    password: 'first-password',
    roleNameList: ['API_USER'],
    enabled: true,
    ipList: ['192.168.1.100'],
    expireDate: '2030-12-31T23:59:59.000Z',
    ...values,
  })
  return {
    id: `apinizer:${project}:${username}`,
    project,
    username,
    state: () => apinizer.state('credential', `${project}/${username}`),
  }
}

export async function mintCommerceLayer(
  type: 'api_credentials' | 'roles' | 'permissions',
  attributes: object = {},
): Promise<string> {
  const id = freshId()
  await providers().commerceLayer.mint(type, id, { attributes })
  return id
}

export async function mintDiscue(name = `example.com/${freshId()}`): Promise<string> {
  const id = `${freshId()}${freshId()}`
  await providers().discue.mint('api_clients', id, { name })
  return id
}

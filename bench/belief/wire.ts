import { randomUUID } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import type { Sandbox } from '../../sandbox/server.ts'
import { sha256 } from '../../test/harness/configuration.ts'
import type { Operation, Target } from '../../test/harness/operations.ts'
import {
  apinizerHeaders,
  commerceLayerAs,
  discueHeaders,
  type Json,
  patch,
} from '../../test/harness/sandbox-calls.ts'

/** Values by the provider's own names. */
export type Members = Record<string, Json>

export interface WireRequest {
  method: string
  url: string
  headers: Record<string, string>
  body?: object
}

/** How a client without the gateway reaches one resource, and where the sandbox's record has it. */
export interface Wire {
  provider: 'commerceLayer' | 'discue' | 'apinizer'
  type: string
  id: string
  /** Absent where the provider cannot be read. */
  read?: { request(): WireRequest; members(answer: Json): Members }
  /** `current`: what was read, for a provider that replaces the whole. */
  write(members: Members, current?: Members): WireRequest
  /** The provider's credentials, as far as they can run out. */
  renew(): Promise<void>
}

/** One change that somebody wants: what the gateway is asked for, and the same by the names of the provider. */
export interface Intent {
  operation: Operation
  target: Target
  wire: Wire
  /** Of the gateway's caller, who repeats with it. */
  key: string
  body: object
  asked: Members
}

const wireNames: Record<string, string> = { canRead: 'can_read', secret: 'password', expiresAt: 'expireDate' }

export const intentOf = (operation: Operation, target: Target, wire: Wire, body: object): Intent => ({
  operation,
  target,
  wire,
  key: randomUUID(),
  body,
  asked: Object.fromEntries(Object.entries(body).map(([name, value]) => [wireNames[name] ?? name, value])),
})

/** What a state, an entry of the ledger's, or a body holds, whichever provider it belongs to. */
export const membersOf = (document: Json): Members =>
  document?.data?.attributes ?? document?.attributes ?? document ?? {}

const trimmed = (value: Json): Json => (typeof value === 'string' ? value.trim() : value)

/** As a provider may spell it without taking anything away. */
export const normalised = (members: Members): Members =>
  Object.fromEntries(
    Object.entries(members).map(([name, value]) => {
      if (name === 'password') return [name, value]
      if (name === 'email') return [name, String(trimmed(value)).toLowerCase()]
      if (name === 'expireDate') return [name, `${new Date(value).toISOString().slice(0, 19)}.000Z`]
      return [name, trimmed(value)]
    }),
  )

/** Whether a state has the value that was asked for, be it in another spelling. Metadata may hold others beside it. */
export function holds(state: Members, name: string, asked: Json): boolean {
  if (name === 'password') return state['passwordSha256'] === sha256(asked)
  if (name === 'metadata')
    return Object.entries(asked).every(([key, value]) => state['metadata']?.[key] === value)
  const stored = state[name]
  return isDeepStrictEqual(stored, asked) || isDeepStrictEqual(stored, normalised({ [name]: asked })[name])
}

/** Makes the wires of a sandbox's resources; whoever uses them shares the credentials. */
export async function wiring(sandbox: Sandbox): Promise<(operation: Operation, target: Target) => Wire> {
  const { urls } = sandbox
  let jsonApi = (await commerceLayerAs(sandbox)).headers
  const renew = async () => void (jsonApi = (await commerceLayerAs(sandbox)).headers)
  const nothingToRenew = async () => undefined

  return ({ name }, { upstream }) => {
    const [, type = '', id = ''] = upstream.split('/')
    if (name.startsWith('commerce layer')) {
      const url = `${urls.commerceLayer}/api${upstream}`
      return {
        provider: 'commerceLayer',
        type,
        id,
        read: { request: () => ({ method: 'GET', url, headers: jsonApi }), members: membersOf },
        write: (members) => ({ method: 'PATCH', url, headers: jsonApi, body: patch(type, id, members) }),
        renew,
      }
    }
    if (name === 'discue client') {
      const url = `${urls.discue}${upstream}`
      return {
        provider: 'discue',
        type,
        id,
        write: (members) => ({ method: 'PUT', url, headers: discueHeaders, body: { id, ...members } }),
        renew: nothingToRenew,
      }
    }
    const url = `${urls.apinizer}/apiops${upstream}credentials/`
    const headers = apinizerHeaders
    return {
      provider: 'apinizer',
      type: 'credential',
      id: `${id}/svc-${id}`,
      read: {
        request: () => ({ method: 'GET', url, headers }),
        members: ({ resultList }) => resultList.find(({ username }: Json) => username === `svc-${id}`),
      },
      write: (members, current) =>
        isDeepStrictEqual(Object.keys(members), ['password'])
          ? { method: 'PATCH', url: `${url}svc-${id}/`, headers, body: members }
          : { method: 'PUT', url, headers, body: { ...current, ...members } },
      renew: nothingToRenew,
    }
  }
}

import { randomBytes } from 'node:crypto'
import type { Sandbox } from '../../sandbox/server.ts'
import { type Control, controlOf, type Json } from './sandbox-calls.ts'

/** One resource that changes are made to. */
export interface Target {
  /** Its path at the gateway. */
  path: string
  /** What the provider's paths to it have in common. */
  upstream: string
}

export const operationNames = [
  'commerce layer credential',
  'commerce layer role',
  'commerce layer permission',
  'discue client',
  'apinizer credential',
  'apinizer password',
] as const
export type OperationName = (typeof operationNames)[number]

/** One of the ways in which the gateway writes to a provider. */
export interface Operation {
  name: OperationName
  control: Control
  /** Of the provider's request. */
  method: 'PATCH' | 'PUT'
  mint(): Promise<Target>
  /** A change that no other number gives. */
  body(n: number): object
  /** Whether the provider says how far a change was deployed. */
  deploys: boolean
}

const freshId = (): string => randomBytes(5).toString('hex')

export interface Providers {
  commerceLayer: Control
  discue: Control
  apinizer: Control
}

export const providersOf = (urls: Sandbox['urls']): Providers => ({
  commerceLayer: controlOf(urls.commerceLayer),
  discue: controlOf(urls.discue),
  apinizer: controlOf(urls.apinizer),
})

const controlsOf = (providers: Providers): Control[] => [
  providers.commerceLayer,
  providers.discue,
  providers.apinizer,
]

/** From now on every provider works as it should. */
export async function clearFaults(providers: Providers): Promise<void> {
  await Promise.all(controlsOf(providers).map((control) => control.send('DELETE', '/faults')))
}

export async function mintRole(
  { commerceLayer }: Providers,
  attributes: object = {},
): Promise<Target & { id: string }> {
  const id = freshId()
  await commerceLayer.mint('roles', id, { attributes })
  return { id, path: `/roles/commerce-layer:${id}`, upstream: `/roles/${id}` }
}

export async function mintApinizer({ apinizer }: Providers): Promise<Target & { project: string }> {
  const project = `P${freshId()}`
  await apinizer.mint('credential', `${project}/svc-${project}`, {
    password: 'first',
    ipList: ['192.168.1.100'],
  })
  return {
    project,
    path: `/credentials/apinizer:${project}:svc-${project}`,
    upstream: `/projects/${project}/`,
  }
}

/** The five upstream operations; Apinizer's has two requests, for a whole credential and for its password alone. */
export function operationsOf(providers: Providers): Operation[] {
  const { commerceLayer, discue, apinizer } = providers
  const ofCommerceLayer = (type: 'api_credentials' | 'permissions', route: string) => async () => {
    const id = freshId()
    await commerceLayer.mint(type, id)
    return { path: `/${route}/commerce-layer:${id}`, upstream: `/${type}/${id}` }
  }
  const patch = { control: commerceLayer, method: 'PATCH', deploys: false } as const
  return [
    {
      name: 'commerce layer credential',
      ...patch,
      mint: ofCommerceLayer('api_credentials', 'credentials'),
      body: (n) => ({ reference: `vault:${n}`, metadata: { n } }),
    },
    {
      name: 'commerce layer role',
      ...patch,
      mint: () => mintRole(providers),
      body: (n) => ({ name: `Role ${n}` }),
    },
    {
      name: 'commerce layer permission',
      ...patch,
      mint: ofCommerceLayer('permissions', 'permissions'),
      body: (n) => ({ reference: `rule:${n}`, canRead: n % 2 === 0 }),
    },
    {
      name: 'discue client',
      control: discue,
      method: 'PUT',
      deploys: false,
      async mint() {
        const id = freshId() + freshId()
        await discue.mint('api_clients', id)
        return { path: `/credentials/discue:${id}`, upstream: `/api_clients/${id}` }
      },
      body: (n) => ({ name: `example.com/${n}` }),
    },
    {
      name: 'apinizer credential',
      control: apinizer,
      method: 'PUT',
      deploys: true,
      mint: () => mintApinizer(providers),
      body: (n) => ({ secret: `secret ${n}`, description: `change ${n}` }),
    },
    {
      name: 'apinizer password',
      control: apinizer,
      method: 'PATCH',
      deploys: true,
      mint: () => mintApinizer(providers),
      body: (n) => ({ secret: `secret ${n}` }),
    },
  ]
}

/** Everything that the providers applied, each provider's in its order. */
export async function appliedBy(providers: Providers): Promise<Json[]> {
  const ledgers = await Promise.all(controlsOf(providers).map((control) => control.send('GET', '/ledger')))
  if (ledgers.some(({ dropped }) => dropped > 0)) throw new Error('a ledger is incomplete')
  return ledgers.flatMap(({ entries }) => entries)
}

const WRITES = new Set(['PUT', 'PATCH'])

/** Every write that reached a provider at all, applied or not. */
export async function writesTo(providers: Providers): Promise<Json[]> {
  const seen = await Promise.all(controlsOf(providers).map((control) => control.send('GET', '/requests')))
  if (seen.some(({ dropped }) => dropped > 0)) throw new Error('a list of requests is incomplete')
  return seen.flatMap(({ entries }) => entries).filter(({ method }) => WRITES.has(method))
}

export function operationNamed(name: OperationName, providers: Providers): Operation {
  const found = operationsOf(providers).find((operation) => operation.name === name)
  if (!found) throw new Error(name)
  return found
}

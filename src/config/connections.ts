import type { z } from 'zod'
import { isPrivateHost, literalAddress, mayReach } from '../lib/address-guard.ts'
import { Secret } from '../lib/secret.ts'
import type { Adapter, Auth, Registry, SettingName } from '../model/adapter.ts'
import { NAME } from '../model/resource-id.ts'
import {
  connection,
  type ConnectionConfig,
  countedKinds,
  counterOf,
  HTTPS,
  isEncrypted,
  PRIVATE,
  readId,
} from './document.ts'
import type { Report } from './report.ts'
/** What of a text no header and no form can carry; a file that was read into a variable ends in a newline, as a rule. */
function controlIn(text: string): string | undefined {
  if (/^\P{Cc}*[\r\n]+$/u.test(text)) return 'a newline at its end; take it off'
  return /\p{Cc}/u.test(text) ? 'a control character in it' : undefined
}

const settings = (auth: Auth): SettingName[] =>
  auth.scheme === 'header' ? [auth.setting] : ['clientId', 'clientSecret']

type GivenConnection = z.output<typeof connection>

/** Why a connection may not lead to where a setting of it says. */
function addressFault(
  url: URL,
  { allowPrivateAddresses, allowHttp }: GivenConnection,
  { plainHttp }: Adapter['baseUrl'],
): string | undefined {
  if (!isEncrypted(url)) {
    if (!plainHttp) return HTTPS
    if (!allowHttp) return `${HTTPS}; in a private network http needs allowHttp`
    const address = literalAddress(url.hostname)
    if (address !== undefined && !mayReach(url, address, true))
      return 'is no address of a private network, and nothing goes elsewhere in clear text'
  }
  return !allowPrivateAddresses && isPrivateHost(url.hostname) ? PRIVATE : undefined
}

/** Why a connection may not have the allowance; one that nothing needs would only be there when something slips. */
function allowHttpFault(
  { allowPrivateAddresses, baseUrl }: GivenConnection,
  { plainHttp }: Adapter['baseUrl'],
  checksAddresses: boolean,
): string | undefined {
  if (!plainHttp) return 'is not used by this provider'
  if (!checksAddresses) return 'is for Node alone: nothing checks here which address a name leads to'
  if (!allowPrivateAddresses) return 'needs allowPrivateAddresses: http is for private networks alone'
  return baseUrl?.startsWith('https:') ? 'is not needed: baseUrl is https' : undefined
}

type Environment = Readonly<Record<string, string | undefined>>

/** One connection while it is read. */
interface Reading {
  name: string
  at: readonly PropertyKey[]
  given: GivenConnection
  adapter: Adapter
  report: Report
}

/** The way to sign in whose settings the connection names, and what the environment holds for them. */
function readSignIn({ at, given, adapter, report }: Reading, environment: Environment) {
  const named = (['apiKey', 'token', 'clientId', 'clientSecret'] as const).filter((setting) => given[setting])
  const auth = adapter.auth.find((way) => settings(way).toSorted().join() === named.toSorted().join())
  if (!auth) {
    const ways = adapter.auth.map((way) => settings(way).join(' and ')).join(', or ')
    report.fault(at, `needs ${ways}, and nothing else`)
  }
  const secrets: Partial<Record<SettingName, Secret>> = {}
  for (const setting of named) {
    const variable = given[setting]?.env ?? ''
    const value = environment[variable]
    const control = value === undefined ? undefined : controlIn(value)
    if (control) report.fault([...at, setting, 'env'], `names ${variable}, which has ${control}`)
    else if (value) secrets[setting] = new Secret(value)
    else report.fault([...at, setting, 'env'], `names ${variable}, which is not set`)
  }
  return { auth, secrets }
}

/** Where the connection leads to, and whether it may. */
function readAddresses({ at, given, adapter, report }: Reading, auth: Auth | undefined, onNode: boolean) {
  const baseUrl = given.baseUrl ?? adapter.baseUrl.default
  if (!baseUrl) report.fault([...at, 'baseUrl'], 'is required for this provider')
  const usesAuthUrl = (auth ? [auth] : adapter.auth).some(
    (way) => way.scheme === 'client-credentials' && way.endpoint.base === 'authUrl',
  )
  if (!usesAuthUrl) {
    if (given.authUrl) report.fault([...at, 'authUrl'], 'is not used by this provider')
  } else if (given.baseUrl && !given.authUrl) {
    const detail = 'is required beside baseUrl: the secret would go to the provider’s usual token endpoint'
    report.fault([...at, 'authUrl'], detail)
  } else if (given.authUrl && !given.baseUrl) {
    const detail = 'is required beside authUrl: its tokens would go to the provider’s usual host'
    report.fault([...at, 'baseUrl'], detail)
  }
  for (const setting of ['baseUrl', 'authUrl'] as const) {
    const url = given[setting]
    const detail = url && addressFault(new URL(url), given, adapter.baseUrl)
    if (detail) report.fault([...at, setting], detail)
  }
  const unusable = given.allowHttp && allowHttpFault(given, adapter.baseUrl, onNode)
  if (unusable) report.fault([...at, 'allowHttp'], unusable)
  const endpoint = auth?.scheme === 'client-credentials' ? auth.endpoint : undefined
  const tokenBaseUrl = endpoint?.base === 'authUrl' ? (given.authUrl ?? endpoint.default) : baseUrl
  return baseUrl === undefined ? undefined : { baseUrl, tokenBaseUrl: tokenBaseUrl ?? baseUrl }
}

/** Names settings that the provider cannot meet. */
function checkDemands({ name, at, given, adapter, report }: Reading): void {
  for (const [index, id] of given.self.entries()) {
    const read = readId(id)
    if (!read.ok) report.fault([...at, 'self', index], read.fault)
    else if (read.value.connection !== name)
      report.fault([...at, 'self', index], 'is not a canonical id of this connection')
  }
  if (given.requireIfMatch && Object.values(adapter.kinds).some((spec) => !spec.read))
    report.fault([...at, 'requireIfMatch'], 'cannot be met: this provider cannot be read')
  if (given.projects && !adapter.account) report.fault([...at, 'projects'], 'is not used by this provider')
}

function readConnection(
  name: string,
  value: unknown,
  { environment, registry, onNode, report }: ConnectionParts,
): ConnectionConfig | undefined {
  const at = ['connections', name]
  const given = report.check(connection, value, at)
  if (!NAME.test(name)) report.fault(at, NO_NAME)
  if (!given) return undefined
  const adapter = Object.hasOwn(registry, given.provider) ? registry[given.provider] : undefined
  if (!adapter) {
    report.fault([...at, 'provider'], `is none of ${Object.keys(registry).join(', ')}`)
    return undefined
  }
  const reading: Reading = { name, at, given, adapter, report }
  const { auth, secrets } = readSignIn(reading, environment)
  const addresses = readAddresses(reading, auth, onNode)
  checkDemands(reading)
  if (!auth || !addresses) return undefined
  const { per, ...published } = adapter.limits
  return {
    name,
    provider: given.provider,
    auth,
    ...addresses,
    secrets,
    deadlineMs: given.deadlineMs,
    requireIfMatch: given.requireIfMatch,
    hideMetadata: given.hideMetadata,
    verifyWrites: given.verifyWrites,
    allowPrivateAddresses: given.allowPrivateAddresses,
    allowHttp: given.allowHttp,
    limits: {
      per,
      writes: given.limits.writes ?? published.writes,
      reads: given.limits.reads ?? published.reads,
      tokens: given.limits.tokens ?? published.tokens,
    },
    self: given.self,
    projects: given.projects,
  }
}

export interface ConnectionParts {
  environment: Environment
  registry: Registry
  /** Where the address that a connection is made to is checked. */
  onNode: boolean
  report: Report
}

export const NO_NAME = 'is not a name: lower-case letters, digits and "-", beginning with a letter'

/** Reads the connections, each with its references resolved. */
export function readConnections(
  given: Readonly<Record<string, unknown>>,
  parts: ConnectionParts,
): Map<string, ConnectionConfig> {
  const connections = new Map<string, ConnectionConfig>()
  /** Who was the first to name its limits for what several connections share. */
  const counters = new Map<string, ConnectionConfig>()
  for (const [name, value] of Object.entries(given)) {
    const made = readConnection(name, value, parts)
    if (!made) continue
    connections.set(name, made)
    for (const kind of countedKinds) {
      const counter = counterOf(made, kind)
      const first = counters.get(counter) ?? made
      counters.set(counter, first)
      if (JSON.stringify(first.limits[kind]) === JSON.stringify(made.limits[kind])) continue
      const detail = `differs from what ${first.name} says of the same host, which counts both together`
      parts.report.fault(['connections', name, 'limits', kind], detail)
    }
  }
  return connections
}

import { z } from 'zod'
import { isPrivateHost, literalAddress, mayReach } from '../lib/address-guard.ts'
import { readRange } from '../lib/client-address.ts'
import { membersNotAlone, pointer } from '../lib/json.ts'
import { Secret } from '../lib/secret.ts'
import type { Adapter, Auth, Registry, SettingName } from '../model/adapter.ts'
import { NAME, type ResourceAddress } from '../model/resource-id.ts'
import {
  caller,
  type CallerConfig,
  type Config,
  type ConfigFault,
  connection,
  type ConnectionConfig,
  countedKinds,
  counterOf,
  document,
  encryptedBase,
  HTTPS,
  isEncrypted,
  issuer,
  type IssuerConfig,
  PRIVATE,
  readId,
} from './document.ts'
import { findNeverMatching } from './never-matching.ts'
import { oneAccounts } from './one-account.ts'

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

/**
 * Reads the document and names every fault at once; a fault's text never holds a value.
 * @param onNode Where the address that a connection is made to is checked, and what never matches is a fault: on Workers one
 * would take all traffic down, so there it is a warning.
 */
export function readConfig(
  text: string,
  environment: Readonly<Record<string, string | undefined>>,
  registry: Registry,
  onNode = true,
): { ok: true; value: Config; warnings: ConfigFault[] } | { ok: false; faults: ConfigFault[] } {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    return { ok: false, faults: [{ path: '#', detail: 'is not JSON' }] }
  }
  const faults: ConfigFault[] = []
  const warnings: ConfigFault[] = []
  const fault = (path: PropertyKey[], detail: string) => void faults.push({ path: pointer(path), detail })
  /** The value, if it has the shape; its faults are named otherwise. */
  function check<T>(schema: z.ZodType<T>, value: unknown, at: PropertyKey[]): T | undefined {
    const read = schema.safeParse(value)
    for (const issue of read.error?.issues ?? []) fault([...at, ...issue.path], issue.message)
    return read.data
  }

  const neverMatching = (at: PropertyKey[], detail: string) =>
    void (onNode ? faults : warnings).push({ path: pointer(at), detail })

  for (const at of membersNotAlone(text)) fault(at, 'is there twice, or is named __proto__')
  const whole = check(document, json, [])
  if (!whole) return { ok: false, faults }

  const connections = new Map<string, ConnectionConfig>()
  /** Who was the first to name its limits for what several connections share. */
  const counters = new Map<string, ConnectionConfig>()
  for (const [name, value] of Object.entries(whole.connections)) {
    const at = ['connections', name]
    const given = check(connection, value, at)
    if (!NAME.test(name))
      fault(at, 'is not a name: lower-case letters, digits and "-", beginning with a letter')
    if (!given) continue
    const adapter = Object.hasOwn(registry, given.provider) ? registry[given.provider] : undefined
    if (!adapter) {
      fault([...at, 'provider'], `is none of ${Object.keys(registry).join(', ')}`)
      continue
    }
    const named = (['apiKey', 'token', 'clientId', 'clientSecret'] as const).filter(
      (setting) => given[setting],
    )
    const auth = adapter.auth.find((way) => settings(way).toSorted().join() === named.toSorted().join())
    if (!auth)
      fault(
        at,
        `needs ${adapter.auth.map((way) => settings(way).join(' and ')).join(', or ')}, and nothing else`,
      )
    const secrets: Partial<Record<SettingName, Secret>> = {}
    for (const setting of named) {
      const variable = given[setting]?.env ?? ''
      const value = environment[variable]
      const control = value === undefined ? undefined : controlIn(value)
      if (control) fault([...at, setting, 'env'], `names ${variable}, which has ${control}`)
      else if (value) secrets[setting] = new Secret(value)
      else fault([...at, setting, 'env'], `names ${variable}, which is not set`)
    }
    const baseUrl = given.baseUrl ?? adapter.baseUrl.default
    if (!baseUrl) fault([...at, 'baseUrl'], 'is required for this provider')
    const endpoint = auth?.scheme === 'client-credentials' ? auth.endpoint : undefined
    const usesAuthUrl = (auth ? [auth] : adapter.auth).some(
      (way) => way.scheme === 'client-credentials' && way.endpoint.base === 'authUrl',
    )
    if (!usesAuthUrl) {
      if (given.authUrl) fault([...at, 'authUrl'], 'is not used by this provider')
    } else if (given.baseUrl && !given.authUrl) {
      const detail = 'is required beside baseUrl: the secret would go to the provider’s usual token endpoint'
      fault([...at, 'authUrl'], detail)
    } else if (given.authUrl && !given.baseUrl) {
      fault(
        [...at, 'baseUrl'],
        'is required beside authUrl: its tokens would go to the provider’s usual host',
      )
    }
    for (const setting of ['baseUrl', 'authUrl'] as const) {
      const url = given[setting]
      const detail = url && addressFault(new URL(url), given, adapter.baseUrl)
      if (detail) fault([...at, setting], detail)
    }
    const unusable = given.allowHttp && allowHttpFault(given, adapter.baseUrl, onNode)
    if (unusable) fault([...at, 'allowHttp'], unusable)
    for (const [index, id] of given.self.entries()) {
      const read = readId(id)
      if (!read.ok) fault([...at, 'self', index], read.fault)
      else if (read.value.connection !== name)
        fault([...at, 'self', index], 'is not a canonical id of this connection')
    }
    if (given.requireIfMatch && Object.values(adapter.kinds).some((spec) => !spec.read)) {
      fault([...at, 'requireIfMatch'], 'cannot be met: this provider cannot be read')
    }
    if (given.projects && !adapter.account) fault([...at, 'projects'], 'is not used by this provider')
    if (!auth || !baseUrl) continue
    const { per, ...published } = adapter.limits
    const made: ConnectionConfig = {
      name,
      provider: given.provider,
      baseUrl,
      auth,
      tokenBaseUrl: endpoint?.base === 'authUrl' ? (given.authUrl ?? endpoint.default) : baseUrl,
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
    connections.set(name, made)
    for (const kind of countedKinds) {
      const counter = counterOf(made, kind)
      const first = counters.get(counter) ?? made
      counters.set(counter, first)
      if (JSON.stringify(first.limits[kind]) !== JSON.stringify(made.limits[kind]))
        fault(
          [...at, 'limits', kind],
          `differs from what ${first.name} says of the same host, which counts both together`,
        )
    }
  }

  const aliases = new Map<string, ResourceAddress>()
  for (const [name, value] of Object.entries(whole.aliases)) {
    const at = ['aliases', name]
    if (!NAME.test(name))
      fault(at, 'is not a name: lower-case letters, digits and "-", beginning with a letter')
    const id = check(z.string(), value, at)
    if (id === undefined) continue
    const target = readId(id)
    if (!target.ok) fault(at, target.fault)
    else if (!Object.hasOwn(whole.connections, target.value.connection))
      neverMatching(at, 'leads to no connection')
    else aliases.set(name, target.value)
  }

  const issuers: IssuerConfig[] = []
  /** Those with faults too: a caller that names one of them has no fault of its own. */
  const issuerNames = new Set<unknown>()
  for (const [index, value] of whole.issuers.entries()) {
    const at = ['issuers', index]
    const name = (value as { issuer?: unknown } | null)?.issuer
    if (name !== undefined && issuerNames.has(name)) fault([...at, 'issuer'], 'is used twice')
    issuerNames.add(name)
    const given = check(issuer, value, at)
    if (!given) continue
    // Without the address of the keys it is asked for: then the issuer must be an address itself.
    const url = given.jwksUrl ?? check(encryptedBase, given.issuer, [...at, 'issuer'])
    if (url !== undefined && isPrivateHost(new URL(url).hostname) && !given.allowPrivateAddresses)
      fault([...at, given.jwksUrl === undefined ? 'issuer' : 'jwksUrl'], PRIVATE)
    issuers.push(given)
  }

  const callers: CallerConfig[] = []
  const names = new Set<string>()
  const keyIds = new Set<string>()
  for (const [index, value] of whole.callers.entries()) {
    const given = check(caller, value, ['callers', index])
    if (!given) continue
    if (names.has(given.name)) fault(['callers', index, 'name'], 'is used twice')
    names.add(given.name)
    for (const [keyIndex, { id }] of given.keys.entries()) {
      if (keyIds.has(id)) fault(['callers', index, 'keys', keyIndex, 'id'], 'is used twice')
      keyIds.add(id)
    }
    if (given.jwt && !issuerNames.has(given.jwt.issuer))
      fault(['callers', index, 'jwt', 'issuer'], 'is none of the issuers')
    callers.push(given)
  }
  const trustedProxies = whole.trustedProxies.flatMap((value, index) => {
    const range = typeof value === 'string' ? readRange(value) : undefined
    if (!range) fault(['trustedProxies', index], 'is neither an address nor a CIDR range')
    return range ? [range] : []
  })
  // A fault elsewhere may be why.
  if (faults.length === 0) {
    for (const [first, second] of oneAccounts(registry, [...connections.values()])) {
      const apart = registry[first.provider]?.account ? ', or give each projects of its own' : ''
      const detail = `leads to the account of ${first.name}, and an account has one connection; use that one${apart}`
      fault(['connections', second.name], detail)
    }
    for (const { at, detail } of findNeverMatching(registry, connections, aliases, callers))
      neverMatching(at, detail)
  }
  if (faults.length > 0) return { ok: false, faults }
  return { ok: true, value: { connections, aliases, issuers, callers, trustedProxies }, warnings }
}

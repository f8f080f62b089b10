import { z } from 'zod'
import type { Auth, Registry, SettingName } from './adapter.ts'
import { isLoopbackHost, isPrivateHost } from './address-guard.ts'
import { pointer } from './json.ts'
import { kinds } from './model.ts'
import { NAME, parseId, type ResourceAddress } from './resource-id.ts'
import { Secret } from './secret.ts'

export const actions = ['read', 'write', 'plan', 'audit', 'resolve'] as const
export type Action = (typeof actions)[number]

const reference = z.strictObject(
  { env: z.string().min(1) },
  { error: 'must be a reference such as { "env": "NAME" }; a secret never stands in the configuration' },
)

/** What stands before a path template. `https` only, but loopback; no query, fragment or userinfo. */
const base = z.string().transform((text, context) => {
  const url = URL.canParse(text) ? new URL(text) : undefined
  const fault = !url
    ? 'must be an absolute URL'
    : url.protocol !== 'https:' && !(url.protocol === 'http:' && isLoopbackHost(url.hostname))
      ? 'must be https (http is for loopback hosts)'
      : url.search || url.hash || url.username || url.password || /[?#]/.test(text)
        ? 'must have no query, fragment or user information'
        : undefined
  if (!url || fault) {
    context.addIssue(fault ?? '')
    return z.NEVER
  }
  return url.origin + url.pathname.replace(/\/+$/, '')
})

const connection = z.strictObject({
  provider: z.string(),
  baseUrl: base.optional(),
  authUrl: base.optional(),
  apiKey: reference.optional(),
  token: reference.optional(),
  clientId: reference.optional(),
  clientSecret: reference.optional(),
  /** Milliseconds for one change, waiting and retries included. */
  deadlineMs: z.int().min(1000).max(120_000).default(25_000),
  requireIfMatch: z.boolean().default(false),
  hideMetadata: z.boolean().default(false),
  /** Whether the provider may stand on a private network. */
  allowPrivateAddresses: z.boolean().default(false),
  self: z.array(z.string()).default([]),
})

const rule = z.strictObject({
  actions: z.array(z.enum(actions)).min(1),
  kinds: z.array(z.enum(kinds)).min(1),
  ids: z.array(z.string().min(1)).min(1),
  fields: z.array(z.string().min(1)).min(1),
})
export type Rule = z.output<typeof rule>

const key = z.strictObject({
  id: z.string().regex(/^[a-z0-9]{1,32}$/, 'must be 1 to 32 lower-case letters and digits'),
  sha256: z.string().regex(/^[0-9a-f]{64}$/, 'must be a SHA-256 in lower-case hex'),
  expiresAt: z.iso.datetime({ offset: true }).nullable().default(null),
})
export type CallerKey = z.output<typeof key>

const caller = z.strictObject({
  name: z.string().regex(NAME, 'must be lower-case letters, digits and "-", beginning with a letter'),
  keys: z.array(key).min(1),
  allow: z.array(rule),
  limit: z
    .strictObject({ requests: z.int().min(1).max(1e9), seconds: z.int().min(1).max(86_400) })
    .optional(),
})
export type CallerConfig = z.output<typeof caller>

/** Only the outermost shape: its parts are checked one by one, so that a fault in one hides no fault in another. */
const document = z.strictObject({
  connections: z.record(z.string(), z.unknown()),
  aliases: z.record(z.string(), z.unknown()).default({}),
  callers: z.array(z.unknown()).default([]),
})

/** One account at a provider, with its references resolved. */
export interface ConnectionConfig {
  name: string
  provider: string
  baseUrl: string
  auth: Auth
  /** What stands before the token endpoint's template, where the auth has one. */
  tokenBaseUrl: string
  secrets: Partial<Record<SettingName, Secret>>
  deadlineMs: number
  requireIfMatch: boolean
  hideMetadata: boolean
  allowPrivateAddresses: boolean
  /** Canonical ids of what the gateway itself depends on. */
  self: readonly string[]
}

export interface Config {
  connections: ReadonlyMap<string, ConnectionConfig>
  aliases: ReadonlyMap<string, ResourceAddress>
  callers: readonly CallerConfig[]
}

export interface ConfigFault {
  /** A JSON pointer into the document (RFC 6901), as a URI fragment. */
  path: string
  detail: string
}

const settings = (auth: Auth): SettingName[] =>
  auth.scheme === 'header' ? [auth.setting] : ['clientId', 'clientSecret']

/** Reads the document and names every fault at once; a fault's text never holds a value. */
export function readConfig(
  text: string,
  environment: Readonly<Record<string, string | undefined>>,
  registry: Registry,
): { ok: true; value: Config } | { ok: false; faults: ConfigFault[] } {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    return { ok: false, faults: [{ path: '#', detail: 'is not JSON' }] }
  }
  const faults: ConfigFault[] = []
  const fault = (path: PropertyKey[], detail: string) => void faults.push({ path: pointer(path), detail })
  /** The value, if it has the shape; its faults are named otherwise. */
  function check<T>(schema: z.ZodType<T>, value: unknown, at: PropertyKey[]): T | undefined {
    const read = schema.safeParse(value)
    for (const issue of read.error?.issues ?? []) fault([...at, ...issue.path], issue.message)
    return read.data
  }

  const whole = check(document, json, [])
  if (!whole) return { ok: false, faults }

  const connections = new Map<string, ConnectionConfig>()
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
      if (value) secrets[setting] = new Secret(value)
      else fault([...at, setting, 'env'], `names ${variable}, which is not set`)
    }
    const baseUrl = given.baseUrl ?? adapter.baseUrl.default
    if (!baseUrl) fault([...at, 'baseUrl'], 'is required for this provider')
    const endpoint = auth?.scheme === 'client-credentials' ? auth.endpoint : undefined
    if (given.authUrl && endpoint?.base !== 'authUrl')
      fault([...at, 'authUrl'], 'is not used by this provider')
    for (const setting of ['baseUrl', 'authUrl'] as const) {
      const url = given[setting]
      if (url && !given.allowPrivateAddresses && isPrivateHost(new URL(url).hostname))
        fault([...at, setting], 'is no public address, and allowPrivateAddresses is not set')
    }
    for (const [index, id] of given.self.entries()) {
      const parsed = parseId(id)
      if (!parsed.ok || parsed.value.id !== id || parsed.value.connection !== name) {
        fault([...at, 'self', index], 'is not a canonical id of this connection')
      }
    }
    if (given.requireIfMatch && Object.values(adapter.kinds).some((spec) => !spec.read)) {
      fault([...at, 'requireIfMatch'], 'cannot be met: this provider cannot be read')
    }
    if (!auth || !baseUrl) continue
    connections.set(name, {
      name,
      provider: given.provider,
      baseUrl,
      auth,
      tokenBaseUrl: endpoint?.base === 'authUrl' ? (given.authUrl ?? endpoint.default) : baseUrl,
      secrets,
      deadlineMs: given.deadlineMs,
      requireIfMatch: given.requireIfMatch,
      hideMetadata: given.hideMetadata,
      allowPrivateAddresses: given.allowPrivateAddresses,
      self: given.self,
    })
  }

  const aliases = new Map<string, ResourceAddress>()
  for (const [name, value] of Object.entries(whole.aliases)) {
    const at = ['aliases', name]
    if (!NAME.test(name))
      fault(at, 'is not a name: lower-case letters, digits and "-", beginning with a letter')
    const id = check(z.string(), value, at)
    if (id === undefined) continue
    const target = parseId(id)
    if (!target.ok) fault(at, target.problem.detail)
    else if (!Object.hasOwn(whole.connections, target.value.connection)) fault(at, 'leads to no connection')
    else aliases.set(name, target.value)
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
    callers.push(given)
  }
  return faults.length > 0 ? { ok: false, faults } : { ok: true, value: { connections, aliases, callers } }
}

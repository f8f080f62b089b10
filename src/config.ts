import { z } from 'zod'
import type { Adapter, Auth, Limits, Registry, SettingName } from './adapter.ts'
import { isLoopbackHost, isPrivateHost, literalAddress, mayReach } from './address-guard.ts'
import { readRange } from './client-address.ts'
import { membersNotAlone, pointer } from './json.ts'
import { kinds } from './model.ts'
import { findNeverMatching } from './never-matching.ts'
import { oneAccounts } from './one-account.ts'
import { NAME, parseId, plainSpelling, type ResourceAddress } from './resource-id.ts'
import { Secret } from './secret.ts'

export const actions = ['read', 'write', 'plan', 'audit', 'resolve'] as const
export type Action = (typeof actions)[number]

const reference = z.strictObject(
  { env: z.string().min(1) },
  { error: 'must be a reference such as { "env": "NAME" }; a secret never stands in the configuration' },
)

const PRIVATE = 'is no public address, and allowPrivateAddresses is not set'
const HTTPS = 'must be https (http is for loopback hosts)'

const isEncrypted = ({ protocol, hostname }: URL): boolean =>
  protocol === 'https:' || (protocol === 'http:' && isLoopbackHost(hostname))

/** What stands before a path template: no query, fragment or userinfo. Where it may be http is for its user to say. */
const base = z.string().transform((text, context) => {
  const url = URL.canParse(text) ? new URL(text) : undefined
  const fault = !url
    ? 'must be an absolute URL'
    : !/^https?:$/.test(url.protocol)
      ? HTTPS
      : url.search || url.hash || url.username || url.password || /[?#]/.test(text)
        ? 'must have no query, fragment or user information'
        : undefined
  if (!url || fault) {
    context.addIssue(fault ?? '')
    return z.NEVER
  }
  return url.origin + url.pathname.replace(/\/+$/, '')
})

const encryptedBase = base.refine((url) => isEncrypted(new URL(url)), HTTPS)

const allowances = z
  .array(z.strictObject({ requests: z.int().min(1).max(1e6), seconds: z.int().min(1).max(3600) }))
  .max(4)
  .optional()

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
  /** Whether a write is read back where the provider's answer does not tell what was asked for. */
  verifyWrites: z.boolean().default(true),
  /** Whether the provider may stand on a private network. */
  allowPrivateAddresses: z.boolean().default(false),
  /** Whether it may be spoken to in clear text there. */
  allowHttp: z.boolean().default(false),
  /** Sliding windows instead of those that the provider publishes; an empty list sets no limit. */
  limits: z.strictObject({ writes: allowances, reads: allowances, tokens: allowances }).default({}),
  self: z.array(z.string()).default([]),
  /** Names of the projects that it is for, at a provider whose accounts have projects. */
  projects: z.array(z.string().min(1)).min(1).optional(),
})

/** How an id that is percent-encoded, as ids were spelled before, is spelled now. An id is no secret. */
const spelledAnew = (text: string): string =>
  `is percent-encoded, and ids are plain text; write ${JSON.stringify(text)}`

const isNfc = (text: string): boolean => text === text.normalize('NFC')

/** Why a text is no glob over ids, or undefined. */
function globFault(glob: string): string | undefined {
  if (glob.includes('%')) {
    const literals = glob.split(/%2a/i).map(plainSpelling)
    const plain = literals.join('\\*')
    const fitsIds = literals.every((text) => !/[%\\/?#\p{C}\p{Zl}\p{Zp}]/u.test(text)) && isNfc(plain)
    return fitsIds
      ? spelledAnew(plain)
      : 'has a "%", which no id has, and what it may encode is in no id either'
  }
  if (/\\(?!\*)/.test(glob)) return 'has a "\\" that does not stand before a "*"; no id has one'
  return isNfc(glob) ? undefined : 'is not in Unicode normalization form C, as ids are'
}

const glob = z
  .string()
  .min(1)
  .superRefine((text, context) => {
    const fault = globFault(text)
    if (fault) context.addIssue(fault)
  })

/** The address, or why the text is no id. */
function readId(text: string): { ok: true; value: ResourceAddress } | { ok: false; fault: string } {
  const read = parseId(text)
  if (read.ok) return read
  const plain = parseId(plainSpelling(text))
  return { ok: false, fault: plain.ok ? spelledAnew(plain.value.id) : read.problem.detail }
}

const rule = z.strictObject({
  actions: z.array(z.enum(actions)).min(1),
  kinds: z.array(z.enum(kinds)).min(1),
  ids: z.array(glob).min(1),
  fields: z.array(z.string().min(1)).min(1),
})
export type Rule = z.output<typeof rule>

/** One API key of a caller. */
export const callerKey = z.strictObject({
  id: z.string().regex(/^[a-z0-9]{1,32}$/, 'must be 1 to 32 lower-case letters and digits'),
  sha256: z.string().regex(/^[0-9a-f]{64}$/, 'must be a SHA-256 in lower-case hex'),
  expiresAt: z.iso.datetime({ offset: true }).nullable().default(null),
})
export type CallerKey = z.output<typeof callerKey>

/** One of something or a list of them, read as a list. */
const oneOrMore = <T>(item: z.ZodType<T>, error: string) =>
  z.union([item.transform((one) => [one]), z.array(item).min(1, 'must not be empty')], { error })

const claims = z.record(
  z.string(),
  oneOrMore(
    z.union([z.string().min(1), z.number(), z.boolean()]),
    'must be a text, a number, true or false, or a list of them',
  ),
)

/** Tokens of one issuer: each claim must have the value, or one of the values. */
const callerTokens = z.strictObject({
  issuer: z.string(),
  claims: claims.refine(
    (named) => Object.keys(named).length > 0,
    'must name a claim: any token of the issuer would do',
  ),
})
export type CallerTokens = z.output<typeof callerTokens>

const caller = z
  .strictObject({
    name: z.string().regex(NAME, 'must be lower-case letters, digits and "-", beginning with a letter'),
    keys: z.array(callerKey).default([]),
    jwt: callerTokens.optional(),
    allow: z.array(rule),
    limit: z
      .strictObject({ requests: z.int().min(1).max(1e9), seconds: z.int().min(1).max(86_400) })
      .optional(),
  })
  .refine(({ keys, jwt }) => keys.length > 0 || jwt, 'needs keys, jwt, or both')
export type CallerConfig = z.output<typeof caller>

/** Signatures that the holder of a public key can verify and not make. */
export const tokenAlgorithms = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
] as const

const issuer = z.strictObject({
  /** Compared with a token's `iss` as it stands, to the last slash. */
  issuer: z.string().min(1).max(1000),
  jwksUrl: z
    .string()
    .refine((text) => URL.canParse(text), { error: 'must be an absolute URL', abort: true })
    .transform((text) => new URL(text))
    .refine(isEncrypted, HTTPS)
    .refine(({ username, password, hash }) => !username && !password && !hash, {
      error: 'must have no fragment or user information',
    })
    .transform(({ href }) => href)
    .optional(),
  audience: oneOrMore(z.string().min(1), 'must be a text or a list of texts'),
  algorithms: z.array(z.enum(tokenAlgorithms, `must be one of ${tokenAlgorithms.join(', ')}`)).min(1),
  /** The header with the token; a bearer in `Authorization` unless told otherwise. */
  header: z
    .string()
    .regex(/^[A-Za-z0-9-]+$/, 'must be the name of a header')
    .transform((name) => name.toLowerCase())
    .refine((name) => name !== 'x-api-key', 'is where API keys stand')
    .default('authorization'),
  /** Whether the issuer may stand on a private network. */
  allowPrivateAddresses: z.boolean().default(false),
})
export type IssuerConfig = z.output<typeof issuer>

/** Only the outermost shape: its parts are checked one by one, so that a fault in one hides no fault in another. */
const document = z.strictObject({
  connections: z.record(z.string(), z.unknown()),
  aliases: z.record(z.string(), z.unknown()).default({}),
  issuers: z.array(z.unknown()).default([]),
  callers: z.array(z.unknown()).default([]),
  trustedProxies: z.array(z.unknown()).default([]),
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
  verifyWrites: boolean
  allowPrivateAddresses: boolean
  allowHttp: boolean
  limits: Limits
  /** Canonical ids of what the gateway itself depends on. */
  self: readonly string[]
  /** The parts of the account that the connection is for; all of them where there are none. */
  projects: readonly string[] | undefined
}

export interface Config {
  connections: ReadonlyMap<string, ConnectionConfig>
  aliases: ReadonlyMap<string, ResourceAddress>
  issuers: readonly IssuerConfig[]
  callers: readonly CallerConfig[]
  /** Proxies whose word on where a request comes from is taken. */
  trustedProxies: readonly NonNullable<ReturnType<typeof readRange>>[]
}

export interface ConfigFault {
  /** A JSON pointer into the document (RFC 6901), as a URI fragment. */
  path: string
  detail: string
}

/** Kinds of requests that are counted apart. */
export const countedKinds = ['writes', 'reads', 'tokens'] as const
export type CountedKind = (typeof countedKinds)[number]

/** What a connection's requests of a kind are counted by: its name, or the host that it shares with others. */
export function counterOf(
  { name, baseUrl, tokenBaseUrl, limits }: ConnectionConfig,
  kind: CountedKind,
): string {
  if (limits.per === 'credential') return `${kind} of ${name}`
  return `${kind} at ${new URL(kind === 'tokens' ? tokenBaseUrl : baseUrl).host}`
}

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

import { z } from 'zod'
import { isLoopbackHost } from '../lib/address-guard.ts'
import type { readRange } from '../lib/client-address.ts'
import type { Secret } from '../lib/secret.ts'
import type { Auth, Limits, SettingName } from '../model/adapter.ts'
import { kinds } from '../model/enums.ts'
import { NAME, parseId, plainSpelling, type ResourceAddress } from '../model/resource-id.ts'

export const actions = ['read', 'write', 'plan', 'audit', 'resolve'] as const

export type Action = (typeof actions)[number]

const reference = z.strictObject(
  { env: z.string().min(1) },
  { error: 'must be a reference such as { "env": "NAME" }; a secret never stands in the configuration' },
)

export const PRIVATE = 'is no public address, and allowPrivateAddresses is not set'

export const HTTPS = 'must be https (http is for loopback hosts)'

export const isEncrypted = ({ protocol, hostname }: URL): boolean =>
  protocol === 'https:' || (protocol === 'http:' && isLoopbackHost(hostname))

/**
 * The part of a URL before a path template: no query, fragment or userinfo. Whether it may be http is decided by its
 * user.
 */
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

export const encryptedBase = base.refine((url) => isEncrypted(new URL(url)), HTTPS)

const allowances = z
  .array(z.strictObject({ requests: z.int().min(1).max(1e6), seconds: z.int().min(1).max(3600) }))
  .max(4)
  .optional()

export const connection = z.strictObject({
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
  /** Whether a write is read back where the provider's answer leaves requested fields out. */
  verifyWrites: z.boolean().default(true),
  /** Whether the provider may be on a private network. */
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
export function readId(text: string): { ok: true; value: ResourceAddress } | { ok: false; fault: string } {
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

/** Accepts one item or a list; always returns a list. */
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

export const caller = z
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

export const issuer = z.strictObject({
  /** Compared with a token's `iss` exactly, including a trailing slash. */
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
  /** The header that carries the token; by default a bearer in `Authorization`. */
  header: z
    .string()
    .regex(/^[A-Za-z0-9-]+$/, 'must be the name of a header')
    .transform((name) => name.toLowerCase())
    .refine((name) => name !== 'x-api-key', 'is where API keys stand')
    .default('authorization'),
  /** Whether the issuer may be on a private network. */
  allowPrivateAddresses: z.boolean().default(false),
})

export type IssuerConfig = z.output<typeof issuer>

/** Only the outermost shape: its parts are checked one by one, so that a fault in one hides no fault in another. */
export const document = z.strictObject({
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
  /** Base URL of the token endpoint's template, where the auth has one. */
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

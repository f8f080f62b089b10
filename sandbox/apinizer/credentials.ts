import { createHash } from 'node:crypto'
import { z } from 'zod'
import { deviated } from '../deviation.ts'
import { type Deviation, isObject, type JsonObject } from '../exchange.ts'

type MetadataEntry = z.infer<typeof metadataSchema>[number]

/** A project credential. The password is held as a digest only; there is no way to read it back. */
export interface Credential {
  project: string
  username: string
  passwordSha256: string
  email: string
  fullName: string
  description: string | null
  roleNameList: string[]
  enabled: boolean
  ipList: string[]
  expireDate: string | null
  metadata: MetadataEntry[]
}

/** Unsalted on purpose: a test that knows a password compares it with what the ledger shows. */
export const sha256 = (secret: string): string => createHash('sha256').update(secret).digest('hex')

/** The project whose name means "all projects, and the global credentials". */
export const globalScope = 'admin'

export const keyOf = ({ project, username }: Pick<Credential, 'project' | 'username'>): string =>
  `${project}/${username}`

const reservedClaims = new Set(['iss', 'sub', 'aud', 'exp', 'nbf', 'iat', 'jti'])

const metadataSchema = z.array(
  z.object({
    key: z.string().min(1),
    // Texts, as far as it is documented; a server that is more liberal than its pages is as likely.
    value: z.union([z.string(), z.number()]).nullable().default(null),
    secret: z.boolean().default(false),
    includeInJwt: z.boolean().default(false),
    includeInTokenResponse: z.boolean().default(false),
    jwtClaimName: z
      .string()
      .refine((name) => !reservedClaims.has(name))
      .nullable()
      .default(null),
  }),
)

const isText = (value: unknown) => typeof value === 'string'
const isTextOrNull = (value: unknown) => value === null || isText(value)
const isTextList = (value: unknown) => Array.isArray(value) && value.every(isText)
const isDateOrNull = (value: unknown) =>
  value === null || (typeof value === 'string' && z.iso.datetime({ offset: true }).safeParse(value).success)

interface Field {
  /** Neither null nor empty, on create and on update. */
  mandatory?: boolean
  accepts(value: unknown): boolean
}

/** The nine fields of the create page; the update page requires every one of them (docs.apinizer.com). */
const fields: Record<string, Field> = {
  username: { mandatory: true, accepts: isText },
  password: { mandatory: true, accepts: isText },
  email: { mandatory: true, accepts: isText },
  fullName: { mandatory: true, accepts: isText },
  description: { accepts: isTextOrNull },
  roleNameList: { accepts: isTextList },
  enabled: { accepts: (value) => typeof value === 'boolean' },
  // Addresses are not looked at: a published example lists one with three octets.
  ipList: { accepts: isTextList },
  expireDate: { accepts: isDateOrNull },
}

const defaults = { description: null, roleNameList: [], enabled: true, ipList: [], expireDate: null }

export type Submission = Omit<Credential, 'project' | 'passwordSha256'> & { password: string }

/** What a create or update asks for, or the text of its first fault. */
export function readSubmission(
  body: unknown,
  purpose: 'create' | 'update',
  roles: ReadonlySet<string>,
): Submission | string {
  if (!isObject(body)) return 'The request body is not valid.'
  const full: JsonObject = purpose === 'create' ? { ...defaults, ...body } : body
  for (const [name, { mandatory, accepts }] of Object.entries(fields)) {
    const value = full[name]
    if (mandatory && (value === undefined || value === null || value === ''))
      return `The field ${name} can not be empty.`
    if (value === undefined) return `The field ${name} must be sent.`
    if (!accepts(value)) return `The value of ${name} is not valid.`
  }
  const unknown = (full['roleNameList'] as string[]).find((role) => !roles.has(role))
  if (unknown !== undefined) return `The role ${unknown} is not valid in this project.`
  // Leaving `metadata` out clears it (assumption: documented so for credential organizations).
  const metadata = metadataSchema.safeParse(full['metadata'] ?? [])
  if (!metadata.success) return 'The value of metadata is not valid.'

  const picked = Object.fromEntries(Object.keys(fields).map((name) => [name, full[name]]))
  return { ...(picked as Omit<Submission, 'metadata'>), metadata: metadata.data }
}

/** The members of a submission; a fault may have a write keep or store any of them. */
export const writableMembers: ReadonlySet<string> = new Set([...Object.keys(fields), 'metadata'])

/** The credential that is stored when `asked` was asked for. What a fault says of the password goes for its digest. */
export function obeyed(
  before: Credential | undefined,
  asked: Credential,
  { keep = [], store = {} }: Deviation,
): Credential {
  const { password, ...others } = store
  return deviated(before, asked, {
    keep: keep.map((name) => (name === 'password' ? 'passwordSha256' : name)),
    store: password === undefined ? others : { ...others, passwordSha256: sha256(String(password)) },
  })
}

/** What a test may see: all of it, with digests instead of secrets. */
export const described = (credential: Credential): JsonObject => ({
  ...credential,
  metadata: eachEntry(credential.metadata, withoutSecret),
})

/** A fault may have stored anything in place of the metadata. */
const eachEntry = (metadata: unknown, show: (entry: JsonObject) => JsonObject): unknown =>
  Array.isArray(metadata) ? metadata.map((entry) => (isObject(entry) ? show(entry) : entry)) : metadata

function withoutSecret(entry: JsonObject): JsonObject {
  const { value, ...rest } = entry
  return rest['secret'] && typeof value === 'string' ? { ...rest, valueSha256: sha256(value) } : entry
}

/** A request body as it may be written down. */
export function describedBody(body: unknown): unknown {
  if (!isObject(body)) return body
  const { password, metadata, ...rest } = body
  return {
    ...rest,
    ...(password !== undefined && { passwordSha256: sha256(String(password)) }),
    ...(Array.isArray(metadata) && { metadata: eachEntry(metadata, withoutSecret) }),
  }
}

/** A credential as the API lists it: never the password, never a secret metadata value. */
export function listed(credential: Credential, nulls: 'null' | 'omit'): JsonObject {
  const { project: _, passwordSha256: __, metadata, ...shown } = credential
  const whole: JsonObject = {
    ...shown,
    password: null,
    metadata: eachEntry(metadata, (entry) => (entry['secret'] ? { ...entry, value: null } : entry)),
  }
  if (nulls === 'null') return whole
  return Object.fromEntries(Object.entries(whole).filter(([, value]) => value !== null))
}

export const seeds: readonly Credential[] = [
  {
    project: 'MyProject',
    username: 'api-user',
    passwordSha256: sha256('OldSecurePassword123!'),
    email: 'user@example.com',
    fullName: 'API User',
    description: 'The credential of the documentation',
    roleNameList: ['API_USER'],
    enabled: true,
    ipList: ['192.168.1.100'],
    expireDate: '2030-12-31T23:59:59.000Z',
    metadata: [],
  },
  {
    project: 'MyProject',
    username: 'other user',
    passwordSha256: sha256('OtherSecurePassword123!'),
    email: 'other@example.com',
    fullName: 'Other User',
    description: null,
    roleNameList: [],
    enabled: true,
    ipList: [],
    expireDate: null,
    metadata: [],
  },
  {
    project: 'OtherProject',
    username: 'elsewhere',
    passwordSha256: sha256('ElsewherePassword123!'),
    email: 'elsewhere@example.com',
    fullName: 'Elsewhere User',
    description: null,
    roleNameList: ['READER'],
    enabled: true,
    ipList: [],
    expireDate: null,
    metadata: [],
  },
  {
    project: globalScope,
    username: 'global-user',
    passwordSha256: sha256('GlobalSecurePassword123!'),
    email: 'global@example.com',
    fullName: 'Global User',
    description: null,
    roleNameList: ['ADMIN_USER'],
    enabled: true,
    ipList: [],
    expireDate: null,
    metadata: [],
  },
]

// Odd: an update replaces all nine fields, password included, which nobody can read; absence and missing permission are
// 400s that only their text tells apart; 200 may hide a deployment that failed.
// https://docs.apinizer.com/api-reference/credentials/crud/update-credential
import { z } from 'zod'
import { isObject, type Json, type JsonObject } from '../src/lib/json.ts'
import { Secret } from '../src/lib/secret.ts'
import {
  type Adapter,
  type Body,
  type Current,
  type Deployment,
  type UpstreamResponse,
  numeric,
} from '../src/model/adapter.ts'
import { type AnyValues, isPlain, toInstant, type Values } from '../src/model/fields.ts'
import { exactly, isUsable, legibleOf, spelledAs, Unreadable } from '../src/model/unreadable.ts'
import { type Refusal, parsed, refusalByStatus, refused } from '../src/model/upstream-refusal.ts'

const LIST = '/apiops/projects/{projectName}/credentials/' // the trailing slash is part of the path
const JSON_TYPE = { 'content-type': 'application/json' }

export const apinizer: Adapter = {
  // The default installation of its Manager is plain HTTP at a port of a node.
  baseUrl: { plainHttp: true },
  auth: [
    { scheme: 'header', header: 'Authorization', prefix: 'Bearer ', setting: 'token' },
    {
      scheme: 'client-credentials',
      endpoint: { base: 'baseUrl' },
      template: '/apiops/auth/token',
      encoding: 'form',
      parse(response) {
        const read = tokenAnswer.safeParse(response.body)
        if (response.status !== 200 || !read.success) {
          return refused(
            'upstream-unauthorized',
            `the token endpoint gave no token (status ${response.status})`,
          )
        }
        const { access_token: accessToken } = read.data
        const expiry = read.data.expires_in ?? UNDATED_SECONDS
        // Newer pages show seconds, older ones a 13-digit epoch in milliseconds.
        const lifetime = expiry > 1e10 ? { until: expiry } : { seconds: expiry }
        return parsed({ accessToken: new Secret(accessToken), lifetime })
      },
    },
  ],
  account: { by: 'server', part: 'projectName', everything: 'admin' },
  // The documentation names no limit.
  limits: { per: 'credential', writes: [], reads: [], tokens: [] },
  throttle: { fallbackSeconds: 10 },
  kinds: {
    credential: {
      key: ['projectName', 'username'],
      // User names are unique over all projects, and the project `admin` shows everybody's.
      alone: 'username',
      checkKey: (part) => (part.length <= 255 ? undefined : 'must be at most 255 characters long'),
      example: {
        key: 'MyProject:other user',
        summary: 'Apinizer: a new password and an expiry',
        body: {
          secret: 'correct-horse-battery-staple',
          expiresAt: '2027-01-31T23:59:59.000Z',
          enabled: true,
        },
      },
      fields: {
        name: { mutability: 'readWrite', upstream: 'fullName', equivalence: 'trimmed' },
        description: {
          mutability: 'readWrite',
          upstream: 'description',
          nullable: true,
          equivalence: 'trimmed',
        },
        email: { mutability: 'readWrite', upstream: 'email', equivalence: 'mailbox' },
        enabled: { mutability: 'readWrite', upstream: 'enabled' },
        secret: { mutability: 'writeOnly', upstream: 'password' },
        roles: { mutability: 'readWrite', upstream: 'roleNameList' },
        allowedIps: { mutability: 'readWrite', upstream: 'ipList', equivalence: 'addresses' },
        // Whether a fraction of a second is kept is not documented.
        expiresAt: {
          mutability: 'readWrite',
          upstream: 'expireDate',
          nullable: true,
          equivalence: 'seconds',
        },
        metadata: { mutability: 'readOnly', upstream: 'metadata' },
      },

      read: {
        // A single credential cannot be read; the list has no filter.
        request: ({ projectName = '' }) => ({
          method: 'GET',
          template: LIST,
          ref: { projectName },
          headers: {},
          list: true,
        }),
        parse({ username }, response) {
          if (response.status !== 200 || failed(response)) return { ok: false, refusal: refusal(response) }
          const list = listAnswer.safeParse(response.body)
          if (!list.success || !envelope.safeParse(response.body).success)
            return refused('upstream-failed', 'the provider answered without a list of credentials')
          const { resultList } = list.data
          const isOwn = (item: unknown) => isObject(item) && item['username'] === username
          const at = resultList.findIndex(isOwn)
          if (at === -1) return refused('not-found', 'the project has no such credential')
          if (resultList.findLastIndex(isOwn) !== at)
            return refused('upstream-failed', 'the provider lists the credential twice')
          const item = resultList[at] as Record<string, unknown>
          return parsed(readItem(item, (whole: typeof list.data) => whole.resultList[at], response.text))
        },
      },

      plan({ projectName = '', username = '' }, desired, current) {
        if (!current) return refused('upstream-failed', 'the credential was not read')
        const { secret, ...others } = desired
        if (!(secret instanceof Secret)) {
          return refused(
            'secret-required-by-provider',
            'the provider replaces the whole credential and needs its secret',
            {
              errors: [
                {
                  pointer: '#/secret',
                  code: 'secret-required-by-provider',
                  detail: 'must be sent with the change',
                },
              ],
            },
          )
        }
        if (Object.keys(others).length === 0) {
          return parsed({
            method: 'PATCH',
            template: `${LIST}{username}/`,
            ref: { projectName, username },
            headers: JSON_TYPE,
            body: { password: secret },
          })
        }
        const metadata = current.carry?.['metadata']
        if ((current.values as AnyValues)['metadata'] instanceof Unreadable && metadata === undefined) {
          return refused(
            'upstream-failed',
            'the credential’s metadata cannot be sent back as it is, so that replacing the credential would lose it; `secret` alone can be changed',
            { errors: [{ pointer: '#/metadata', code: 'unreadable-field', detail: 'cannot be sent back' }] },
          )
        }
        if (Array.isArray(metadata) && metadata.some((entry: JsonObject) => entry['secret'] === true)) {
          return refused(
            'secret-required-by-provider',
            'the credential has secret metadata that cannot be read, so that replacing it would lose them; `secret` alone can be changed',
          )
        }
        const usable = Object.entries(current.values as AnyValues).filter(([, value]) => isPlain(value))
        const whole = { ...Object.fromEntries(usable), ...current.carry, ...others } as Record<string, Body>
        const missing = Object.keys(items).filter((name) => whole[name] === undefined)
        if (missing.length > 0) {
          const detail =
            'must be sent with the change: the provider needs it and told no value that can be sent back'
          return refused('incomplete-representation', `${missing.join(', ')}: ${detail}`, {
            errors: missing.map((name) => ({
              pointer: `#/${name}`,
              code: 'incomplete-representation',
              detail,
            })),
          })
        }
        return parsed({
          method: 'PUT',
          template: LIST,
          ref: { projectName },
          headers: JSON_TYPE,
          body: {
            email: whole['email'],
            fullName: whole['name'],
            description: whole['description'],
            username,
            password: secret,
            roleNameList: whole['roles'],
            enabled: whole['enabled'],
            ipList: whole['allowedIps'],
            expireDate: whole['expiresAt'],
            ...(metadata !== undefined && { metadata }),
          } as Record<string, Body>,
          carries: [...Object.keys(items), ...(metadata === undefined ? [] : ['metadata'])].filter(
            (name) => name === 'metadata' || !(name in others),
          ),
        })
      },

      parse(_ref, response) {
        const read = envelope.safeParse(response.body)
        const succeeded = read.success && (read.data.status === 'SUCCESS' || read.data.success === true)
        if (response.status >= 400 || (failed(response) && !succeeded)) {
          return { outcome: 'rejected', refusal: refusal(response) }
        }
        // Words of success and of failure in one answer: it may be stored.
        if (response.status !== 200 || !succeeded || failed(response)) {
          return {
            outcome: 'unknown',
            detail: `the provider answered ${response.status} without a result`,
          }
        }
        const deployed = deployment.safeParse(read.data.deploymentResult)
        if (!deployed.success) {
          return {
            outcome: 'partial',
            detail: 'the provider stored the change and does not say that it was deployed',
          }
        }
        const result = summary(deployed.data)
        return result.success
          ? { outcome: 'applied', deployment: result }
          : {
              outcome: 'partial',
              detail: 'the provider stored the change and did not deploy it everywhere',
              deployment: result,
            }
      },
    },
  },
}

/** A token without an end is fetched anew after an hour all the same; one that is refused before is, too. */
const UNDATED_SECONDS = 3600

// The documentation calls `expires_in` applicable to some tokens only.
const tokenAnswer = z.object({ access_token: z.string().min(1), expires_in: numeric.nullish() })

// Three generations of the documentation show three envelopes; a server may speak any of them.
const words = z.string().nullish().catch(undefined)
const envelope = z.object({
  status: z.string().nullish(),
  success: z.boolean().nullish(),
  error: z.string().nullish(),
  resultMessage: words,
  error_description: words,
  message: words,
  deploymentResult: z.unknown().optional(),
})

const listAnswer = z.object({ resultList: z.array(z.unknown()) })

/** RFC 3339, or Java's usual format, which writes the offset without its colon. */
const date = z
  .string()
  .transform((value) => value.replace(/([+-]\d\d)(\d\d)$/, '$1:$2'))
  .pipe(z.iso.datetime({ offset: true }))
const text = z.string().refine(isUsable)

/**
 * Where an item of the list has the fields of the model, and what can be sent back of them. An older server leaves out what
 * is null.
 */
const items: Record<string, { upstream: string; schema: z.ZodType<unknown> }> = {
  name: { upstream: 'fullName', schema: text },
  description: { upstream: 'description', schema: text.nullish() },
  email: { upstream: 'email', schema: text },
  enabled: { upstream: 'enabled', schema: z.boolean() },
  roles: { upstream: 'roleNameList', schema: z.array(text) },
  allowedIps: { upstream: 'ipList', schema: z.array(text) },
  expiresAt: { upstream: 'expireDate', schema: date.nullish() },
}

const metadataList = z
  .array(z.looseObject({ key: text, secret: z.boolean().nullish() }))
  .refine((entries) => legibleOf(entries) !== undefined)
type MetadataEntry = JsonObject & z.infer<typeof metadataList>[number]

/** One item of the list. `find` has it in the whole answer, whose text is `source`. */
function readItem(
  item: Record<string, unknown>,
  find: (whole: never) => unknown,
  source: string | undefined,
): Current<'credential'> {
  const values: AnyValues = {}
  const carry: Record<string, Json> = {}
  for (const [name, { upstream, schema }] of Object.entries(items)) {
    const told = item[upstream]
    const read = schema.safeParse(told)
    const value =
      name === 'expiresAt' && typeof read.data === 'string' ? toInstant(read.data) : (read.data ?? null)
    values[name] = read.success && value !== undefined ? (value as Json) : new Unreadable(told)
    // In the provider's own spelling, which the model may have no room for.
    if (read.success && JSON.stringify(value) !== JSON.stringify(told)) carry[name] = (told ?? null) as Json
  }
  const { metadata } = item
  if (metadata !== undefined && metadata !== null) {
    const entries = metadataList.safeParse(metadata)
    const exact = exactly(metadata, source, (whole) => (find(whole) as typeof item)['metadata'])
    const isShown = entries.success && isUsable(metadata)
    values['metadata'] = isShown ? shown(metadata as MetadataEntry[]) : new Unreadable(exact)
    if (entries.success) {
      carry['metadata'] = (spelledAs(metadata as Json, exact) as JsonObject[]).map(withoutSecret)
    }
  }
  const isCarried = Object.keys(carry).length > 0
  return { values: values as Values<'credential'>, ...(isCarried && { carry }) }
}

/** The entries that are not withheld, as the model's object. */
const shown = (entries: MetadataEntry[]): JsonObject =>
  Object.fromEntries(
    entries.filter((entry) => entry.secret !== true).map((entry) => [entry.key, entry.value ?? null]),
  )

/** That a secret entry is there is all that is kept of it: an update that had to send it back is refused. */
const withoutSecret = (entry: JsonObject): JsonObject =>
  entry['secret'] === true ? { key: entry['key'] ?? null, secret: true } : entry

interface DeploymentResult {
  success?: unknown
  envName?: string | null | undefined
  environmentName?: string | null | undefined
  detailList?: DeploymentResult[] | null | undefined
  environmentResults?: DeploymentResult[] | null | undefined
}
// The server's own description nests `detailList`; some pages still show `environmentResults`.
const deployment: z.ZodType<DeploymentResult> = z.object({
  success: z.unknown().optional(),
  envName: z.string().nullish(),
  environmentName: z.string().nullish(),
  get detailList() {
    return z.array(deployment).nullish()
  },
  get environmentResults() {
    return z.array(deployment).nullish()
  },
})

const parts = (result: DeploymentResult) => [
  ...(result.detailList ?? []),
  ...(result.environmentResults ?? []),
]
const complete = (result: DeploymentResult): boolean =>
  result.success === true && parts(result).every(complete)

/** What an environment may be called in a reply: a name, and not whatever text stands in its place. */
const ENVIRONMENT = /^[\p{L}\p{N}][\p{L}\p{N} ()._/-]{0,63}$/u
/** More of them than this are not told apart. */
const ENVIRONMENTS = 100

function summary(result: DeploymentResult): Deployment {
  const environments = new Map<string, boolean>()
  for (const part of parts(result)) {
    const told = part.envName ?? part.environmentName ?? ''
    const known = environments.has(told) || (ENVIRONMENT.test(told) && environments.size < ENVIRONMENTS)
    const name = known ? told : 'unnamed'
    environments.set(name, complete(part) && (environments.get(name) ?? true))
  }
  return {
    success: complete(result),
    environments: [...environments].map(([name, success]) => ({ name, success })),
  }
}

function failed(response: UpstreamResponse): boolean {
  const read = envelope.safeParse(response.body)
  return read.success && (read.data.status === 'FAILURE' || read.data.success === false || !!read.data.error)
}

const absent: Refusal = {
  problem: 'not-found',
  detail: 'the provider has no such project or credential, or does not show it to the gateway',
}

/** Characters of a message that are looked at; the patterns take the square of its length. */
const MESSAGE = 500

/** What the text of a 400 says. Its words may echo values, so none of them is repeated. First match wins. */
const messages: [RegExp, Refusal][] = [
  // Before the roles, because a name that is echoed may have the word in it.
  [/^(the )?(credential|project)\b.*not (found|exist)/i, absent],
  [
    /\broles?\b.*not (found|exist)/i,
    {
      problem: 'upstream-validation-failed',
      detail: 'the provider has no such role',
      errors: [
        {
          pointer: '#/roles',
          code: 'upstream-validation-failed',
          detail: 'names a role that does not exist',
        },
      ],
    },
  ],
  [/not found/i, absent],
  [
    /required permission|does not have privilege/i,
    { problem: 'upstream-unauthorized', detail: 'the provider does not let the gateway’s account do this' },
  ],
  [
    /already used|already a credential|already exist|unique across/i,
    { problem: 'upstream-conflict', detail: 'the provider reports a conflict with another credential' },
  ],
]

function refusal(response: UpstreamResponse): Refusal {
  if (response.status === 401) return { ...refusalByStatus(401), staleToken: true }
  if (response.status !== 400 && response.status !== 200) return refusalByStatus(response.status)
  const read = envelope.safeParse(response.body)
  const said = read.success
    ? (read.data.resultMessage ?? read.data.error_description ?? read.data.message ?? '')
    : ''
  const known = messages.find(([pattern]) => pattern.test(said.slice(0, MESSAGE)))?.[1]
  return known ?? { problem: 'upstream-validation-failed', detail: 'the provider refused the values' }
}

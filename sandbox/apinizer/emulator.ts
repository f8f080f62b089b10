import { z } from 'zod'
import type { Clock } from '../clock.ts'
import {
  type Answer,
  type Change,
  type Emulator,
  isObject,
  json,
  type JsonObject,
  mediaType,
  parseJson,
  type Received,
  segmentsOf,
  text,
} from '../exchange.ts'
import { createSettings } from '../settings.ts'
import { type Access, consoleUser, createAccessTokens, permissionsOn, permits } from './access.ts'
import {
  type Credential,
  described,
  describedBody,
  globalScope,
  keyOf,
  listed,
  obeyed,
  readSubmission,
  seeds,
  sha256,
  type Submission,
  writableMembers,
} from './credentials.ts'
import { deploymentMs, deploymentResult, environments, environmentsSchema, undeployed } from './deployment.ts'

const settingsSchema = z.strictObject({
  /** v2: `status`/`resultMessage` (generated OpenAPI file); v1: `success`/`error`; v0: the old wiki pages. */
  envelope: z.enum(['v2', 'v1', 'v0']),
  deployment: z.enum(['detailList', 'environmentResults']),
  /** How reads show an empty member; v0 always leaves it out. */
  nulls: z.enum(['null', 'omit']),
  /** The documentation shows both a duration and an absolute time. */
  expiresIn: z.enum(['seconds', 'epoch-milliseconds']),
  /** Some pages leave `token_type` out. */
  tokenType: z.boolean(),
  tokenLifetimeSeconds: z.number().int().min(1),
  environments: environmentsSchema,
  /** Undocumented: whether a missing deployment permission fails the call or only the deployment. */
  withoutDeployPermission: z.enum(['saves', 'fails']),
})

const seededProjects = ['MyProject', 'OtherProject', globalScope]
const roles: ReadonlySet<string> = new Set(['API_USER', 'DEVELOPER', 'READER', 'ADMIN_USER'])

type Route =
  | { at: 'token' | 'healthcheck' }
  | { at: 'hello'; name: string }
  | { at: 'credentials'; project: string }
  | { at: 'credential'; project: string; username: string }

const tokenPath = '/apiops/auth/token'

/** A trailing slash is part of a path: `credentials` without one leads nowhere. */
function routeOf(rawPath: string): Route | undefined {
  if (rawPath === tokenPath) return { at: 'token' }
  if (rawPath === '/apiops/test/healthcheck') return { at: 'healthcheck' }
  const path = segmentsOf(rawPath) ?? []
  const [root, area, project, collection, ...rest] = path
  if (root !== 'apiops' || project === undefined || project === '') return undefined
  if (area === 'test' && project === 'hello' && path.length === 4)
    return { at: 'hello', name: collection ?? '' }
  if (area !== 'projects' || collection !== 'credentials' || rest.at(-1) !== '') return undefined
  if (rest.length === 1) return { at: 'credentials', project }
  const [username] = rest
  return rest.length === 2 && username ? { at: 'credential', project, username } : undefined
}

const methods = {
  token: ['POST'],
  healthcheck: ['GET'],
  hello: ['GET'],
  credentials: ['GET', 'POST', 'PUT'],
  credential: ['PATCH', 'DELETE'],
} satisfies Record<Route['at'], string[]>

const jsonType = { 'content-type': 'application/json;charset=UTF-8' }

/** The token endpoint answers as OAuth does, not in the envelope of the rest. */
const oauthError = (status: number, error: string, error_description: string): Answer =>
  json(status, { error, error_description }, jsonType)

const jsonBodyOf = ({ body }: Answer): JsonObject =>
  body && 'json' in body && isObject(body.json) ? body.json : {}

const withBody = (answer: Answer, more: JsonObject): Answer => ({
  ...answer,
  body: { json: { ...jsonBodyOf(answer), ...more } },
})

export function createApinizer(clock: Clock): Emulator {
  const settings = createSettings(settingsSchema, {
    envelope: 'v2',
    deployment: 'detailList',
    nulls: 'null',
    expiresIn: 'seconds',
    tokenType: true,
    tokenLifetimeSeconds: 3600,
    environments,
    withoutDeployPermission: 'saves',
  })
  const tokens = createAccessTokens(clock)
  let projects = new Set(seededProjects)
  let credentials = seeded()

  /** One error envelope per generation; older ones name the kind of error. */
  function refusal(status: number, message: string): Answer {
    if (settings.current().envelope === 'v2')
      return json(status, { status: 'FAILURE', resultMessage: message }, jsonType)
    const error = status === 401 ? 'unauthorized_client' : status === 404 ? 'not_found' : 'bad_request'
    return json(status, { error, error_description: message }, jsonType)
  }

  function success(body: JsonObject): Answer {
    const { envelope } = settings.current()
    return json(
      200,
      { ...(envelope === 'v1' ? { success: true } : { status: 'SUCCESS' }), ...body },
      jsonType,
    )
  }

  function answered(request: Received): Answer {
    const route = routeOf(request.path)
    if (route?.at === 'healthcheck' && request.method === 'GET') return text(200, 'OK')
    if (route?.at === 'token') return token(request)

    const access = tokens.check(request.headers.authorization)
    if (typeof access === 'string') return refusal(401, access)
    // What the web framework answers before the API's own code: not documented (assumption).
    if (!route) return refusal(404, 'There is nothing at this path.')
    const allowed: string[] = methods[route.at]
    if (!allowed.includes(request.method)) {
      const refused = refusal(405, `${request.method} is no method of this path.`)
      return { ...refused, headers: { ...refused.headers, allow: allowed.join(', ') } }
    }
    if (route.at === 'hello') return text(200, `Hello ${route.name}`)
    if (route.at === 'credentials' || route.at === 'credential') return managed(request, route, access)
    return refusal(404, 'There is nothing at this path.')
  }

  function managed(request: Received, route: Extract<Route, { project: string }>, access: Access): Answer {
    const { project } = route
    const carriesBody = request.method !== 'GET' && request.method !== 'DELETE'
    if (carriesBody && mediaType(request.headers['content-type']) !== 'application/json')
      return refusal(415, 'Send application/json.')
    const body = carriesBody ? parseJson(request.body) : { ok: true as const, value: null }
    if (!body.ok) return refusal(400, 'The request body is not valid JSON.')

    // Absence and lack of permission both answer 400, told apart by nothing but the text.
    if (!projects.has(project))
      return refusal(
        settings.current().envelope === 'v1' ? 404 : 400,
        `The project ${project} was not found.`,
      )
    if (permissionsOn(access, project).length === 0)
      return refusal(400, `The project ${project} was not found or the user does not have privilege on it.`)
    if (request.method === 'GET') return list(project)
    if (!permits(access, project, 'MANAGE')) return missingPermission('MANAGE')
    const deploys = permits(access, project, 'DEPLOY_UNDEPLOY')
    if (!deploys && settings.current().withoutDeployPermission === 'fails')
      return missingPermission('DEPLOY_UNDEPLOY')

    const answer =
      route.at === 'credentials' ? submitted(request, project, body.value) : named(request, route, body.value)
    return answer.change ? deployed(answer, deploys) : answer
  }

  const missingPermission = (permission: string) =>
    refusal(400, `The required permission IDENTITY + ${permission} is missing.`)

  function list(project: string): Answer {
    const { envelope, nulls } = settings.current()
    const found = [...credentials.values()].filter(
      (credential) => project === globalScope || credential.project === project,
    )
    const shown = found.map((credential) => listed(credential, envelope === 'v0' ? 'omit' : nulls))
    return success({ resultList: shown, resultCount: shown.length })
  }

  function submitted(request: Received, project: string, body: unknown): Answer {
    const creating = request.method === 'POST'
    const submission = readSubmission(body, creating ? 'create' : 'update', roles)
    if (typeof submission === 'string') return refusal(400, submission)
    const { username } = submission
    if (creating) {
      if ([...credentials.values()].some((other) => other.username === username))
        return refusal(400, `The username ${username} is already used.`)
      return stored(request, undefined, ofSubmission(project, submission))
    }
    const before = find(project, username)
    if (!before) return unknownCredential(username)
    return stored(request, before, ofSubmission(before.project, submission))
  }

  function named(
    request: Received,
    { project, username }: Extract<Route, { at: 'credential' }>,
    body: unknown,
  ): Answer {
    const before = find(project, username)
    if (request.method === 'DELETE') return before ? removed(before) : unknownCredential(username)
    const password = isObject(body) ? body['password'] : undefined
    if (typeof password !== 'string' || password === '')
      return refusal(400, 'The field password can not be empty.')
    if (!before) return unknownCredential(username)
    return stored(request, before, { ...before, passwordSha256: sha256(password) })
  }

  const unknownCredential = (username: string) => refusal(400, `Credential ${username} was not found.`)

  /** The global scope reaches every project's credentials (assumption; documented for its list). */
  const find = (project: string, username: string): Credential | undefined =>
    project === globalScope
      ? [...credentials.values()].find((credential) => credential.username === username)
      : credentials.get(keyOf({ project, username }))

  /** One credential has one key, also when it is reached through the global scope. */
  const targetKey = (project: string, username: string): string =>
    keyOf(find(project, username) ?? { project, username })

  const ofSubmission = (project: string, { password, ...rest }: Submission): Credential => ({
    project,
    ...rest,
    passwordSha256: sha256(password),
  })

  function stored(request: Received, before: Credential | undefined, asked: Credential): Answer {
    const after = obeyed(before, asked, request.deviation)
    if (before && keyOf(before) !== keyOf(after)) credentials.delete(keyOf(before))
    credentials.set(keyOf(after), after)
    const change: Change = {
      operation: `${request.method} credentials`,
      id: keyOf(before ?? after),
      body: describedBody(JSON.parse(request.body)),
      before: before ? described(before) : null,
      after: described(after),
    }
    return { ...success({}), change }
  }

  function removed(before: Credential): Answer {
    credentials.delete(keyOf(before))
    const id = keyOf(before)
    return {
      ...success({}),
      change: { operation: 'DELETE credentials', id, body: null, before: described(before), after: null },
    }
  }

  /** Every change is rolled out before its answer; the oldest generation says nothing about it. */
  function deployed(answer: Answer, permitted: boolean): Answer {
    const { deployment, environments, envelope } = settings.current()
    if (!permitted)
      return withBody(answer, {
        deploymentResult: undeployed(deployment),
        resultMessage: 'Saved, and not deployed: the user may not deploy.',
      })
    const rolledOut =
      envelope === 'v0' ? {} : { deploymentResult: deploymentResult(environments, deployment) }
    return { ...withBody(answer, rolledOut), workMs: deploymentMs(environments) }
  }

  function token(request: Received): Answer {
    if (request.method !== 'POST') return oauthError(405, 'invalid_request', 'Use POST.')
    if (mediaType(request.headers['content-type']) !== 'application/x-www-form-urlencoded')
      return oauthError(415, 'invalid_request', 'Send a form.')
    const form = new URLSearchParams(request.body)
    if (form.get('grant_type') !== 'client_credentials')
      return oauthError(400, 'unsupported_grant_type', 'Only client_credentials is supported.')
    if (form.get('client_id') !== consoleUser.name || form.get('client_secret') !== consoleUser.password)
      return oauthError(401, 'unauthorized_client', 'The user name or the password is wrong.')
    const { expiresIn, tokenLifetimeSeconds, tokenType } = settings.current()
    const issued = tokens.issue(tokenLifetimeSeconds * 1000)
    return json(
      200,
      {
        access_token: issued.token,
        ...(tokenType && { token_type: 'Bearer' }),
        expires_in: expiresIn === 'seconds' ? tokenLifetimeSeconds : issued.expiresAt,
      },
      jsonType,
    )
  }

  return {
    target(request) {
      const route = routeOf(request.path)
      if (request.method === 'GET') return undefined
      if (route?.at === 'credential') return targetKey(route.project, route.username)
      if (route?.at !== 'credentials') return undefined
      const body = parseJson(request.body)
      const username = body.ok && isObject(body.value) ? body.value['username'] : undefined
      return typeof username === 'string' ? targetKey(route.project, username) : undefined
    },

    answer: answered,

    refusal: (status, path, { message = 'An unexpected error occurred.' } = {}) =>
      path === tokenPath ? oauthError(status, 'server_error', message) : refusal(status, message),

    /** A change that was stored, and did not reach every gateway. */
    degrade(answer, degraded) {
      if (!answer.change) return answer
      const { deployment, environments } = settings.current()
      if (!degraded.missing)
        return withBody(answer, { deploymentResult: deploymentResult(environments, deployment, degraded) })
      const { deploymentResult: _, ...rest } = jsonBodyOf(answer)
      return { ...answer, body: { json: rest } }
    },

    members: writableMembers,

    /** Only the list shows credentials: a write answers without the one it changed. */
    retold: (body, change) =>
      isObject(body) && Array.isArray(body['resultList'])
        ? { ...body, resultList: body['resultList'].map((row) => (isObject(row) ? change(row) : row)) }
        : body,

    read(type, id) {
      const credential = type === 'credential' ? credentials.get(id) : undefined
      return credential && described(credential)
    },

    write(type, id, body) {
      const slash = id.indexOf('/')
      const project = id.slice(0, Math.max(slash, 0))
      if (type !== 'credential' || project === '')
        return { ok: false, reason: 'address it as credential/<project>%2F<username>' }
      projects.add(project)
      const username = id.slice(slash + 1)
      const base = credentials.get(id)
      const plain = isObject(body) ? body : {}
      const submission = readSubmission(
        { ...specimen(username), ...base, ...plain, username, password: plain['password'] ?? 'unchanged' },
        'update',
        roles,
      )
      if (typeof submission === 'string') return { ok: false, reason: submission }
      const written = ofSubmission(project, submission)
      const kept = base && plain['password'] === undefined ? { passwordSha256: base.passwordSha256 } : {}
      credentials.set(id, { ...written, ...kept })
      return { ok: true, value: described({ ...written, ...kept }) }
    },

    settings: () => settings.current(),
    configure: (change) => settings.change(change),

    reset() {
      settings.reset()
      tokens.clear()
      projects = new Set(seededProjects)
      credentials = seeded()
    },

    /** The API never shows a password; a gateway that accepts it is the only proof that a new one took effect. */
    control(app) {
      app.post('/login', async (context) => {
        const attempt = loginSchema.safeParse(await context.req.json().catch(() => undefined))
        if (!attempt.success) return context.json({ error: z.prettifyError(attempt.error) }, 400)
        const { project, username, password } = attempt.data
        const credential = credentials.get(keyOf({ project, username }))
        const valid =
          credential !== undefined &&
          credential.enabled &&
          (credential.expireDate === null || Date.parse(credential.expireDate) > clock.now()) &&
          credential.passwordSha256 === sha256(password)
        return context.json({ success: valid })
      })
    },
  }
}

const loginSchema = z.strictObject({ project: z.string(), username: z.string(), password: z.string() })

const specimen = (username: string) => ({
  username,
  email: 'minted@example.com',
  fullName: 'Minted User',
  description: null,
  roleNameList: ['API_USER'],
  enabled: true,
  ipList: [],
  expireDate: null,
})

const seeded = () => new Map(seeds.map((credential) => [keyOf(credential), credential]))

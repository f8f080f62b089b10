import { v7 as uuidv7 } from 'uuid'
import type { Adapter, Current, Deployment, KindSpec, Ref, UpstreamRequest } from './adapter.ts'
import type { AuditKeys } from './audit-keys.ts'
import type { ConnectionConfig } from './config.ts'
import { Deadline } from './deadline.ts'
import type { Exchange } from './exchange.ts'
import type { Json, JsonObject } from './json.ts'
import type { Actor } from './ledger/event.ts'
import type { EventDraft, Ledger } from './ledger/ledger.ts'
import type { Log } from './log.ts'
import {
  type FieldChanges,
  hide,
  hideChanges,
  merge,
  type Merged,
  type Mode,
  readBody,
  withFingerprints,
} from './merge.ts'
import type { AnyValues, Kind, Values } from './model.ts'
import { ok, type Problem, refuse, type Result } from './problems.ts'
import type { ResourceQueue } from './queue.ts'
import { readBack, toProblem } from './read.ts'
import type { ResourceAddress } from './resource-id.ts'
import { Secret } from './secret.ts'
import { carryOut, type Finding } from './settle.ts'
import { buildUrl, pathOf } from './upstream.ts'

/** What a change works with: all of it belongs to the actor of one connection. */
export interface ChangeTools {
  connection: ConnectionConfig
  adapter: Adapter
  exchange: Exchange
  ledger: Ledger
  keys: AuditKeys
  queue: ResourceQueue
  log: Log
}

/** A request as plain data: it crosses from the stateless front to the actor as it is. */
export interface ResourceRequest {
  kind: Kind
  address: ResourceAddress
  /** Names of the fields that the caller may read; the others are `[hidden]` in what it gets. */
  readable: string[]
  requestId: string
  traceparent: string
}
export interface ChangeRequest extends ResourceRequest {
  body: JsonObject
  mode: Mode
  dryRun: boolean
  allowSelf: boolean
  /** Entity tags of `If-Match`, or `*`. */
  ifMatch?: readonly string[]
  reason?: string
  actor: Actor
}

/** A resource in a reply: its values stand beside these members. */
export interface ResourceView {
  id: string
  connection: string
  provider: string
  readable: boolean
  etag?: string
  [field: string]: unknown
}
export interface ChangeReply {
  changeId: string
  outcome: 'applied'
  changed: boolean
  widens: boolean
  resource: ResourceView
  fields: FieldChanges
  deployment?: Deployment
  upstream?: { method: string; status: number | null; attempts: number; durationMs: number }
}
export interface PlanReply {
  plan: {
    request: { method: string; path: string; headers: Record<string, string>; body: Json } | null
    fields: FieldChanges
    changed: boolean
    widens: boolean
    warnings: string[]
  }
}

/**
 * One change from request to reply. The order of the steps stands here and nowhere else: every check that can fail
 * locally comes before the upstream write, the intent is durable before it, the outcome is durable before the reply.
 */
export async function change(
  tools: ChangeTools,
  request: ChangeRequest,
): Promise<Result<ChangeReply | PlanReply>> {
  const found = locate(tools.adapter, request)
  if (!found.ok) return found
  const { spec, ref } = found.value
  const sent = readBody(request.kind, spec.fields, request.body, request.mode)
  if (!sent.ok) return sent
  if (tools.connection.requireIfMatch && !request.ifMatch) {
    return refuse('precondition-required', 'this connection takes changes only with If-Match')
  }
  const deadline = new Deadline(tools.connection.deadlineMs)
  if (request.dryRun) {
    const prepared = await prepare(tools, request, spec, ref, sent.value, deadline)
    return prepared.ok ? ok(plan(tools, request, spec, ref, prepared.value)) : prepared
  }

  return tools.queue.run(`${request.kind} ${request.address.id}`, deadline, async () => {
    const prepared = await prepare(tools, request, spec, ref, sent.value, deadline)
    if (!prepared.ok) return prepared
    const { merged, current, write } = prepared.value
    const changeId = uuidv7()
    const draft = describe(tools, request, changeId, merged)
    if (!write) {
      const recorded = await record(tools, { ...draft, type: 'outcome', outcome: 'applied', upstream: null })
      return recorded.ok
        ? ok(reply(tools, request, spec, changeId, merged, current?.values as AnyValues))
        : recorded
    }

    const url = buildUrl(tools.connection.baseUrl, write)
    if (!url) return refuse('invalid-id', 'the id does not fit the provider’s address')
    const target = { method: write.method, path: pathOf(url), traceparent: request.traceparent }
    const intent = await record(tools, { ...draft, type: 'intent', outcome: null, upstream: target })
    if (!intent.ok) return intent

    const started = performance.now()
    const finding = await carryOut(
      {
        kind: request.kind,
        spec,
        ref,
        request: write,
        desired: merged.desired,
        current,
        traceparent: request.traceparent,
      },
      tools.exchange,
      deadline,
      async (attempt, shown, status) => {
        const upstream = { ...target, attempt, shown, status }
        await record(tools, { ...draft, type: 'attempt', fields: {}, outcome: null, upstream })
      },
    )
    const durationMs = Math.round(performance.now() - started)
    const { outcome, status, attempts } = finding

    const stored = await recordOutcome(
      tools,
      {
        ...draft,
        type: 'outcome',
        outcome,
        upstream: { ...target, status, attempts, durationMs, ...deployed(finding) },
      },
      request,
      merged,
      finding,
    )
    tools.log.info('change', {
      requestId: request.requestId,
      changeId,
      resource: request.address.id,
      outcome,
      attempts,
      durationMs,
    })
    if (!stored) {
      const detail = `the change is ${outcome} at the provider, and its outcome could not be stored`
      return refuse('outcome-not-recorded', detail, { changeId, outcome })
    }
    if (outcome !== 'applied') return { ok: false, problem: { ...failure(finding), changeId, outcome } }
    const values = { ...(current?.values as AnyValues | undefined), ...merged.desired, ...finding.values }
    return ok({
      ...reply(tools, request, spec, changeId, merged, values),
      ...deployed(finding),
      upstream: { method: write.method, status, attempts, durationMs },
    })
  })
}

/** The adapter's spec for the kind and the key's parts by name. */
export function locate(
  adapter: Adapter,
  { kind, address }: Pick<ResourceRequest, 'kind' | 'address'>,
): Result<{ spec: KindSpec<Kind>; ref: Ref }> {
  const spec = adapter.kinds[kind] as KindSpec<Kind> | undefined
  if (!spec) return refuse('not-found', `the provider has no ${kind}s`)
  if (address.parts.length !== spec.key.length) {
    return refuse(
      'invalid-id',
      `the key of a ${kind} here is ${spec.key.map((name) => `{${name}}`).join(':')}`,
    )
  }
  for (const [index, name] of spec.key.entries()) {
    const fault = spec.checkKey(address.parts[index] ?? '')
    if (fault) return refuse('invalid-id', `{${name}} ${fault}`)
  }
  return ok({
    spec,
    ref: Object.fromEntries(spec.key.map((name, index) => [name, address.parts[index] ?? ''])),
  })
}

interface Prepared {
  current: Current<Kind> | undefined
  merged: Merged
  /** Absent when nothing is left to write. */
  write?: UpstreamRequest
}

/** Everything before the intent: read back, compare, merge, plan. Nothing is written. */
async function prepare(
  tools: ChangeTools,
  request: ChangeRequest,
  spec: KindSpec<Kind>,
  ref: Ref,
  sent: AnyValues,
  deadline: Deadline,
): Promise<Result<Prepared>> {
  const { connection, exchange } = tools
  const { kind, address, ifMatch, mode } = request
  if (!spec.read && ifMatch) {
    return refuse(
      'precondition-failed',
      'the provider cannot be read, so that there is no state to compare If-Match with',
    )
  }
  const read = spec.read && (await readBack(spec.read, ref, exchange, deadline, request.traceparent))
  if (read && !read.ok) return read
  const current = read?.value
  if (
    ifMatch &&
    current &&
    !ifMatch.includes('*') &&
    !ifMatch.includes(etagOf(tools, request, current.values))
  ) {
    return refuse('precondition-failed', 'the resource is no longer in the state that If-Match names')
  }
  const merged = merge(kind, sent, current?.values as AnyValues | undefined, mode)
  if (!merged.ok) return merged
  if (Object.keys(merged.value.desired).length === 0) return ok({ current, merged: merged.value })
  if (!request.allowSelf && isOwn(connection, address, current?.values as AnyValues | undefined)) {
    return refuse('self-lockout', 'the gateway itself signs in with this resource')
  }
  const planned = spec.plan(ref, merged.value.desired as Values<Kind>, current)
  if (!planned.ok) return { ok: false, problem: toProblem(planned.refusal) }
  return ok({ current, merged: merged.value, write: planned.value })
}

/** Whether the resource is what the connection signs in with, or one that its operator listed as such. */
function isOwn(
  connection: ConnectionConfig,
  address: ResourceAddress,
  values: AnyValues | undefined,
): boolean {
  const own = connection.secrets.clientId?.expose()
  return connection.self.includes(address.id) || (own !== undefined && values?.['clientId'] === own)
}

const deployed = ({ deployment }: Finding): { deployment?: Deployment & JsonObject } =>
  deployment ? { deployment: deployment as Deployment & JsonObject } : {}

const failure = ({ problem }: Finding): Problem =>
  problem ?? { slug: 'internal-error', detail: 'the outcome has no explanation' }

/** The fields that a caller, or the audit, may see of this connection. */
const visible = ({ connection }: ChangeTools, names: readonly string[]): string[] =>
  names.filter((name) => name !== 'metadata' || !connection.hideMetadata)

/** The event that all entries of one change have in common. */
function describe(
  tools: ChangeTools,
  request: ChangeRequest,
  changeId: string,
  merged: Merged,
): Omit<EventDraft, 'type' | 'outcome' | 'upstream'> {
  const { kind, address, actor, reason, requestId } = request
  const changes = withFingerprints(kind, address.id, merged, tools.keys)
  return {
    changeId,
    actor,
    alias: address.alias ?? null,
    kind,
    resource: address.id,
    fields: hideChanges(changes, visible(tools, Object.keys(changes))) as unknown as EventDraft['fields'],
    widens: merged.widens,
    reason: reason ?? null,
    requestId,
  }
}

async function record(tools: ChangeTools, draft: EventDraft): Promise<Result<void>> {
  try {
    await tools.ledger.append(tools.connection.name, draft)
    return ok(undefined)
  } catch (error) {
    tools.log.error('audit append failed', {
      requestId: draft.requestId,
      changeId: draft.changeId,
      error: String(error),
    })
    return refuse('audit-unavailable', 'the change could not be recorded, so the provider was not called', {
      retryAfterSeconds: 1,
    })
  }
}

/** How long an outcome is tried to be stored before the caller is told that it was not. Milliseconds. */
const OUTCOME_PATIENCE = 1000

async function recordOutcome(
  tools: ChangeTools,
  draft: EventDraft,
  { kind, address }: ChangeRequest,
  { desired }: Merged,
  { outcome }: Finding,
): Promise<boolean> {
  const values = Object.entries(desired).filter(([name, value]) => {
    return !(value instanceof Secret) && visible(tools, [name]).length > 0
  })
  const stored = outcome === 'applied' || outcome === 'partial'
  // A secret that may have changed counts: an ETag must not outlive a change that nobody can rule out.
  const secretChanged =
    (stored || outcome === 'unknown') && Object.values(desired).some((value) => value instanceof Secret)
  const applied = {
    kind,
    resource: address.id,
    values: (stored ? Object.fromEntries(values) : {}) as JsonObject,
    secretChanged,
  }
  const patience = new Deadline(OUTCOME_PATIENCE)
  do {
    try {
      await tools.ledger.append(tools.connection.name, draft, applied)
      return true
    } catch (error) {
      tools.log.error('outcome not stored yet', { changeId: draft.changeId, outcome, error: String(error) })
    }
  } while (await patience.sleep(50))
  return false
}

/** An HMAC over the id, the canonical values and the count of secret changes: it reveals none of them. */
export function etagOf(tools: ChangeTools, { kind, address }: ResourceRequest, values: AnyValues): string {
  const { secretChanges } = tools.ledger.resource(kind, address.id)
  return tools.keys.etag([kind, address.id, values, secretChanges])
}

/** The resource as the caller may see it. */
export function view(
  tools: ChangeTools,
  request: ResourceRequest,
  spec: KindSpec<Kind>,
  values: AnyValues,
): ResourceView {
  const { address, readable } = request
  const shown = Object.fromEntries(Object.entries(values).filter(([, value]) => !(value instanceof Secret)))
  return {
    id: address.id,
    connection: tools.connection.name,
    provider: tools.connection.provider,
    readable: spec.read !== undefined,
    ...(spec.read && { etag: etagOf(tools, request, shown) }),
    ...hide(shown, visible(tools, readable)),
  }
}

function reply(
  tools: ChangeTools,
  request: ChangeRequest,
  spec: KindSpec<Kind>,
  changeId: string,
  merged: Merged,
  known: AnyValues,
): ChangeReply {
  const values = spec.read
    ? known
    : (tools.ledger.resource(request.kind, request.address.id).applied as AnyValues)
  const changes = withFingerprints(request.kind, request.address.id, merged, tools.keys)
  return {
    changeId,
    outcome: 'applied',
    changed: Object.keys(merged.desired).length > 0,
    widens: merged.widens,
    resource: view(tools, request, spec, values),
    fields: hideChanges(changes, visible(tools, request.readable)),
  }
}

/** The plan that a dry run answers. What the caller may not read is replaced before the request is built again. */
function plan(
  tools: ChangeTools,
  request: ChangeRequest,
  spec: KindSpec<Kind>,
  ref: Ref,
  { merged, current, write }: Prepared,
): PlanReply {
  const readable = visible(tools, request.readable)
  const conceal = (values: AnyValues) => hide(values, readable)
  const shown =
    write &&
    spec.plan(
      ref,
      conceal(merged.desired) as Values<Kind>,
      current && {
        values: conceal(current.values as AnyValues) as Values<Kind>,
        ...(current.carry && { carry: conceal(current.carry) as Record<string, Json> }),
      },
    )
  const url = write && buildUrl(tools.connection.baseUrl, write)
  const signIn = tools.connection.auth.scheme === 'header' ? tools.connection.auth.header : 'Authorization'
  const warnings = [
    ...(spec.read ? [] : ['the provider cannot be read: whether anything would change is not known']),
    ...(write && merged.widens ? ['the change widens access'] : []),
  ]
  return {
    plan: {
      request:
        shown?.ok && url
          ? {
              method: shown.value.method,
              path: pathOf(url),
              headers: { ...shown.value.headers, [signIn.toLowerCase()]: '[secret]' },
              // A secret serializes as `[secret]`.
              body: JSON.parse(JSON.stringify(shown.value.body ?? null)) as Json,
            }
          : null,
      fields: hideChanges(merged.changes, readable),
      changed: write !== undefined,
      widens: merged.widens,
      warnings,
    },
  }
}

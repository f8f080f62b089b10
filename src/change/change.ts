import type { Entry, EventDraft, ResourceRecord } from '../ledger/types.ts'
import { Deadline } from '../lib/deadline.ts'
import { newId } from '../lib/id.ts'
import type { JsonObject } from '../lib/json.ts'
import type { Deployment, KindSpec, Ref, UpstreamRequest } from '../model/adapter.ts'
import type { Kind } from '../model/enums.ts'
import type { AnyValues, FieldChanges, Values } from '../model/fields.ts'
import { endOfId } from '../model/one-resource.ts'
import { ok, type Problem, refuse, type Result } from '../model/problems.ts'
import { hideChanges, withoutEchoes } from '../model/redaction.ts'
import { buildUrl, pathOf } from '../upstream/send.ts'
import { type Conclusion, conclude, type Basis } from './conclusion.ts'
import { etagOf } from './etag.ts'
import {
  answerOvertaken,
  consultKey,
  type KeyedRequest,
  keyOf,
  type KnownKey,
  settledReply,
  type StoredAnswer,
} from './idempotency.ts'
import { merge, readBody, withFingerprints } from './merge.ts'
import { intentOf, settleProven } from './open-changes.ts'
import { performWrite } from './perform-write.ts'
import { readBack } from './read-back.ts'
import {
  type ChangeReply,
  concealed,
  planFor,
  type Planned,
  problemFor,
  replyFor,
  view,
  visible,
} from './reply.ts'
import { toProblem } from './retry.ts'
import type { ParsedChange, ChangeAnswer, ChangeRequest, ChangeTools, ResourceRequest } from './types.ts'
import { type WriteResult, isBlind } from './write.ts'

type Applied = NonNullable<Entry['applied']>
type Resumed = NonNullable<KnownKey['resume']>

/**
 * One change from request to reply. The order of the steps stands here and nowhere else: every check that can fail
 * locally comes before the upstream write, the intent is durable before it, the outcome is durable before the reply.
 */
export async function change(tools: ChangeTools, request: ChangeRequest): Promise<ChangeAnswer> {
  const found = locate(tools, request)
  if (!found.ok) return found
  const { spec, ref } = found.value
  const sent = readBody(request.kind, spec.fields, request.body, request.mode)
  if (!sent.ok) return sent
  if (tools.connection.requireIfMatch && !request.ifMatch) {
    return refuse('precondition-required', 'this connection takes changes only with If-Match')
  }
  const asked: ParsedChange = {
    ...request,
    spec,
    ref,
    sent: sent.value,
    deadline: new Deadline(tools.connection.deadlineMs),
  }
  if (request.dryRun) {
    const planned = await prepare(tools, asked)
    return planned.ok ? ok(planFor(tools, request.kind, spec, planned.value, request.readable)) : planned
  }

  const key = keyOf(tools, request)
  if (key && tools.heldKeys.has(key.name)) {
    const detail = 'a request with this Idempotency-Key is under way'
    return refuse('request-in-progress', detail, { retryAfterSeconds: 1 })
  }
  if (key) tools.heldKeys.add(key.name)
  try {
    const known = key && (await consultKey(tools, asked, key))
    if (known?.answer) return known.answer
    const line = `${request.kind} ${endOfId(tools.adapter, request.kind, request.address.id)}`
    return await tools.queue.run(line, request.actor.caller, asked.deadline, () =>
      runInTurn(tools, asked, key),
    )
  } finally {
    if (key) tools.heldKeys.delete(key.name)
  }
}

/**
 * Characters of a diff and of the resource that it belongs to: an event holds the one, the stored answer to an
 * idempotency key both, and a Durable Object takes 2 MB in a row.
 */
const MAX_RECORD = 512 * 1024
/** How many of them are for what the caller may not read, where there is anything: apart, so that filling the rest tells no length. */
const MAX_UNSEEN = 128 * 1024

/** Whether the diff and the resource are longer than what is kept of one change. */
function isTooLong(
  tools: ChangeTools,
  { spec, readable, sent }: ParsedChange,
  fields: FieldChanges,
  before: AnyValues = {},
): boolean {
  const seen = new Set(visible(tools, readable))
  const unseen = Object.keys(spec.fields).filter((name) => !seen.has(name))
  const lengthOf = (...parts: unknown[]) => JSON.stringify(parts).length
  const pick = <T>(from: Record<string, T>, names: string[]) => names.map((name) => from[name] ?? null)
  const names = [...seen]
  const shown = lengthOf(pick(fields, names), pick(before, names), pick(sent, unseen))
  // As it is, in the diff before, and in the diff after the change.
  const hidden = lengthOf(...unseen.flatMap((name) => Array(name in sent ? 3 : 1).fill(before[name] ?? null)))
  return unseen.length === 0 ? shown > MAX_RECORD : shown > MAX_RECORD - MAX_UNSEEN || hidden > MAX_UNSEEN
}

/** The rest of the story, as the only writer of the resource. */
async function runInTurn(
  tools: ChangeTools,
  asked: ParsedChange,
  key: KeyedRequest | undefined,
): Promise<ChangeAnswer> {
  // Asked again: what ran before this one in the line may have superseded the key's change.
  const known = key && (await consultKey(tools, asked, key))
  if (known?.answer) return known.answer
  const resumed = known?.resume
  if (key && resumed && tools.ledger.isOvertaken(resumed.changeId)) {
    return answerOvertaken(tools, asked, key, resumed.changeId)
  }
  const prepared = await prepare(tools, resumed ? asBegun(tools, asked, resumed) : asked, resumed)
  if (!prepared.ok) return prepared
  const { merged, current, write } = prepared.value
  const url = write && buildUrl(tools.connection.baseUrl, write)
  if (write && !url) return refuse('invalid-id', 'the id does not fit the provider’s address')
  if (tools.emergency?.isDegraded() || tools.isFull()) return unrecordable()

  const changeId = resumed?.changeId ?? newId()
  const draft = describe(tools, asked, changeId, prepared.value)
  const before = current?.values as AnyValues | undefined
  if (isTooLong(tools, asked, draft.fields, before)) {
    return refuse('resource-too-large', 'the resource and the diff are together too long to be recorded')
  }
  const { kind, address, spec } = asked
  const allButThis = { kind, id: address.id, except: changeId }
  if (before && !(await settleProven(tools, allButThis, spec, before))) return unrecordable()
  const ready: PreparedChange = {
    asked,
    draft,
    resumed,
    made: { merged, fields: draft.fields, before, carried: write?.carries ?? [] },
    record: tools.ledger.resource(kind, address.id),
    reserve: key && !resumed ? { reserve: { ...key.scope, fingerprint: key.fingerprint } } : {},
    isKeyed: key !== undefined,
  }
  return write && url
    ? makeWrite(tools, ready, { request: write, path: pathOf(url), current })
    : finishWithoutWrite(tools, ready)
}

/** A change that can be made, and what its events and its reply are made of. */
interface PreparedChange {
  asked: ParsedChange
  draft: ChangeDraft
  /** The run before, where this one goes on with it. */
  resumed: Resumed | undefined
  made: Basis
  /** What the gateway knew of the resource before. */
  record: ResourceRecord
  reserve: Pick<Entry, 'reserve'>
  isKeyed: boolean
}

/** Nothing is left to change: that is one event, and for a change that was open its end. */
async function finishWithoutWrite(
  tools: ChangeTools,
  { asked, draft, resumed, made, record, reserve, isKeyed }: PreparedChange,
): Promise<ChangeAnswer> {
  const { applied, ...told } = conclude(tools, made, { outcome: 'applied', status: null, attempts: 0 })
  const event = { ...draft, outcome: 'applied' as const, upstream: null }
  if (resumed) {
    const settled = await append(tools, { ...event, type: 'settled' }, { applied })
    if (!settled.ok) return settled
    const reply = await settledReply(tools, asked, draft.changeId, 'applied', made.before)
    return reply.ok ? ok(replyFor(asked.kind, reply.value, asked.readable)) : reply
  }
  const reply = replyOf(tools, asked, draft, made, told, record)
  const answer = isKeyed && { answer: { reply } satisfies StoredAnswer }
  const stored = await append(tools, { ...event, type: 'outcome' }, { applied, ...reserve, ...answer })
  return stored.ok ? ok(replyFor(asked.kind, reply, asked.readable)) : stored
}

/** The durable intent, the write, the durable outcome, the reply. */
async function makeWrite(
  tools: ChangeTools,
  { asked, draft, resumed, made, record, reserve, isKeyed }: PreparedChange,
  { request, path, current }: { request: UpstreamRequest; path: string; current: Planned['current'] },
): Promise<ChangeAnswer> {
  const { desired } = made.merged
  const { changeId } = draft
  const { traceparent, requestId } = asked
  const target = { method: request.method, path, traceparent }
  const { unchanged: _, ...common } = draft
  const attempt = (upstream: object): EventDraft => ({
    ...common,
    type: 'attempt',
    fields: {},
    outcome: null,
    upstream: { ...target, ...upstream },
  })
  tools.live.add(changeId)
  try {
    // From here on a secret may be in force, whatever becomes of this process.
    const counted: Applied = { values: {}, secretChanged: isBlind(made.merged) }
    const begun = await (resumed
      ? append(tools, attempt({ resumed: resumed.earlier.state }), { applied: counted })
      : append(
          tools,
          { ...draft, type: 'intent', outcome: null, upstream: target },
          { ...reserve, applied: counted },
        ))
    if (!begun.ok) return begun

    const started = performance.now()
    const { kind, spec, ref, deadline } = asked
    const { verifyWrites: verifies } = tools.connection
    const earlier = resumed?.earlier
    const finding = await performWrite(
      { kind, spec, ref, request, desired, current, earlier, verifies, deadline, traceparent },
      tools.exchange,
      async (number, shown, status) => {
        // A store that hesitates must not hold the reply up beyond the deadline; the outcome follows in its line.
        await deadline.within(append(tools, attempt({ attempt: number, shown, status })))
      },
    ).catch((error): WriteResult => lost(tools, asked, changeId, error))
    const durationMs = Math.round(performance.now() - started)

    const { outcome, status, attempts, notTaken, undeployed } = finding
    const { applied, problem, ...told } = conclude(tools, made, finding)
    const reply: ChangeReply = {
      ...replyOf(tools, asked, draft, made, told, after(after(record, counted), applied)),
      ...observed(finding, told),
      upstream: { method: request.method, status, attempts, durationMs },
    }
    const failure: Problem = {
      ...(problem ?? { slug: 'internal-error', detail: 'the outcome has no explanation' }),
      changeId,
      outcome,
    }
    const answer = isKeyed ? answerOf(finding, { reply, problem: failure }) : undefined
    const stored = await recordOutcome(tools, {
      connection: tools.connection.name,
      draft: {
        ...draft,
        type: 'outcome',
        fields: told.fields,
        outcome,
        upstream: {
          ...target,
          status,
          attempts,
          durationMs,
          ...observed(finding, told),
          ...(notTaken && { notTaken }),
          ...(undeployed && { undeployed }),
        },
      },
      applied,
      ...(answer !== undefined && { answer }),
    })
    const resource = asked.address.id
    tools.log.info('change', { requestId, changeId, resource, outcome, attempts, durationMs })
    if (!stored) {
      const detail = `the change is ${outcome} at the provider, and its outcome could not be stored`
      return refuse('outcome-not-recorded', detail, { changeId, outcome })
    }
    return outcome === 'applied'
      ? ok(replyFor(asked.kind, reply, asked.readable))
      : { ok: false, problem: problemFor(failure, asked.readable) }
  } finally {
    tools.live.delete(changeId)
  }
}

/** A run that goes on alters what its intent named, and nothing that has changed since: a newer change may have done that. */
const asBegun = (tools: ChangeTools, asked: ParsedChange, { changeId }: Resumed): ParsedChange => {
  const names = Object.keys(intentOf(tools.ledger, changeId)?.fields ?? {})
  return { ...asked, sent: Object.fromEntries(names.map((name) => [name, asked.sent[name]])) }
}

/** The adapter's spec for the kind and the key's parts by name. */
export function locate(
  { adapter, connection }: Pick<ChangeTools, 'adapter' | 'connection'>,
  { kind, address }: Pick<ResourceRequest, 'kind' | 'address'>,
): Result<{ spec: KindSpec<Kind>; ref: Ref }> {
  const spec = adapter.kinds[kind] as KindSpec<Kind> | undefined
  if (!spec) return refuse('not-found', `the provider has no ${kind}s`)
  if (address.parts.length !== spec.key.length) {
    const grammar = spec.key.map((name) => `{${name}}`).join(':')
    return refuse('invalid-id', `the key of a ${kind} here is ${grammar}`)
  }
  for (const [index, name] of spec.key.entries()) {
    const fault = spec.checkKey(address.parts[index] ?? '')
    if (fault) return refuse('invalid-id', `{${name}} ${fault}`)
  }
  const ref = Object.fromEntries(spec.key.map((name, index) => [name, address.parts[index] ?? '']))
  const { account } = adapter
  const project = account && ref[account.part]
  if (project !== undefined && connection.projects && !connection.projects.includes(project))
    return refuse('not-found', 'the connection is not for this project')
  return ok({ spec, ref })
}

/** Everything before the intent: read back, compare, merge, plan. Nothing is written. */
async function prepare(tools: ChangeTools, asked: ParsedChange, resumed?: Resumed): Promise<Result<Planned>> {
  const { exchange, ledger } = tools
  const { kind, address, mode, spec, ref, sent, deadline, traceparent } = asked
  // A change that goes on was compared when it began; its own first attempt may have changed the state since.
  const ifMatch = resumed ? undefined : asked.ifMatch
  if (!spec.read && ifMatch) {
    const detail = 'the provider cannot be read, so that there is no state to compare If-Match with'
    return refuse('precondition-failed', detail)
  }
  const read = spec.read && (await readBack(spec.read, ref, exchange, deadline, traceparent))
  if (read && !read.ok) return read
  const current = read?.value
  const values = current?.values as AnyValues | undefined
  if (ifMatch && values && !ifMatch.includes('*')) {
    const tag = etagOf(tools, asked, values, ledger.resource(kind, address.id))
    if (!ifMatch.includes(tag)) {
      return refuse(
        'precondition-failed',
        'If-Match does not name the present state of the resource; read it for the tag that does',
      )
    }
  }
  // What is stored and not deployed everywhere has to be sent again to be deployed.
  const merged = merge(kind, sent, values, {
    mode,
    readable: visible(tools, asked.readable),
    resends: resumed?.earlier.undeployed,
  })
  if (!merged.ok) return merged
  const planned = { ref, current, merged: merged.value }
  if (Object.keys(merged.value.desired).length === 0) return ok(planned)
  if (!asked.allowSelf && isOwn(tools, asked, values)) {
    return refuse('self-lockout', 'the gateway itself signs in with this resource')
  }
  const write = spec.plan(ref, merged.value.desired as Values<Kind>, current)
  return write.ok ? ok({ ...planned, write: write.value }) : { ok: false, problem: toProblem(write.refusal) }
}

/** Whether the resource is what the connection signs in with, or one that its operator listed as such. */
function isOwn(
  { adapter, connection: { secrets, self } }: ChangeTools,
  { kind, address }: Pick<ResourceRequest, 'kind' | 'address'>,
  values: AnyValues | undefined,
): boolean {
  const own = secrets.clientId?.expose()
  const end = endOfId(adapter, kind, address.id)
  const isListed = self.some((id) => endOfId(adapter, kind, id) === end)
  return isListed || (own !== undefined && values?.['clientId'] === own)
}

/** What all events of one change have in common. */
type ChangeDraft = Omit<EventDraft, 'type' | 'outcome' | 'upstream'> & { changeId: string }

function describe(
  tools: ChangeTools,
  request: ChangeRequest,
  changeId: string,
  { merged, write }: Planned,
): ChangeDraft {
  const { kind, address, actor, reason, requestId } = request
  const changes = withFingerprints(kind, address.id, merged, tools.keys)
  const { kept } = merged
  const carried = [...(write?.carries ?? [])]
  const unchanged = { ...(kept.length > 0 && { kept }), ...(carried.length > 0 && { carried }) }
  return {
    changeId,
    actor,
    alias: address.alias ?? null,
    kind,
    resource: address.id,
    fields: hideChanges(changes, visible(tools, Object.keys(changes))),
    widens: merged.widens,
    // A reason may repeat the secret, and an event is never taken back.
    reason: (withoutEchoes({ reason }, merged.desired, { reason })['reason'] ?? null) as string | null,
    requestId,
    ...(Object.keys(unchanged).length > 0 && { unchanged }),
  }
}

const replyOf = (
  tools: ChangeTools,
  asked: ParsedChange,
  { changeId }: ChangeDraft,
  { merged: { desired, widens }, before }: Basis,
  { values, fields, warnings }: Pick<Conclusion, 'values' | 'fields' | 'warnings'>,
  record: ResourceRecord,
): ChangeReply => ({
  changeId,
  outcome: 'applied',
  changed: Object.keys(desired).length > 0,
  widens,
  resource: concealed(view(tools, asked, asked.spec, values, record), desired, before),
  fields,
  ...(warnings.length > 0 && { warnings }),
})

/** What was observed of the change beside its values. */
const observed = (
  { verified }: WriteResult,
  { deployment }: Pick<Conclusion, 'deployment'>,
): { deployment?: Deployment & JsonObject; verified?: boolean } => ({
  ...(verified !== undefined && { verified }),
  ...(deployment && { deployment: deployment as Deployment & JsonObject }),
})

/** What the key's next use gets. An unknown or partial change keeps its key without one: it goes on instead. */
function answerOf(
  { outcome, problem, status }: WriteResult,
  whole: { reply: ChangeReply; problem: Problem },
): StoredAnswer | 'release' | undefined {
  if (outcome === 'applied') return { reply: whole.reply }
  // A spent rate limit says "later", and a refused token says nothing of the change: the same key must be good later.
  const isPassing = problem?.slug === 'upstream-rate-limited' || status === 401
  if (outcome === 'not_sent' || (outcome === 'rejected' && isPassing)) return 'release'
  return outcome === 'rejected' ? { problem: whole.problem } : undefined
}

/** A fault of the gateway's own after the request may have left: nothing is known, and that is what is said. */
function lost(
  { log }: ChangeTools,
  { requestId }: ParsedChange,
  changeId: string,
  error: unknown,
): WriteResult {
  log.error('change lost', { requestId, changeId, error: String(error) })
  const detail = 'the gateway failed in the middle of the change; it may have been applied'
  const problem: Problem = { slug: 'outcome-unknown', detail, retryAfterSeconds: 1 }
  return { outcome: 'unknown', problem, status: null, attempts: 1 }
}

const after = (
  { applied, secretChanges }: ResourceRecord,
  { values, secretChanged }: Applied,
): ResourceRecord => ({
  applied: { ...applied, ...values },
  secretChanges: secretChanges + (secretChanged ? 1 : 0),
})

const unrecordable = () =>
  refuse('audit-unavailable', 'the change could not be recorded, so the provider was not called', {
    retryAfterSeconds: 1,
  })

async function append(
  tools: ChangeTools,
  draft: EventDraft,
  more: Partial<Entry> = {},
): Promise<Result<void>> {
  try {
    await tools.ledger.append({ connection: tools.connection.name, draft, ...more })
    return ok(undefined)
  } catch (error) {
    const { requestId, changeId, type } = draft
    tools.log.error('event not stored', { requestId, changeId, type, error: String(error) })
    return unrecordable()
  }
}

/** How long an outcome is tried to be stored before it is left to the emergency's keeping. Milliseconds. */
const OUTCOME_PATIENCE = 1000

async function recordOutcome(tools: ChangeTools, entry: Entry): Promise<boolean> {
  const { requestId, changeId, outcome } = entry.draft
  const patience = new Deadline(OUTCOME_PATIENCE)
  do {
    try {
      await tools.ledger.append(entry)
      return true
    } catch (error) {
      tools.log.error('outcome not stored yet', { requestId, changeId, outcome, error: String(error) })
    }
  } while (await patience.sleep(50))
  const kept = tools.emergency?.keep(entry) ?? false
  tools.log.error('outcome not stored', { requestId, changeId, outcome, kept })
  return false
}

import type { Entry, EventDraft, ResourceRecord } from '../ledger/types.ts'
import { Deadline } from '../lib/deadline.ts'
import { newId } from '../lib/id.ts'
import type { JsonObject } from '../lib/json.ts'
import type { Deployment, UpstreamRequest } from '../model/adapter.ts'
import type { AnyValues } from '../model/fields.ts'
import { endOfId } from '../model/one-resource.ts'
import { ok, type Problem, refuse } from '../model/problems.ts'
import { buildUrl, pathOf } from '../upstream/send.ts'
import { type Conclusion, conclude, type Basis } from './conclusion.ts'
import {
  answerOvertaken,
  consultKey,
  type KeyedRequest,
  keyOf,
  type KnownKey,
  settledReply,
  type StoredAnswer,
} from './idempotency.ts'
import { readBody } from './merge.ts'
import { settleProven } from './open-changes.ts'
import { performWrite } from './perform-write.ts'
import { asBegun, locate, prepare } from './prepare.ts'
import { append, type ChangeDraft, draftOf, isTooLong, recordOutcome, unrecordable } from './record.ts'
import { type ChangeReply, concealed, planFor, type Planned, problemFor, replyFor, view } from './reply.ts'
import type { ParsedChange, ChangeAnswer, ChangeRequest, ChangeTools } from './types.ts'
import { type WriteResult, isBlind } from './write.ts'

type Applied = NonNullable<Entry['applied']>
type Resumed = NonNullable<KnownKey['resume']>

/**
 * One change from request to reply. The order of the steps is defined here and nowhere else: every check that can
 * fail locally comes before the upstream write, the intent is durable before it, the outcome is durable before the
 * reply.
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
  const draft = draftOf(tools, asked, changeId, prepared.value)
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
    // From here on a secret may be in force, even if this process dies.
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

/** The stored answer for a replay. Unknown and partial changes have none: they are resumed instead. */
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

import type { KeyScope } from '../ledger/types.ts'
import type { AnyValues } from '../model/fields.ts'
import { ok, type Problem, refuse, type Result } from '../model/problems.ts'
import { encodedSpelling } from '../model/resource-id.ts'
import { earlierIn, intentOf, isProvable, settleProven } from './open-changes.ts'
import { readBack } from './read-back.ts'
import { type ChangeReply, concealed, problemFor, replyFor, view, visible } from './reply.ts'
import type { ParsedChange, ChangeAnswer, ChangeRequest, ChangeTools } from './types.ts'
import type { Earlier } from './write.ts'

/**
 * A request with an `Idempotency-Key`, and the keyed digest that distinguishes it from another request with the same
 * key.
 */
export interface KeyedRequest {
  /** The scope as one text. */
  name: string
  scope: KeyScope
  fingerprint: string
}

/** What is stored under a key: whole, because what the caller may read is decided again when it is replayed. */
export type StoredAnswer = { reply: ChangeReply } | { problem: Problem }

/** What to do with a request whose key is known: answer it, or go on with the change that it began. */
export type KnownKey =
  | { answer: ChangeAnswer; resume?: never }
  | { resume: { changeId: string; earlier: Earlier }; answer?: never }

export function keyOf({ keys }: ChangeTools, request: ChangeRequest): KeyedRequest | undefined {
  const { idempotencyKey: key, kind, address, actor, body, mode } = request
  if (key === undefined) return undefined
  const subject = actor.key?.startsWith('jwt:') ? actor.key : ''
  const scope = { caller: actor.caller, subject, kind, resource: address.id, key }
  const name = JSON.stringify(Object.values(scope))
  const fingerprint = keys.request([scope.caller, kind, encodedSpelling(address.id), body, mode])
  return { name, scope, fingerprint }
}

export async function consultKey(
  tools: ChangeTools,
  asked: ParsedChange,
  { scope, fingerprint }: KeyedRequest,
): Promise<KnownKey | undefined> {
  const reserved = tools.ledger.reservedKey(scope)
  if (!reserved) return undefined
  const { changeId } = reserved
  const { connection, id: resource, alias = null } = asked.address
  const denied = { connection, alias, kind: asked.kind, resource }
  if (reserved.blockedUntil !== undefined) {
    const retryAfterSeconds = Math.max(1, Math.ceil((reserved.blockedUntil - Date.now()) / 1000))
    const detail = 'the key came with another body or mode too often within an hour'
    return { answer: refuse('idempotency-key-blocked', detail, { retryAfterSeconds, denied }) }
  }
  if (reserved.fingerprint !== fingerprint) {
    // Each is a guess at a body that may hold a secret: one that is not counted gets no answer.
    if (!(await isCounted(tools, asked, scope))) return { answer: unsettled() }
    return {
      answer: refuse(
        'idempotency-key-reused',
        'the key came with another body or mode before, or before AUDIT_KEY was changed',
        { changeId, denied },
      ),
    }
  }
  const record = tools.ledger.change(changeId)
  switch (record?.state) {
    case undefined:
    case 'not_sent':
      return undefined
    case 'superseded':
      return {
        answer: refuse('superseded', 'a newer change of the resource has taken the place of this one', {
          changeId,
        }),
      }
    case 'in_flight':
      return tools.live.has(changeId)
        ? {
            answer: refuse('request-in-progress', 'the change is under way', {
              changeId,
              retryAfterSeconds: 1,
            }),
          }
        : { resume: { changeId, earlier: earlierIn(tools.ledger.story(changeId)) } }
    case 'unknown':
    case 'needs_attention':
    case 'partial':
      return { resume: { changeId, earlier: earlierIn(tools.ledger.story(changeId)) } }
    case 'applied':
    case 'rejected': {
      // Nothing but change.ts writes answers, and only of this type.
      const stored = reserved.answer as StoredAnswer | null
      const seen = visible(tools, asked.readable)
      if (stored && 'problem' in stored)
        return { answer: { ok: false, problem: problemFor(stored.problem, seen), replayed: true } }
      if (stored) return { answer: { ...ok(replyFor(asked.kind, stored.reply, seen)), replayed: true } }
      const made = await settledReply(tools, asked, changeId, record.state)
      // A read that failed is no answer to the change.
      const answer = made.ok ? ok(replyFor(asked.kind, made.value, seen)) : made
      return { answer: made.ok || record.state === 'rejected' ? { ...answer, replayed: true } : answer }
    }
  }
}

async function isCounted(tools: ChangeTools, { requestId }: ParsedChange, scope: KeyScope): Promise<boolean> {
  try {
    await tools.ledger.countMismatch(scope)
    return true
  } catch (error) {
    tools.log.error('mismatch not counted', { requestId, error: String(error) })
    return false
  }
}

/**
 * Answers for a change that a newer one may have overtaken: it is not sent again, for that could bring an older value back.
 * Reading may still prove it; otherwise it stays open.
 */
export async function answerOvertaken(
  tools: ChangeTools,
  asked: ParsedChange,
  key: KeyedRequest,
  changeId: string,
): Promise<ChangeAnswer> {
  const { spec, ref, kind, address, deadline, traceparent } = asked
  if (tools.emergency?.isDegraded()) return unsettled()
  const intent = intentOf(tools.ledger, changeId)
  if (spec.read && intent && isProvable(spec, intent)) {
    const read = await readBack(spec.read, ref, tools.exchange, deadline, traceparent)
    const values = read.ok && (read.value.values as AnyValues)
    if (values && !(await settleProven(tools, { kind, id: address.id }, spec, values))) return unsettled()
    const settled = values && (await consultKey(tools, asked, key))
    if (settled && settled.answer) return settled.answer
  }
  const state = tools.ledger.change(changeId)?.state
  return refuse(
    'superseded',
    'a newer change of the resource may have taken the place of this one, so it is not sent again; it stays open until it is settled',
    { changeId, ...(state && state !== 'in_flight' && { outcome: state }) },
  )
}

const unsettled = () =>
  refuse('audit-unavailable', 'what has become of the change could not be recorded', { retryAfterSeconds: 1 })

/**
 * The answer to a change that was settled after its request had ended: there is none stored, so it is made now.
 *
 * @param seen What was read of the resource just now; without it, it is read.
 */
export async function settledReply(
  tools: ChangeTools,
  asked: ParsedChange,
  changeId: string,
  state: 'applied' | 'rejected',
  seen?: AnyValues,
): Promise<Result<ChangeReply>> {
  const { spec, ref, kind, address, deadline, traceparent } = asked
  if (state === 'rejected') {
    return refuse('upstream-failed', 'the change was found not to have been applied', {
      changeId,
      outcome: state,
    })
  }
  const read = !seen && spec.read && (await readBack(spec.read, ref, tools.exchange, deadline, traceparent))
  if (read && !read.ok) return read
  const values = seen ?? ((read ? read.value.values : {}) as AnyValues)
  const intent = intentOf(tools.ledger, changeId)
  const record = tools.ledger.resource(kind, address.id)
  return ok({
    changeId,
    outcome: 'applied',
    changed: true,
    widens: intent?.widens ?? false,
    resource: concealed(view(tools, asked, spec, values, record), asked.sent, values),
    fields: intent?.fields ?? {},
  })
}

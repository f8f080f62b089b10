import type { Entry, EventDraft } from '../ledger/types.ts'
import { Deadline } from '../lib/deadline.ts'
import type { AnyValues, FieldChanges } from '../model/fields.ts'
import { ok, refuse, type Result } from '../model/problems.ts'
import { hideChanges, withoutEchoes } from '../model/redaction.ts'
import { withFingerprints } from './merge.ts'
import { type Planned, visible } from './reply.ts'
import type { ChangeRequest, ChangeTools, ParsedChange } from './types.ts'

/**
 * Characters of a diff and of the resource that it belongs to: an event holds the one, the stored answer to an
 * idempotency key both, and a Durable Object takes 2 MB in a row.
 */
const MAX_RECORD = 512 * 1024

/**
 * How many of them are reserved for fields that the caller may not read, where there are any: kept apart, so that
 * filling the rest reveals no length.
 */
const MAX_UNSEEN = 128 * 1024

/** Whether the diff and the resource are longer than what is kept of one change. */
export function isTooLong(
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

/** What all events of one change have in common. */
export type ChangeDraft = Omit<EventDraft, 'type' | 'outcome' | 'upstream'> & { changeId: string }

export function draftOf(
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

export const unrecordable = () =>
  refuse('audit-unavailable', 'the change could not be recorded, so the provider was not called', {
    retryAfterSeconds: 1,
  })

export async function append(
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

/** How long an outcome is tried to be stored before it is left to the emergency's keeping. */
const OUTCOME_PATIENCE_MS = 1000

export async function recordOutcome(tools: ChangeTools, entry: Entry): Promise<boolean> {
  const { requestId, changeId, outcome } = entry.draft
  const patience = new Deadline(OUTCOME_PATIENCE_MS)
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

import type { Originator, AuditEvent } from '../ledger/event.ts'
import type { ChangeRecord } from '../ledger/types.ts'
import { Deadline } from '../lib/deadline.ts'
import { newTraceparent } from '../lib/trace.ts'
import type { ChangeState } from '../model/enums.ts'
import type { AnyValues } from '../model/fields.ts'
import { endOfId } from '../model/one-resource.ts'
import { ok, refuse, type Result } from '../model/problems.ts'
import { parseId, plainSpelling } from '../model/resource-id.ts'
import { askedIn, intentOf, isOpen, isProvable, provenBy, settle } from './open-changes.ts'
import { locate } from './prepare.ts'
import { readBack } from './read-back.ts'
import type { ChangeTools } from './types.ts'

/** An operator's word on a change that the gateway could not settle. */
export interface Resolution {
  changeId: string
  outcome: 'applied' | 'rejected'
  reason: string
  actor: Originator
  requestId: string
}

/** How long an unknown change is looked at again before it needs a person. Milliseconds since its outcome. */
const UNKNOWN_PATIENCE = 60_000
/** Changes that one round looks at, and how long one of them may take. */
const ROUND = 100
const LOOK_MS = 5000

/**
 * Settles by reading back: the changes that another process left between intent and outcome, and those that ended
 * unknown. The new values prove that a change was applied. Anything else proves nothing, since a late request may
 * still land; nothing is sent again, because secrets are not stored to make that possible.
 */
export async function recover(tools: ChangeTools): Promise<void> {
  // While outcomes wait in the emergency's keeping, an open change may have one.
  if (tools.emergency?.isDegraded()) return
  const { ledger, connection } = tools
  const inState = (state: ChangeState) =>
    ledger.changes({ connections: [connection.name], states: [state], limit: ROUND }).rows
  // Apart, so that many that are unknown never keep one that is open from being looked at.
  const open = [...inState('in_flight'), ...inState('unknown')]
    .filter(({ id }) => !tools.live.has(id))
    .values()
  /** Goes on with the next as long as there is one. More at once would wait for a connection, and look at nothing. */
  async function look(): Promise<void> {
    for (const record of open) {
      const line = `${record.kind} ${endOfId(tools.adapter, record.kind, record.resource)}`
      try {
        await tools.queue.run(line, null, new Deadline(LOOK_MS), () => settleOne(tools, record))
      } catch (error) {
        tools.log.error('change not settled', { changeId: record.id, error: String(error) })
      }
    }
  }
  await Promise.all(Array.from({ length: tools.looksAtOnce }, look))
}

async function settleOne(tools: ChangeTools, { id }: ChangeRecord): Promise<void> {
  // Read again inside the line: a newer change may have superseded it, or its own key may have gone on with it.
  const record = tools.ledger.change(id)
  if (!record || tools.live.has(id) || (record.state !== 'in_flight' && record.state !== 'unknown')) return
  const intent = intentOf(tools.ledger, id)
  if (!intent) return
  const proven = await readProof(tools, intent)
  // The next round asks again: the outcome must not depend on a timeout of ours.
  if (proven === 'later') return
  if (proven) return settle(tools, intent, { type: 'settled', outcome: 'applied', values: proven })
  const waiting = record.state === 'unknown' && Date.now() - Date.parse(record.since) < UNKNOWN_PATIENCE
  if (!waiting) await settle(tools, intent, { type: 'settled', outcome: 'needs_attention' })
}

/** What is in force of the change, if reading back proves that everything it asked for is there. */
async function readProof(tools: ChangeTools, intent: AuditEvent): Promise<AnyValues | undefined | 'later'> {
  const { kind, resource } = intent
  const address = resource === null ? undefined : parseId(plainSpelling(resource))
  if (kind === null || !address?.ok) return undefined
  const found = locate(tools, { kind, address: address.value })
  if (!found.ok) return undefined
  const { spec, ref } = found.value
  if (!spec.read || !isProvable(spec, intent)) return undefined
  const trace = newTraceparent()
  const read = await readBack(spec.read, ref, tools.exchange, new Deadline(LOOK_MS), trace)
  if (!read.ok) return read.later ? 'later' : undefined
  return provenBy(read.value.values as AnyValues, kind, spec, tools.ledger.story(intent.changeId ?? ''))
}

/**
 * Settles a change by hand, in the resource's queue. Only open changes can be resolved; repeating the same resolution
 * is a no-op.
 */
export async function resolve(tools: ChangeTools, resolution: Resolution): Promise<Result<void>> {
  const { changeId, outcome } = resolution
  const known = tools.ledger.change(changeId)
  if (!known) return refuse('not-found', 'there is no such change')
  if (tools.live.has(changeId)) return refuse('request-in-progress', 'the change is under way', { changeId })
  const line = `${known.kind} ${endOfId(tools.adapter, known.kind, known.resource)}`
  return tools.queue.run(line, null, new Deadline(LOOK_MS), async () => {
    const record = tools.ledger.change(changeId)
    const intent = intentOf(tools.ledger, changeId)
    if (!record || !intent) return refuse('not-found', 'there is no such change')
    if (record.state === outcome) return ok(undefined)
    if (!isOpen(record.state)) {
      return refuse('superseded', `the change is settled already: it is ${record.state}`, { changeId })
    }
    // What the emergency keeps may be this very change's outcome.
    if (tools.emergency?.isDegraded()) return unrecordable()
    try {
      const values = outcome === 'applied' ? askedIn(intent) : {}
      await settle(tools, intent, { type: 'resolved', outcome, values, by: resolution })
      return ok(undefined)
    } catch (error) {
      tools.log.error('event not stored', { changeId, type: 'resolved', error: String(error) })
      return unrecordable()
    }
  })
}

const unrecordable = () =>
  refuse('audit-unavailable', 'the word could not be recorded', { retryAfterSeconds: 1 })

import type { ConnectionConfig } from '../config/document.ts'
import type { Originator, AuditEvent } from '../ledger/event.ts'
import type { Ledger } from '../ledger/types.ts'
import { isObject, type JsonObject } from '../lib/json.ts'
import type { Log } from '../lib/log.ts'
import type { KindSpec } from '../model/adapter.ts'
import { type ChangeState, type Kind, openStates, type Outcome } from '../model/enums.ts'
import type { AnyValues, Value } from '../model/fields.ts'
import { isHidden } from '../model/redaction.ts'
import { plainSpelling } from '../model/resource-id.ts'
import { visible } from './reply.ts'
import { type Earlier, provesAll } from './write.ts'

// Open changes, which may or may not be in force: what proves one, and how it is settled.

interface SettlingTools {
  connection: ConnectionConfig
  ledger: Ledger
  log: Log
}

export const intentOf = (ledger: Ledger, changeId: string): AuditEvent | undefined =>
  ledger.story(changeId).find(({ type }) => type === 'intent')

/** What the change was to set, as far as the audit holds it: no secret, and nothing that the connection hides. */
export const askedIn = ({ fields }: AuditEvent): AnyValues =>
  Object.fromEntries(
    Object.entries(fields).flatMap(([name, { to }]) =>
      to === undefined || isHidden(to) ? [] : [[name, to as Value]],
    ),
  )

/** Whether a read can show that all of the change is in force. */
export const isProvable = (spec: KindSpec<Kind>, intent: AuditEvent): boolean =>
  spec.read !== undefined &&
  Object.keys(intent.fields).length > 0 &&
  Object.keys(askedIn(intent)).length === Object.keys(intent.fields).length

/**
 * Of the values that were read those that the change has set, if all of them are what it asked for. That they are stored
 * does not prove that they are deployed.
 */
export function provenBy(
  values: AnyValues,
  kind: Kind,
  spec: KindSpec<Kind>,
  story: readonly AuditEvent[],
): AnyValues | undefined {
  const intent = story.find(({ type }) => type === 'intent')
  if (!intent || !isProvable(spec, intent) || earlierIn(story).undeployed) return undefined
  const asked = askedIn(intent)
  const before = Object.fromEntries(Object.entries(intent.fields).map(([name, { from }]) => [name, from]))
  if (!provesAll(kind, spec.fields, asked, values, before)) return undefined
  return Object.fromEntries(Object.keys(asked).map((name) => [name, values[name]]))
}

export const isOpen = (state: ChangeState | undefined): boolean =>
  state !== undefined && (openStates as readonly ChangeState[]).includes(state)

/** A read settles what it proves of the resource's open changes. In the resource's line; false when it could not be recorded. */
export async function settleProven(
  tools: SettlingTools,
  { kind, id, except }: { kind: Kind; id: string; except?: string },
  spec: KindSpec<Kind>,
  values: AnyValues,
): Promise<boolean> {
  const { ledger, connection, log } = tools
  try {
    const stories = ledger.open(connection.name, kind, id).map((changeId) => ledger.story(changeId))
    // The oldest first: a newer one, once applied, may take the place of what is open then.
    for (const story of stories.toSorted(([a], [b]) => (a?.seq ?? 0) - (b?.seq ?? 0))) {
      const intent = story.find(({ type }) => type === 'intent')
      const changeId = intent?.changeId
      if (!intent || !changeId || changeId === except || !isOpen(ledger.change(changeId)?.state)) continue
      const proven = provenBy(values, kind, spec, story)
      if (proven) await settle(tools, intent, { type: 'settled', outcome: 'applied', values: proven })
    }
    return true
  } catch (error) {
    log.error('open changes not settled', { resource: id, error: String(error) })
    return false
  }
}

/** What an open change has come to, by its events: once partial, it is that until it is applied. */
export function earlierIn(story: readonly AuditEvent[]): Earlier {
  const told = story.map(({ outcome, upstream }) => ({
    outcome,
    ...(isObject(upstream) ? (upstream as { notTaken?: string[]; undeployed?: true; shown?: string }) : {}),
  }))
  const notTaken = told.findLast((event) => event.notTaken)?.notTaken
  const isPartial = (event: (typeof told)[number]) => event.outcome === 'partial' || event.shown === 'partial'
  // A partial event that names no field is one of a deployment.
  const undeployed = told.some((event) => event.undeployed || (isPartial(event) && !event.notTaken))
  if (!undeployed && !told.some(isPartial)) return { state: 'unknown' }
  return { state: 'partial', ...(undeployed && { undeployed }), ...(notTaken && { notTaken }) }
}

/** Records the outcome of an open change, settled by a person or by the gateway itself. */
export async function settle(
  { connection, ledger, log }: SettlingTools,
  intent: AuditEvent,
  end: {
    type: 'settled' | 'resolved'
    outcome: Outcome
    /** That are in force. */
    values?: AnyValues
    by?: { actor: Originator; reason: string; requestId: string }
  },
): Promise<void> {
  const { changeId, alias, kind, fields, widens, requestId } = intent
  const resource = intent.resource && plainSpelling(intent.resource)
  const { type, outcome, values = {}, by } = end
  const shown = visible({ connection }, Object.keys(values)).map((name) => [name, values[name]])
  await ledger.append({
    connection: connection.name,
    draft: {
      type,
      changeId,
      actor: by?.actor ?? null,
      alias,
      kind,
      resource,
      fields: {},
      widens,
      reason: by?.reason ?? null,
      requestId: by?.requestId ?? requestId,
      outcome,
      upstream: null,
    },
    applied: {
      values: Object.fromEntries(shown) as JsonObject,
      secretChanged:
        outcome !== 'rejected' && Object.values(fields).some(({ fingerprint }) => fingerprint !== undefined),
    },
  })
  log.warn('change settled', { changeId, resource, outcome, by: by?.actor.caller ?? 'gateway' })
}

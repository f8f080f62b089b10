import type { KindSpec } from './adapter.ts'
import type { ConnectionConfig } from './config.ts'
import type { Actor as Originator, AuditEvent, Outcome } from './ledger/event.ts'
import type { ChangeState, Ledger } from './ledger/ledger.ts'
import { isObject, type JsonObject } from './json.ts'
import type { Log } from './log.ts'
import { HIDDEN } from './hidden.ts'
import type { AnyValues, Kind, Value } from './model.ts'
import { visible } from './reply.ts'
import { areTaken, type Earlier } from './write.ts'

/** A change that is not known to be in force, nor known not to be: what proves it, and how it is settled. */

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
      to === undefined || to === HIDDEN ? [] : [[name, to as Value]],
    ),
  )

/** Whether reading can tell that all of the change is in force. */
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
  const earlier = earlierIn(story)
  if (!intent || !isProvable(spec, intent) || ('undeployed' in earlier && earlier.undeployed))
    return undefined
  const asked = askedIn(intent)
  if (!areTaken(kind, spec.fields, asked, values)) return undefined
  return Object.fromEntries(Object.keys(asked).map((name) => [name, values[name]]))
}

const isOpen = (state: ChangeState | undefined): boolean =>
  state === 'in_flight' || state === 'unknown' || state === 'partial' || state === 'needs_attention'

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

/** What an open change has come to, by its events. */
export function earlierIn(story: readonly AuditEvent[]): Earlier {
  const partial = story.findLast(({ outcome }) => outcome === 'partial')
  if (!partial) return { state: 'unknown' }
  const upstream = isObject(partial.upstream) ? partial.upstream : {}
  const notTaken = upstream['notTaken'] as string[] | undefined
  // Before there was `undeployed`, nothing but a deployment was partial.
  const undeployed = upstream['undeployed'] === true || notTaken === undefined
  return { state: 'partial', undeployed, ...(notTaken && { notTaken }) }
}

/** Records what has become of an open change. By whom: a person, or the gateway itself. */
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
  const { changeId, alias, kind, resource, fields, widens, requestId } = intent
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

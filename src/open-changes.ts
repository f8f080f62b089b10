import type { KindSpec } from './adapter.ts'
import type { ConnectionConfig } from './config.ts'
import type { Actor as Originator, AuditEvent, Outcome } from './ledger/event.ts'
import type { Ledger } from './ledger/ledger.ts'
import { isObject, type JsonObject } from './json.ts'
import type { Log } from './log.ts'
import { HIDDEN } from './hidden.ts'
import type { AnyValues, Kind, Value } from './model.ts'
import { visible } from './reply.ts'
import { areTaken } from './write.ts'

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

/** Of the values that were read those that the change has set, if all of them are what it asked for. */
export function provenBy(
  values: AnyValues,
  kind: Kind,
  spec: KindSpec<Kind>,
  intent: AuditEvent,
): AnyValues | undefined {
  if (!isProvable(spec, intent)) return undefined
  const asked = askedIn(intent)
  if (!areTaken(kind, spec.fields, asked, values)) return undefined
  return Object.fromEntries(Object.keys(asked).map((name) => [name, values[name]]))
}

/** A read that was made for a newer change settles what it proves of older ones. In the resource's line. */
export async function settleProven(
  tools: SettlingTools,
  { kind, id, except }: { kind: Kind; id: string; except?: string },
  spec: KindSpec<Kind>,
  values: AnyValues,
): Promise<void> {
  for (const changeId of tools.ledger.open(tools.connection.name, kind, id)) {
    if (changeId === except) continue
    const story = tools.ledger.story(changeId)
    const intent = story.find(({ type }) => type === 'intent')
    const proven = intent && provenBy(values, kind, spec, intent)
    if (!proven || isUndeployed(story)) continue
    await settle(tools, intent, { type: 'settled', outcome: 'applied', values: proven })
  }
}

/** Partial for its deployment: values that are stored do not prove that they are in force. */
function isUndeployed(story: readonly AuditEvent[]): boolean {
  const last = story.findLast(({ outcome }) => outcome !== null)
  return last?.outcome === 'partial' && !(isObject(last.upstream) && 'notTaken' in last.upstream)
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

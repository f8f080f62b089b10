import { and, eq, getTableColumns, gt, inArray, isNull, or, type SQL, sql } from 'drizzle-orm'
import { type ChangeState, type Kind, openStates } from '../model/enums.ts'
import type { EndOf } from '../model/one-resource.ts'
import { encodedSpelling } from '../model/resource-id.ts'
import type { AuditEvent } from './event.ts'
import { audit, changes } from './schema.ts'
import { place, placeholders } from './statements.ts'
import type { ChangeRecord, Db, EventDraft } from './types.ts'

/** What a change was to alter, and all that stood in its request, by the event that began it. */
interface Beginning {
  position: number
  altered: string[]
  written: ReadonlySet<string>
}

/** States that nothing follows any more. */
const FINAL: ReadonlySet<ChangeState> = new Set(['applied', 'rejected', 'superseded'])

/** The state of each change, projected from its events. Writing belongs inside of a transaction. */
export interface ChangeStates {
  find(id: string): ChangeRecord | undefined
  /** Position of the event that began the change. */
  begun(changeId: string): number | undefined
  /** The change's state after the event; may supersede others. */
  project(event: AuditEvent): void
  /** Ids of the resource's open changes. */
  open(connection: string, kind: Kind, resource: string): string[]
  isOvertaken(changeId: string): boolean
}

export function openChangeStates(
  db: Db,
  endOf: EndOf,
  {
    append,
    settled,
  }: {
    append(connection: string, draft: EventDraft): AuditEvent
    /** Nothing follows any more. */
    settled(changeId: string): void
  },
): ChangeStates {
  /** No index is of use, and none is wanted: by resource every settled change would be read. */
  const endsWith = (column: typeof changes.resource | typeof audit.resource, name: string): SQL =>
    sql`substr(${column}, -length(${place(name)})) = ${place(name)}`

  const insertChange = db
    .insert(changes)
    .values(placeholders(getTableColumns(changes)))
    .prepare()
  const openChanges = db
    .select({ id: changes.id, resource: changes.resource })
    .from(changes)
    .where(
      and(
        eq(changes.connection, place('connection')),
        inArray(changes.state, openStates),
        endsWith(changes.resource, 'end'),
        eq(changes.kind, place('kind')),
      ),
    )
    .prepare()
  const firstEvent = db
    .select({ position: audit.position, fields: audit.fields, unchanged: audit.unchanged })
    .from(audit)
    .where(eq(audit.changeId, place('changeId')))
    .orderBy(audit.position)
    .limit(1)
    .prepare()
  /** Whether the JSON has any of the names: as the name of a member, or as an element. */
  const hasAny = (json: SQL | typeof audit.fields, as: SQL) =>
    sql`EXISTS (SELECT 1 FROM json_each(${json}) AS own WHERE ${as} IN (SELECT value FROM json_each(${place('names')})))`
  const overtakingWhere = (ofResource: SQL | undefined) =>
    db
      .select({ id: changes.id })
      .from(audit)
      .innerJoin(changes, eq(changes.id, audit.changeId))
      .where(
        and(
          ofResource,
          eq(audit.kind, place('kind')),
          gt(audit.position, place('position')),
          // What begins a change: an intent, or the outcome of one that had nothing to write.
          or(eq(audit.type, 'intent'), and(eq(audit.type, 'outcome'), isNull(audit.upstream))),
          // One that a person called rejected may have been found partly in force before.
          or(
            inArray(changes.state, ['applied', ...openStates]),
            sql`EXISTS (SELECT 1 FROM ${audit} AS found WHERE found.change_id = ${changes.id} AND found.outcome = 'partial')`,
          ),
          or(
            hasAny(audit.fields, sql`own.key`),
            hasAny(sql`${audit.unchanged} ->> '$.kept'`, sql`own.value`),
            hasAny(sql`${audit.unchanged} ->> '$.carried'`, sql`own.value`),
          ),
        ),
      )
      .limit(1)
      .prepare()
  // Events from before ids became plain text have them encoded.
  const overtaking = overtakingWhere(inArray(audit.resource, [place('end'), place('encoded')]))
  const overtakingByEnd = overtakingWhere(
    and(
      eq(audit.connection, place('connection')),
      or(endsWith(audit.resource, 'end'), endsWith(audit.resource, 'encoded')),
    ),
  )
  const changeRow = db
    .select()
    .from(changes)
    .where(eq(changes.id, place('id')))
    .prepare()
  const moveChange = db
    .update(changes)
    .set({ state: sql`${place('state')}`, since: sql`${place('since')}` })
    .where(eq(changes.id, place('id')))
    .prepare()

  function beginningOf(changeId: string): Beginning | undefined {
    const event = firstEvent.get({ changeId })
    if (!event) return undefined
    const { carried = [] } = JSON.parse(event.unchanged ?? '{}') as NonNullable<AuditEvent['unchanged']>
    const altered = Object.keys(JSON.parse(event.fields) as object)
    return { position: event.position, altered, written: new Set([...altered, ...carried]) }
  }

  /** The change's state after the event. */
  function project(event: AuditEvent): void {
    const { changeId, kind, resource: id, connection, at } = event
    if (changeId === null || kind === null || id === null) return
    const state = event.outcome ?? 'in_flight'
    const isNoOp = event.type === 'outcome' && event.upstream === null
    if (event.type === 'intent' || isNoOp) {
      insertChange.run({
        id: changeId,
        connection,
        kind,
        resource: id,
        actor: event.actor?.caller ?? null,
        state,
        since: at,
      })
      return
    }
    moveChange.run({ id: changeId, state, since: at })
    if (FINAL.has(state)) settled(changeId)
    if (state === 'applied') supersede({ changeId, kind, id, event })
  }

  /** An applied change takes the place of open ones that began before it, where it wrote every field of theirs. */
  function supersede(by: { changeId: string; kind: Kind; id: string; event: AuditEvent }): void {
    const { changeId, kind, id, event } = by
    const { unchanged: _, ...common } = event
    const end = endOf(event.connection, kind, id)
    const others = openChanges.all({ connection: event.connection, end, kind })
    if (others.length === 0) return
    const own = beginningOf(changeId)
    if (!own) return
    // What this run has sent; a person speaks of the first one; what a read proves, it proves of what was to be altered.
    const carried = event.unchanged?.carried ?? []
    const sent = event.type === 'outcome' ? [...Object.keys(event.fields), ...carried] : own.altered
    const written = event.type === 'resolved' ? own.written : new Set(sent)
    for (const other of others) {
      const older = beginningOf(other.id)
      if (!older || older.position >= own.position) continue
      if (!older.altered.every((name) => written.has(name))) continue
      const superseded = append(event.connection, {
        ...common,
        type: 'settled',
        changeId: other.id,
        resource: other.resource,
        fields: {},
        widens: false,
        outcome: 'superseded',
        upstream: { supersededBy: changeId },
      })
      settled(other.id)
      moveChange.run({ id: other.id, state: 'superseded', since: superseded.at })
    }
  }

  return {
    find: (id) => changeRow.get({ id }),
    begun: (changeId) => firstEvent.get({ changeId })?.position,
    project,
    open: (connection, kind, id) =>
      openChanges.all({ connection, kind, end: endOf(connection, kind, id) }).map((change) => change.id),

    isOvertaken(changeId) {
      const own = beginningOf(changeId)
      const row = changeRow.get({ id: changeId })
      if (!own || !row) return false
      const { kind, connection, resource: id } = row
      const end = endOf(connection, kind, id)
      const place = { kind, position: own.position, names: JSON.stringify(own.altered) }
      const found =
        end === id
          ? overtaking.get({ ...place, end, encoded: encodedSpelling(id) })
          : overtakingByEnd.get({ ...place, connection, end, encoded: encodedSpelling(end) })
      return found !== undefined
    },
  }
}

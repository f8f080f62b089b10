import { and, eq, getTableColumns, sql } from 'drizzle-orm'
import type { JsonObject } from '../lib/json.ts'
import type { Kind } from '../model/enums.ts'
import type { EndOf } from '../model/one-resource.ts'
import { resources } from './schema.ts'
import { place, placeholders } from './statements.ts'
import type { Db, Entry, EventDraft, ResourceRecord } from './types.ts'

/** What the gateway knows of resources by itself. Writing belongs inside of a transaction. */
export interface Resources {
  find(kind: Kind, id: string): ResourceRecord
  /** Keeps what a change has put in force. `begun`: the position of the event that began it, read only where it is needed. */
  apply(draft: EventDraft, applied: NonNullable<Entry['applied']>, begun: () => number): void
}

export function openResources(db: Db, endOf: EndOf): Resources {
  const resourceRow = db
    .select()
    .from(resources)
    .where(and(eq(resources.kind, place('kind')), eq(resources.resource, place('resource'))))
    .prepare()
  const insertResource = db
    .insert(resources)
    .values(placeholders(getTableColumns(resources)))
    .onConflictDoUpdate({
      target: [resources.kind, resources.resource],
      set: {
        applied: sql`excluded.applied`,
        setBy: sql`excluded.set_by`,
        secretChanges: sql`excluded.secret_changes`,
      },
    })
    .prepare()
  type Row = ResourceRecord & { setBy: Record<string, number> }
  function rowOf(kind: Kind, key: string): Row {
    const row = resourceRow.get({ kind, resource: key })
    return row
      ? {
          applied: JSON.parse(row.applied) as JsonObject,
          setBy: JSON.parse(row.setBy) as Record<string, number>,
          secretChanges: row.secretChanges,
        }
      : { applied: {}, setBy: {}, secretChanges: 0 }
  }

  /** Under which a resource is kept that has several ids: no id has a slash. */
  function keyOf(kind: Kind, id: string): string {
    const [connection = ''] = id.split(':')
    const end = endOf(connection, kind, id)
    return end === id ? id : `${connection}/${end}`
  }

  return {
    find(kind: Kind, id: string): ResourceRecord {
      const key = keyOf(kind, id)
      const { applied, secretChanges } = rowOf(kind, key)
      if (key === id) return { applied, secretChanges }
      // What was kept under the id, before its resource was known to have others.
      const earlier = rowOf(kind, id)
      return {
        applied: { ...earlier.applied, ...applied },
        secretChanges: earlier.secretChanges + secretChanges,
      }
    },

    apply(
      { type, kind, resource: id, changeId }: EventDraft,
      { values, secretChanged, secretKept }: NonNullable<Entry['applied']>,
      begun: () => number,
    ): void {
      if (kind === null || id === null || changeId === null) return
      if (Object.keys(values).length === 0 && !secretChanged && !secretKept) return
      const key = keyOf(kind, id)
      const before = rowOf(kind, key)
      const position = begun()
      const isNews = (name: string) => type === 'outcome' || (before.setBy[name] ?? 0) <= position
      const newer = Object.entries(values).filter(([name]) => isNews(name))
      const setBy = Object.fromEntries(newer.map(([name]) => [name, position]))
      insertResource.run({
        kind,
        resource: key,
        applied: JSON.stringify({ ...before.applied, ...Object.fromEntries(newer) }),
        setBy: JSON.stringify({ ...before.setBy, ...setBy }),
        secretChanges: before.secretChanges + (secretChanged ? 1 : 0) - (secretKept ? 1 : 0),
      })
    },
  }
}

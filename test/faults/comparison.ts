import Database from 'better-sqlite3'
import { drizzle } from 'drizzle-orm/better-sqlite3'
import { type AuditEvent, GENESIS, hashOf, toEvent } from '../../src/ledger/event.ts'
import * as schema from '../../src/ledger/schema.ts'
import type { Put } from '../harness/clients.ts'
import type { Json } from '../harness/sandbox-calls.ts'

/** The whole audit, chain after chain, as another process reads it. On workerd each chain has a database of its own. */
export const auditIn = (...databases: string[]): AuditEvent[] => databases.flatMap(chainsIn)

function chainsIn(database: string): AuditEvent[] {
  const sqlite = new Database(database, { readonly: true })
  try {
    const { audit } = schema
    return drizzle(sqlite, { schema })
      .select()
      .from(audit)
      .orderBy(audit.connection, audit.seq)
      .all()
      .map(toEvent)
  } finally {
    sqlite.close()
  }
}

/** Faults of the chains: a gap, a break, or an event that is not what was hashed. */
export function brokenLinks(events: readonly AuditEvent[]): string[] {
  const faults: string[] = []
  for (const [connection, chain] of Map.groupBy(events, (event) => event.connection)) {
    let previous = GENESIS
    for (const [index, event] of chain.entries()) {
      const at = `${connection} ${event.seq}`
      if (event.seq !== index + 1) faults.push(`${at} follows ${index}`)
      if (event.previous !== previous) faults.push(`${at} is not chained to the one before`)
      if (event.hash !== hashOf(event)) faults.push(`${at} is not what was hashed`)
      previous = event.hash
    }
  }
  return faults
}

/** One change as its events tell it. */
export interface Story {
  changeId: string
  events: AuditEvent[]
  /** `in_flight`, or the last outcome. */
  state: string
  /** Under which its requests went to the provider. */
  traces: Set<string>
}

const traceOf = ({ upstream }: AuditEvent): string | undefined => (upstream as Json)?.traceparent

/** Whether the event stands before a request to the provider. */
const announces = ({ type }: AuditEvent): boolean => type === 'intent' || type === 'attempt'

export function storiesOf(events: readonly AuditEvent[]): Map<string, Story> {
  const stories = new Map<string, Story>()
  for (const event of events) {
    const { changeId } = event
    if (changeId === null) continue
    const story = stories.get(changeId) ?? { changeId, events: [], state: 'in_flight', traces: new Set() }
    story.events.push(event)
    story.state = event.outcome ?? 'in_flight'
    const trace = announces(event) ? traceOf(event) : undefined
    if (trace !== undefined) story.traces.add(trace)
    stories.set(changeId, story)
  }
  return stories
}

/** What a provider applied without an event that announces it, or before that event. */
export function unannounced(events: readonly AuditEvent[], applied: readonly Json[]): string[] {
  const announcedAt = new Map<string, string>()
  for (const event of events) {
    const trace = announces(event) ? traceOf(event) : undefined
    if (trace !== undefined && !announcedAt.has(trace)) announcedAt.set(trace, event.at)
  }
  return applied.flatMap(({ id, traceparent, at }) => {
    const announced = announcedAt.get(traceparent)
    if (announced === undefined) return [`${id} was changed under ${traceparent} without an intent`]
    return announced > at ? [`${id} was changed at ${at}, before its intent of ${announced}`] : []
  })
}

/** Settled states that the providers contradict. `unknown`, `needs_attention` and `superseded` claim nothing. */
export function contradicted(stories: Iterable<Story>, applied: readonly Json[]): string[] {
  const traces = new Set(applied.map(({ traceparent }) => traceparent))
  return [...stories].flatMap(({ changeId, state, traces: own }) => {
    if (own.size === 0) return [] // Nothing was to be written.
    const happened = [...own].some((trace) => traces.has(trace))
    const claimed = { applied: true, partial: true, rejected: false, not_sent: false }[state]
    return claimed === undefined || claimed === happened
      ? []
      : [`${changeId} is ${state} and was ${happened ? '' : 'not '}applied`]
  })
}

/** Changes that a client was told of with 200, and that the audit lacks or tells otherwise. */
export function forgotten(stories: ReadonlyMap<string, Story>, puts: readonly Put[]): string[] {
  return puts.flatMap(({ trace, reply }) => {
    if (reply?.status !== 200) return []
    const { changeId } = reply.body
    const state = stories.get(changeId)?.state
    return state === 'applied' ? [] : [`${changeId} of ${trace} was acknowledged and is ${state ?? 'absent'}`]
  })
}

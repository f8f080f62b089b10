import type { ConnectionConfig } from '../config/document.ts'
import type { ResourceRecord } from '../ledger/types.ts'
import type { Json } from '../lib/json.ts'
import type { AuditKeys } from '../lib/keyed-digests.ts'
import { Secret } from '../lib/secret.ts'
import type { Current, Deployment, KindSpec, Ref, UpstreamRequest } from '../model/adapter.ts'
import type { Kind } from '../model/enums.ts'
import { type AnyValues, type FieldChanges, type Values } from '../model/fields.ts'
import type { Problem } from '../model/problems.ts'
import { HIDDEN, hide, hideChanges, widensFor, withoutEchoes } from '../model/redaction.ts'
import type { ResourceAddress } from '../model/resource-id.ts'
import { legibleOf, Unreadable } from '../model/unreadable.ts'
import { buildUrl, pathOf } from '../upstream/send.ts'
import { etagOf } from './etag.ts'
import type { Merged } from './merge.ts'

/** A resource in a reply: its values are beside these members. */
export interface ResourceView {
  id: string
  connection: string
  provider: string
  readable: boolean
  etag?: string
  /** Names of fields whose value at the provider cannot be used; they are null. */
  unreadable?: string[]
  [field: string]: unknown
}
export interface ChangeReply {
  changeId: string
  outcome: 'applied'
  changed: boolean
  widens: boolean | typeof HIDDEN
  resource: ResourceView
  fields: FieldChanges
  /**
   * Whether requested fields that the provider's answer left out were read back and found in force; absent where it
   * reported all.
   */
  verified?: boolean
  warnings?: string[]
  deployment?: Deployment
  upstream?: { method: string; status: number | null; attempts: number; durationMs: number }
}
export interface PlanReply {
  plan: {
    request: { method: string; path: string; headers: Record<string, string>; body: Json } | null
    fields: FieldChanges
    changed: boolean
    widens: boolean | typeof HIDDEN
    warnings: string[]
  }
}

/** What a reply is made with. */
export interface ReplyTools {
  connection: ConnectionConfig
  keys: AuditKeys
}

/** Which resource a reply is about. */
export interface Subject {
  kind: Kind
  address: ResourceAddress
}

/** Names of fields that may be shown or stored at all, whoever the caller is. */
export const visible = ({ connection }: Pick<ReplyTools, 'connection'>, names: readonly string[]): string[] =>
  names.filter((name) => name !== 'metadata' || !connection.hideMetadata)

/**
 * The resource with everything that may be shown of it. `known` are its values where the provider can be read;
 * elsewhere those in the gateway's own `record` are.
 */
export function view(
  tools: ReplyTools,
  subject: Subject,
  spec: KindSpec<Kind>,
  known: AnyValues,
  record: ResourceRecord,
): ResourceView {
  const { connection } = tools
  const values = spec.read ? known : (record.applied as AnyValues)
  const shown = Object.fromEntries(Object.entries(values).filter(([, value]) => !(value instanceof Secret)))
  const unreadable = Object.keys(shown).filter((name) => shown[name] instanceof Unreadable)
  const told = Object.fromEntries(
    Object.entries(shown).map(([name, value]) => [name, value instanceof Unreadable ? null : value]),
  )
  return {
    id: subject.address.id,
    connection: connection.name,
    provider: connection.provider,
    readable: spec.read !== undefined,
    ...(spec.read && { etag: etagOf(tools, subject, shown, record) }),
    ...(unreadable.length > 0 && { unreadable }),
    ...hide(told, visible(tools, Object.keys(told))),
  }
}

/** The resource with other values of its fields; a field that is hidden now is not named as unreadable. */
function withValues(resource: ResourceView, change: (values: AnyValues) => AnyValues): ResourceView {
  const { id, connection, provider, readable, etag, unreadable, ...values } = resource
  const changed = change(values as AnyValues)
  const named = unreadable?.filter((name) => changed[name] === null) ?? []
  return {
    id,
    connection,
    provider,
    readable,
    ...(etag !== undefined && { etag }),
    ...(named.length > 0 && { unreadable: named }),
    ...changed,
  }
}

/** The resource without what would give a secret of the request away. Its tag stays that of the values as they are. */
export const concealed = (resource: ResourceView, asked: AnyValues, before?: AnyValues): ResourceView =>
  withValues(resource, (values) => withoutEchoes(values, asked, before))

/** The resource as a caller may see it: fields that it may not read are `[hidden]`. */
export const viewFor = (resource: ResourceView, readable: readonly string[]): ResourceView =>
  withValues(resource, (values) => hide(values, readable))

const shownWidens = (kind: Kind, changes: FieldChanges, widens: boolean, readable: readonly string[]) =>
  widensFor(kind, Object.keys(changes), widens, (name) => readable.includes(name))

/** The reply as a caller may see it. It is kept whole, because rights may change before it is replayed. */
export const replyFor = (kind: Kind, reply: ChangeReply, readable: readonly string[]): ChangeReply => ({
  ...reply,
  widens: shownWidens(kind, reply.fields, reply.widens === true, readable),
  resource: viewFor(reply.resource, readable),
  fields: hideChanges(reply.fields, readable),
})

/** The problem as a caller may see it. It is kept whole too. */
export const problemFor = (problem: Problem, readable: readonly string[]): Problem =>
  problem.fields ? { ...problem, fields: hideChanges(problem.fields, readable) } : problem

/** A change that was looked at and not made. */
export interface Planned {
  ref: Ref
  current: Current<Kind> | undefined
  merged: Merged
  /** Absent when nothing is left to write. */
  write?: UpstreamRequest
}

/** The plan that a dry run answers. What the caller may not read is replaced before the request is built again. */
export function planFor(
  tools: ReplyTools,
  kind: Kind,
  spec: KindSpec<Kind>,
  { ref, current, merged, write }: Planned,
  readable: readonly string[],
): PlanReply {
  const seen = visible(tools, readable)
  const before = current?.values as AnyValues | undefined
  const conceal = (values: AnyValues) => hide(withoutEchoes(values, merged.desired, before), seen)
  const shown =
    write &&
    spec.plan(
      ref,
      conceal(merged.desired) as Values<Kind>,
      current && {
        values: conceal(current.values as AnyValues) as Values<Kind>,
        ...(current.carry && { carry: conceal(current.carry) as Record<string, Json> }),
      },
    )
  const url = write && buildUrl(tools.connection.baseUrl, write)
  const { auth } = tools.connection
  const widens = shownWidens(kind, merged.changes, merged.widens, seen)
  const signIn = auth.scheme === 'header' ? auth.header : 'Authorization'
  const warnings = [
    ...(spec.read ? [] : ['the provider cannot be read: whether anything would change is not known']),
    ...(write && widens === true ? ['the change widens access'] : []),
  ]
  return {
    plan: {
      request:
        shown?.ok && url
          ? {
              method: shown.value.method,
              path: pathOf(url),
              headers: { ...shown.value.headers, [signIn.toLowerCase()]: '[secret]' },
              // A secret serializes as `[secret]`; a number that cannot be shown exactly is not shown.
              body: legibleOf(JSON.parse(JSON.stringify(shown.value.body ?? null))) ?? null,
            }
          : null,
      fields: hideChanges(merged.changes, seen),
      changed: write !== undefined,
      widens,
      warnings,
    },
  }
}

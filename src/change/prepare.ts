import type { KindSpec, Ref } from '../model/adapter.ts'
import type { Kind } from '../model/enums.ts'
import type { AnyValues, Values } from '../model/fields.ts'
import { endOfId } from '../model/one-resource.ts'
import { ok, refuse, type Result } from '../model/problems.ts'
import { etagOf } from './etag.ts'
import type { KnownKey } from './idempotency.ts'
import { merge } from './merge.ts'
import { intentOf } from './open-changes.ts'
import { readBack } from './read-back.ts'
import { type Planned, visible } from './reply.ts'
import { toProblem } from './retry.ts'
import type { ChangeTools, ParsedChange, ResourceRequest } from './types.ts'

type Resumed = NonNullable<KnownKey['resume']>

/** A run that goes on alters what its intent named, and nothing that has changed since: a newer change may have done that. */
export const asBegun = (tools: ChangeTools, asked: ParsedChange, { changeId }: Resumed): ParsedChange => {
  const names = Object.keys(intentOf(tools.ledger, changeId)?.fields ?? {})
  return { ...asked, sent: Object.fromEntries(names.map((name) => [name, asked.sent[name]])) }
}

/** The adapter's spec for the kind and the key's parts by name. */
export function locate(
  { adapter, connection }: Pick<ChangeTools, 'adapter' | 'connection'>,
  { kind, address }: Pick<ResourceRequest, 'kind' | 'address'>,
): Result<{ spec: KindSpec<Kind>; ref: Ref }> {
  const spec = adapter.kinds[kind] as KindSpec<Kind> | undefined
  if (!spec) return refuse('not-found', `the provider has no ${kind}s`)
  if (address.parts.length !== spec.key.length) {
    const grammar = spec.key.map((name) => `{${name}}`).join(':')
    return refuse('invalid-id', `the key of a ${kind} here is ${grammar}`)
  }
  for (const [index, name] of spec.key.entries()) {
    const fault = spec.checkKey(address.parts[index] ?? '')
    if (fault) return refuse('invalid-id', `{${name}} ${fault}`)
  }
  const ref = Object.fromEntries(spec.key.map((name, index) => [name, address.parts[index] ?? '']))
  const { account } = adapter
  const project = account && ref[account.part]
  if (project !== undefined && connection.projects && !connection.projects.includes(project))
    return refuse('not-found', 'the connection is not for this project')
  return ok({ spec, ref })
}

/** Everything before the intent: read back, compare, merge, plan. Nothing is written. */
export async function prepare(
  tools: ChangeTools,
  asked: ParsedChange,
  resumed?: Resumed,
): Promise<Result<Planned>> {
  const { exchange, ledger } = tools
  const { kind, address, mode, spec, ref, sent, deadline, traceparent } = asked
  // A resumed change passed If-Match when it started, and its own first attempt may have changed the state since.
  const ifMatch = resumed ? undefined : asked.ifMatch
  if (!spec.read && ifMatch) {
    const detail = 'the provider cannot be read, so that there is no state to compare If-Match with'
    return refuse('precondition-failed', detail)
  }
  const read = spec.read && (await readBack(spec.read, ref, exchange, deadline, traceparent))
  if (read && !read.ok) return read
  const current = read?.value
  const values = current?.values as AnyValues | undefined
  if (ifMatch && values && !ifMatch.includes('*')) {
    const tag = etagOf(tools, asked, values, ledger.resource(kind, address.id))
    if (!ifMatch.includes(tag)) {
      return refuse(
        'precondition-failed',
        'If-Match does not name the present state of the resource; read it for the tag that does',
      )
    }
  }
  // What is stored and not deployed everywhere has to be sent again to be deployed.
  const merged = merge(kind, sent, values, {
    mode,
    readable: visible(tools, asked.readable),
    resends: resumed?.earlier.undeployed,
  })
  if (!merged.ok) return merged
  const planned = { ref, current, merged: merged.value }
  if (Object.keys(merged.value.desired).length === 0) return ok(planned)
  if (!asked.allowSelf && isOwn(tools, asked, values)) {
    return refuse('self-lockout', 'the gateway itself signs in with this resource')
  }
  const write = spec.plan(ref, merged.value.desired as Values<Kind>, current)
  return write.ok ? ok({ ...planned, write: write.value }) : { ok: false, problem: toProblem(write.refusal) }
}

/** Whether the resource is what the connection signs in with, or one that its operator listed as such. */
function isOwn(
  { adapter, connection: { secrets, self } }: ChangeTools,
  { kind, address }: Pick<ResourceRequest, 'kind' | 'address'>,
  values: AnyValues | undefined,
): boolean {
  const own = secrets.clientId?.expose()
  const end = endOfId(adapter, kind, address.id)
  const isListed = self.some((id) => endOfId(adapter, kind, id) === end)
  return isListed || (own !== undefined && values?.['clientId'] === own)
}

import type { Registry } from './adapter.ts'
import type { AuditKeys } from './audit-keys.ts'
import {
  change,
  type ChangeReply,
  type ChangeRequest,
  type ChangeTools,
  locate,
  type PlanReply,
  type ResourceRequest,
  type ResourceView,
  view,
} from './change.ts'
import type { ConnectionConfig } from './config.ts'
import { Deadline } from './deadline.ts'
import { createExchange } from './exchange.ts'
import type { Ledger } from './ledger/ledger.ts'
import type { Log } from './log.ts'
import type { AnyValues } from './model.ts'
import { ok, type Result } from './problems.ts'
import { ResourceQueue } from './queue.ts'
import { readBack } from './read.ts'
import { createTokens } from './token.ts'
import type { Send } from './upstream.ts'

/** The single owner of one connection. Arguments and results are plain data, so that a call may cross processes. */
export interface Actor {
  change(request: ChangeRequest): Promise<Result<ChangeReply | PlanReply>>
  read(request: ResourceRequest): Promise<Result<ResourceView>>
}

/** What every actor of a process or an object shares. */
export interface ActorParts {
  registry: Registry
  ledger: Ledger
  keys: AuditKeys
  send: Send
  log: Log
}

/** Builds the actor. Its queue and its token are its own: they live and die with it. */
export function createActor(connection: ConnectionConfig, parts: ActorParts): Actor {
  const { registry, ledger, keys, send, log } = parts
  const adapter = registry[connection.provider]
  if (!adapter) throw new TypeError(`no adapter for ${connection.provider}`)
  const exchange = createExchange(connection, adapter, createTokens(connection, send), send)
  const tools: ChangeTools = { connection, adapter, exchange, ledger, keys, queue: new ResourceQueue(), log }

  return {
    change: (request) => change(tools, request),

    async read(request) {
      const found = locate(adapter, request)
      if (!found.ok) return found
      const { spec, ref } = found.value
      // A provider that cannot be read answers with what was last applied through the gateway.
      if (!spec.read)
        return ok(
          view(tools, request, spec, ledger.resource(request.kind, request.address.id).applied as AnyValues),
        )
      const read = await readBack(
        spec.read,
        ref,
        exchange,
        new Deadline(connection.deadlineMs),
        request.traceparent,
      )
      return read.ok ? ok(view(tools, request, spec, read.value.values as AnyValues)) : read
    },
  }
}

import { authenticator, type AuthenticatorParts } from '../access/authenticate.ts'
import { rateLimitHeaders, type TakeRequest } from '../access/rate-limit.ts'
import type { Caller } from '../access/rules.ts'
import type { Config } from '../config/document.ts'
import type { RefusedAttempt } from '../ledger/types.ts'
import { Deadline } from '../lib/deadline.ts'
import type { Denied, Problem, Result } from '../model/problems.ts'
import type { OperationContext } from './operation.ts'

export interface AdmissionParts extends Omit<AuthenticatorParts, 'now'> {
  config: Config
  /** Keeps a refused attempt in the audit of the connection; without one, in the gateway's own. */
  refused(connection: string | null, attempt: RefusedAttempt): Promise<void>
  takeRequest: TakeRequest
}

/** Refused before the requested resource was known. */
const NOTHING: Denied = { connection: null, alias: null, kind: null, resource: null }

/** How long a reply waits for its refusal to be kept. Milliseconds. */
const KEEP_MS = 1000

/** Lets callers in: finds out who calls, holds them to their limits, and keeps what they were refused. */
export function createAdmission(parts: AdmissionParts) {
  const { refused, takeRequest, log } = parts
  const authenticate = authenticator({ ...parts, now: () => Date.now() })
  /** Unknown callers are only counted, never stored. */
  let unknown = 0

  /** @param headers Gets what the answer has to carry, whatever it is. */
  async function overLimit(caller: Caller, headers: Record<string, string>): Promise<Problem | undefined> {
    if (!caller.limit) return undefined
    const taken = await takeRequest(caller.name, caller.limit)
    // Fail open: if the counter is unreachable, the request is let through.
    if (!taken) return void log.error('limit not counted', { caller: caller.name })
    Object.assign(headers, rateLimitHeaders(caller.limit, taken))
    if (taken.allowed) return undefined
    const { requests, seconds } = caller.limit
    return {
      slug: 'rate-limited',
      detail: `the caller may make ${requests} requests in ${seconds} seconds`,
      retryAfterSeconds: taken.resetSeconds,
      denied: NOTHING,
    }
  }

  async function keep(caller: Caller, { slug, denied }: Problem, context: OperationContext): Promise<void> {
    if (!denied) return
    const { requestId, address } = context
    const { connection, ...asked } = denied
    const actor = { caller: caller.name, key: caller.keyId, address }
    log.warn('refused', { requestId, caller: caller.name, problem: slug, resource: asked.resource })
    const kept = refused(connection, { actor, problem: slug, ...asked, requestId }).catch((error) =>
      log.error('refusal not kept', { requestId, error: String(error) }),
    )
    await new Deadline(KEEP_MS).within(kept)
  }

  return async function admit(
    context: OperationContext,
    headers: Record<string, string>,
    handle: (caller: Caller) => Promise<Result<Response>>,
  ): Promise<Result<Response>> {
    const { request, requestId, traceparent, address } = context
    const found = await authenticate({ headers: request.headers, requestId, traceparent })
    if (!found.ok && found.caller) await keep(found.caller, { ...found.problem, denied: NOTHING }, context)
    else if (!found.ok) log.warn('unauthenticated', { requestId, address, unknown: (unknown += 1) })
    if (!found.ok) return found
    const caller = found.value
    const problem = await overLimit(caller, headers)
    const result = problem ? { ok: false as const, problem } : await handle(caller)
    if (!result.ok) await keep(caller, result.problem, context)
    return result
  }
}

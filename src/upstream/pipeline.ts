import { Semaphore } from 'async-mutex'
import type { ConnectionConfig } from '../config/document.ts'
import type { Log } from '../lib/log.ts'
import type { Adapter } from '../model/adapter.ts'
import { createBreaker } from './breaker-gate.ts'
import { LOOKUP_SHARE } from './budget.ts'
import { type BudgetOf, limitRate } from './budgets.ts'
import { limitConcurrency } from './concurrency-gate.ts'
import { createExchange, type Exchange } from './exchange.ts'
import type { Send } from './send.ts'
import { createTokens } from './sign-in.ts'

export interface PipelineParts {
  send: Send
  budgets: (connection: ConnectionConfig) => BudgetOf
  /** How many requests may be under way. */
  requestsAtOnce: number
  /** How long ago each write had ended that the provider may still count. Milliseconds. */
  recentWrites: readonly number[]
  log: Log
}

/**
 * The connection's ways to its provider: what is down, or out of its budget, is not asked. Lookups, which belong to no change,
 * have a breaker of their own and a share of budget and slots, so that whoever only reads never stops a change.
 */
export function createExchanges(
  connection: ConnectionConfig,
  adapter: Adapter,
  { send, budgets, requestsAtOnce, recentWrites, log }: PipelineParts,
): { changes: Exchange; lookups: Exchange } {
  const { throttle } = adapter
  const slots = new Semaphore(requestsAtOnce)
  const budgetOf = budgets(connection)
  budgetOf('writes').restore(recentWrites)
  const toTokens = limitRate(() => budgetOf('tokens'), throttle, limitConcurrency(send, slots))
  const tokens = createTokens(connection, toTokens)

  const along = (of: 'changes' | 'lookups', ...slotsOf: Semaphore[]): Exchange => {
    const breaker = createBreaker(connection.name, of, log)
    const toApi = limitRate(
      (method) => budgetOf(method === 'GET' ? 'reads' : 'writes'),
      throttle,
      limitConcurrency(breaker.guard(send), ...slotsOf),
      of === 'lookups',
    )
    return createExchange(
      connection,
      adapter,
      tokens,
      async (request, deadline) => breaker.refusal() ?? toApi(request, deadline),
    )
  }
  const share = new Semaphore(Math.max(1, Math.floor(requestsAtOnce * LOOKUP_SHARE)))
  return { changes: along('changes', slots), lookups: along('lookups', share, slots) }
}

import { type ConnectionConfig, type CountedKind, counterOf } from '../config/document.ts'
import type { Throttle } from '../model/adapter.ts'
import { Budget } from './budget.ts'
import type { GatedSend } from './concurrency-gate.ts'

import { paceOf } from './rate-headers.ts'
import { type Answer, heldBack } from './send.ts'

/** The budget of each kind of requests of a connection. */
export type BudgetOf = (kind: CountedKind) => Budget

/** The longest of all windows (seconds), or a minute where there are none. */
function longestWindow({ limits: { writes, reads, tokens } }: ConnectionConfig): number {
  const windows = [...writes, ...reads, ...tokens].map(({ seconds }) => seconds)
  return windows.length > 0 ? Math.max(...windows) : 60
}

/** The budgets of a process, where connections to a provider that counts by address share theirs, or of one object. */
export function openBudgets(): (connection: ConnectionConfig) => BudgetOf {
  const budgets = new Map<string, Budget>()
  return (connection) => (kind) => {
    const counter = counterOf(connection, kind)
    const budget = budgets.get(counter) ?? new Budget(connection.limits[kind], longestWindow(connection))
    budgets.set(counter, budget)
    return budget
  }
}

/**
 * Lets each request go only when its budget has room for it, so that the provider need not refuse it.
 * @param areLookups Whether the requests belong to no change.
 */
export function limitRate(
  budgetOf: (method: string) => Budget,
  throttle: Throttle,
  send: GatedSend,
  areLookups = false,
): GatedSend {
  return async (request, deadline) => {
    const turn = await budgetOf(request.method).take(deadline, areLookups)
    if (typeof turn === 'number') {
      return heldBack('upstream-rate-limited', turn, true, 'the provider’s rate limit leaves no room in time')
    }
    let answer: Answer | undefined
    try {
      answer = await send(request, deadline)
      return answer
    } finally {
      if (answer?.received) turn.end(true, paceOf(answer.response, throttle, Date.now()))
      else turn.end(answer?.sent ?? true)
    }
  }
}

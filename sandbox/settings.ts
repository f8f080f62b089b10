import { z } from 'zod'
import { isObject, type Outcome } from './exchange.ts'

/** Options of an emulator that a test may switch while it runs. */
export interface Settings<T extends object> {
  current(): T
  change(change: unknown): Outcome<T>
  reset(): void
}

export function createSettings<T extends object>(schema: z.ZodType<T>, initial: NoInfer<T>): Settings<T> {
  let current = initial
  return {
    current: () => current,
    change(change) {
      if (!isObject(change)) return { ok: false, reason: 'send an object of settings' }
      const next = schema.safeParse({ ...current, ...change })
      if (!next.success) return { ok: false, reason: z.prettifyError(next.error) }
      current = next.data
      return { ok: true, value: current }
    },
    reset() {
      current = initial
    },
  }
}

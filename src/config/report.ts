import type { z } from 'zod'
import { pointer } from '../lib/json.ts'
import type { ConfigFault } from './document.ts'

/** Where readers of the document name what is wrong with it; all of it at once. */
export interface Report {
  faults: ConfigFault[]
  warnings: ConfigFault[]
  fault(at: readonly PropertyKey[], detail: string): void
  /** Of what never matches anything. */
  neverMatching(at: readonly PropertyKey[], detail: string): void
  /** The value, if it has the shape; its faults are named otherwise. */
  check<T>(schema: z.ZodType<T>, value: unknown, at: readonly PropertyKey[]): T | undefined
}

/** `onNode`: what never matches is a fault. On Workers one would take all traffic down, so there it is a warning. */
export function openReport(onNode: boolean): Report {
  const faults: ConfigFault[] = []
  const warnings: ConfigFault[] = []
  const into = (list: ConfigFault[]) => (at: readonly PropertyKey[], detail: string) =>
    void list.push({ path: pointer([...at]), detail })
  const fault = into(faults)
  return {
    faults,
    warnings,
    fault,
    neverMatching: into(onNode ? faults : warnings),
    check(schema, value, at) {
      const read = schema.safeParse(value)
      for (const issue of read.error?.issues ?? []) fault([...at, ...issue.path], issue.message)
      return read.data
    },
  }
}

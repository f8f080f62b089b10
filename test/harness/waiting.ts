import { setTimeout as pause } from 'node:timers/promises'
import { waitMs } from '../faults/scale.ts'

/** Asks until the answer is truthy. Throws when that takes longer than any wait may. */
export async function until<T>(
  what: string,
  ask: () => Promise<T> | T,
  { within = waitMs, every = 10 } = {},
): Promise<NonNullable<T>> {
  const end = performance.now() + within
  do {
    const answer = await ask()
    if (answer) return answer
    await pause(every)
  } while (performance.now() < end)
  throw new Error(`waited ${within} ms in vain until ${what}`)
}

/** Runs every task, at most `width` of them at once. */
export async function pool(width: number, tasks: readonly (() => Promise<void>)[]): Promise<void> {
  const left = tasks.values()
  await Promise.all(
    Array.from({ length: width }, async () => {
      for (const task of left) await task()
    }),
  )
}

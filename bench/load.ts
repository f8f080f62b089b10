import { setTimeout as pause } from 'node:timers/promises'

export interface Sample<T> {
  about: T
  status: number | undefined
  /** From the moment at which the request was due, so that a generator that is late hides no waiting. */
  ms: number
}

/** Sends what `next` gives at a constant rate, whether or not replies come back, and resolves when all have. */
export async function constantLoad<T>(
  { perSecond, seconds }: { perSecond: number; seconds: number },
  next: (n: number) => { about: T; send(): Promise<number | undefined> },
): Promise<Sample<T>[]> {
  const started = performance.now()
  const sent: Promise<Sample<T>>[] = []
  for (let n = 0; n < perSecond * seconds; n++) {
    const due = started + (n * 1000) / perSecond
    const early = due - performance.now()
    if (early > 0) await pause(early)
    const { about, send } = next(n)
    sent.push(send().then((status) => ({ about, status, ms: performance.now() - due })))
  }
  return Promise.all(sent)
}

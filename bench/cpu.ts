import { readdirSync, readFileSync } from 'node:fs'

/** Milliseconds that all threads of a process have spent on a CPU. Linux tells it in nanoseconds. */
export function cpuOf(pid: number): number {
  const spent = readdirSync(`/proc/${pid}/task`).map((thread) => {
    const [nanoseconds = '0'] = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')
    return Number(nanoseconds)
  })
  return spent.reduce((sum, one) => sum + one, 0) / 1e6
}

/** Megabytes of memory that a process holds, now or at the most so far. */
export function memoryOf(pid: number): { now: number; most: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const megabytes = (name: string) =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) / 1024
  return { now: megabytes('VmRSS'), most: megabytes('VmHWM') }
}

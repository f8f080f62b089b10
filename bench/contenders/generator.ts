import { Pool } from 'undici'
import { constantLoad } from '../load.ts'

/** What the generator is asked for. Each request goes to the next of `ids` resources, so that none waits for another. */
export interface Job {
  origin: string
  /** What stands before the id in the path. */
  prefix: string
  headers: Record<string, string>
  ids: number
  seconds: number
  /** So many connections are kept busy; or so many requests a second are sent, whatever comes back. */
  load: { connections: number } | { perSecond: number }
}

export interface Measured {
  requests: number
  seconds: number
  /** Replies other than 200. */
  failures: number
  /** Of each request. Milliseconds. */
  times: number[]
}

let sent = 0
const pools = new Map<string, Pool>()

async function run({ origin, prefix, headers, ids, seconds, load }: Job): Promise<Measured> {
  const pool = pools.get(origin) ?? new Pool(origin, { connections: 64, pipelining: 1 })
  pools.set(origin, pool)
  async function request(): Promise<number> {
    sent += 1
    const id = `client-${String(sent % ids).padStart(6, '0')}`
    const body = JSON.stringify({ name: `example.com/${sent}` })
    const answer = await pool.request({ method: 'PUT', path: prefix + id, headers, body })
    await answer.body.dump()
    return answer.statusCode
  }
  if ('perSecond' in load) {
    const samples = await constantLoad({ ...load, seconds }, () => ({ about: undefined, send: request }))
    const failures = samples.filter(({ status }) => status !== 200).length
    return { requests: samples.length, seconds, failures, times: samples.map(({ ms }) => ms) }
  }
  const started = performance.now()
  const end = started + seconds * 1000
  const times: number[] = []
  let failures = 0
  async function keepBusy(): Promise<void> {
    while (performance.now() < end) {
      const begun = performance.now()
      if ((await request()) !== 200) failures += 1
      times.push(performance.now() - begun)
    }
  }
  await Promise.all(Array.from({ length: load.connections }, keepBusy))
  return { requests: times.length, seconds: (performance.now() - started) / 1000, failures, times }
}

process.on('message', (job: Job) => {
  run(job).then(
    (measured) => process.send?.(measured),
    (error) => {
      throw error
    },
  )
})

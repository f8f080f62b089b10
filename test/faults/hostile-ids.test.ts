import { inject } from 'vitest'
import { hostileIds } from '../harness/hostile-ids.ts'
import { makeWorkerHome } from '../harness/worker-home.ts'

// In workerd itself, over a socket: what stands between a test and a Worker in its own process would put targets in order.
hostileIds({
  async start(urls) {
    const home = makeWorkerHome(urls, inject('worker'))
    const { url } = await home.start()
    return { url, close: () => home.leave() }
  },
  resolvesDots: true,
})

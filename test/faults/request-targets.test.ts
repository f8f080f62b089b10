import { inject } from 'vitest'
import { requestTargets } from '../harness/request-targets.ts'
import { makeWorkerHome } from '../harness/worker-home.ts'

// In workerd itself: what it makes of a Host before a Worker sees it is what is in question.
requestTargets(async () => {
  const home = makeWorkerHome(inject('sandbox'), inject('worker'))
  const { url } = await home.start()
  return { url, close: () => home.leave() }
})

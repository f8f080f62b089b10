import { v7 as uuidv7 } from 'uuid'
import type { Log } from '../lib/log.ts'
import { type ProblemSlug, refuse } from '../model/problems.ts'
import { ALWAYS } from './app.ts'
import { problemResponse } from './operation.ts'

/** Refuses what cannot become a request. `detail` never holds anything of it. */
export function refuseEarly(slug: ProblemSlug, detail: string, log: Log): Response {
  const requestId = uuidv7()
  const response = problemResponse(refuse(slug, detail).problem, requestId, '/')
  for (const [name, value] of Object.entries({ ...ALWAYS, 'x-request-id': requestId }))
    response.headers.set(name, value)
  log.info('request', { requestId, method: null, route: null, status: response.status, detail })
  return response
}

export const NO_HOST =
  'the request does not have one Host that is a name or an address, with or without a port'
export const NO_TARGET = 'the target of the request is neither a path nor an http address'

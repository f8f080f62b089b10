import { z } from '@hono/zod-openapi'
import type { Operation } from '../operation.ts'

/** Why the gateway cannot take changes now; empty when it can. Never asks a provider. */
export type Readiness = () => Promise<string[]>

const health = z
  .object({ status: z.enum(['ok', 'unavailable']), reasons: z.array(z.string()) })
  .openapi('Health')

const answer = (reasons: string[]): Response =>
  new Response(JSON.stringify({ status: reasons.length === 0 ? 'ok' : 'unavailable', reasons }), {
    status: reasons.length === 0 ? 200 : 503,
    headers: { 'content-type': 'application/json', 'cache-control': 'no-store, no-transform' },
  })

export function healthOperations(readiness: Readiness): Operation[] {
  const content = { 'application/json': { schema: health } }
  return [
    {
      name: 'getLiveness',
      method: 'get',
      path: '/health/live',
      public: true,
      tag: 'Health',
      summary: 'Whether the process answers at all',
      description: 'For liveness probes: nothing is looked at.',
      success: { 200: { description: 'It does.', content } },
      problems: [],
      handle: () => answer([]),
    },
    {
      name: 'getReadiness',
      method: 'get',
      path: '/health/ready',
      public: true,
      tag: 'Health',
      summary: 'Whether changes can be taken: configuration and store',
      description: 'For readiness probes: 503 while no change can be taken.',
      success: {
        200: { description: 'They can.', content },
        503: { description: 'They cannot; `reasons` says why.', content },
      },
      problems: [],
      handle: async () => answer(await readiness()),
    },
  ]
}

// Odd: an API client can be renamed and never read back, and a few bad keys lock the good one out as well.
// https://docs.discue.io/api-reference/organizations/update-an-api-client.html
import { z } from 'zod'
import type { Adapter } from '../src/model/adapter.ts'
import { isUsable } from '../src/model/unreadable.ts'
import { parsed, type Refusal, refusalByStatus, refused } from '../src/model/upstream-refusal.ts'

const text = z.string().refine(isUsable)
// The vendor's newer clients call the name `alias`.
const answer = z.object({
  api_client: z.object({ id: z.string(), name: text.nullish(), alias: text.nullish() }),
})

export const discue: Adapter = {
  baseUrl: { default: 'https://api.discue.io/v1' },
  // A key cannot be renewed, so a 401 is final: repeating it would only count towards the lock.
  auth: [{ scheme: 'header', header: 'X-API-KEY', prefix: '', setting: 'apiKey' }],
  // The documentation announces limits and publishes no number.
  limits: { per: 'credential', writes: [], reads: [], tokens: [] },
  throttle: { fallbackSeconds: 10 },
  kinds: {
    credential: {
      key: ['api_client_id'],
      // The pages show UUIDs and 21-character nanoids and no pattern: opaque, with the characters that both use.
      checkKey: (part) =>
        /^[A-Za-z0-9_-]{10,64}$/.test(part) ? undefined : 'must be 10 to 64 letters, digits, "-" or "_"',
      example: {
        key: '5bc2be68-7498-4853-aa64-4be0ca62934e',
        summary: 'Discue: the name',
        body: { name: 'example.com/dev' },
      },
      fields: { name: { mutability: 'readWrite', upstream: 'name', equivalence: 'trimmed' } },

      plan(ref, desired) {
        if (desired.name === undefined) return refused('validation-failed', 'there is no name to set')
        return parsed({
          method: 'PUT',
          template: '/api_clients/{api_client_id}',
          ref,
          headers: { 'content-type': 'application/json', accept: 'application/json' },
          body: { id: ref['api_client_id'] ?? '', name: desired.name },
        })
      },

      parse(ref, response) {
        if (response.status >= 400) return { outcome: 'rejected', refusal: refusal(response.status) }
        const read = answer.safeParse(response.body)
        if (response.status !== 200 || !read.success || read.data.api_client.id !== ref['api_client_id']) {
          return {
            outcome: 'unknown',
            detail: `the provider answered ${response.status} without the API client`,
          }
        }
        const { alias, name } = read.data.api_client
        const told = name ?? alias ?? undefined
        if (typeof alias === 'string' && told !== alias)
          return {
            outcome: 'unknown',
            detail: 'the provider told two names of the API client',
            answered: true,
          }
        return { outcome: 'applied', ...(told !== undefined && { values: { name: told } }) }
      },
    },
  },
}

function refusal(status: number): Refusal {
  // The body has a title and a status and names no field; only the name varies in what is sent.
  if (status !== 400 && status !== 422) return refusalByStatus(status)
  return {
    problem: 'upstream-validation-failed',
    detail: 'the provider refused the name: it is not valid, or in use already',
    errors: [
      { pointer: '#/name', code: 'upstream-validation-failed', detail: 'not valid, or in use already' },
    ],
  }
}

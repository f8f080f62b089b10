import type { Operation } from './operations.ts'

/** Of the gateway that the kinds are made for. Milliseconds. */
export const DEADLINE = 1500
/** Longer than any change may take, and how long a late application is waited for. Milliseconds. */
export const SILENCE = 2500

/** Holds back everybody at the provider, so it comes last. */
export const FOR_LONG = '429 for long'

/** What a provider or the way to it can do to a write. Applied where it says so, or where the fault comes after that. */
const faults: Record<string, object> = {
  none: {},
  'a reset before the body is read': { reset: 'on-headers' },
  'a reset before applying': { reset: 'before' },
  'a reset after applying': { reset: 'after' },
  'a reset in the middle of the answer': { reset: 'mid-body' },
  'a short wait before applying': { delayBeforeMs: 300 },
  'a short wait after applying': { delayAfterMs: 300 },
  'silence before applying': { delayBeforeMs: SILENCE },
  'silence after applying': { delayAfterMs: SILENCE },
  'a reset after a wait': { delayAfterMs: 200, reset: 'after' },
  'half of the answer': { truncate: true },
  'an answer of another type': { wrongType: true },
  'an answer with numbers for texts': { wrongType: 'numbers' },
  'an answer of another media type': { contentType: 'text/html' },
  'an answer that drips': { drip: { chunkBytes: 64, everyMs: 2 } },
  'an answer that drips for too long': { drip: { chunkBytes: 8, everyMs: 400 } },
  'an endless answer': { oversize: 2 << 20 },
  '200 that is no JSON': { status: 200, applied: true, body: 'text' },
  '200 without a body': { status: 200, applied: true, body: 'empty' },
  'a redirect': { redirect: { status: 307, location: 'http://127.0.0.1:65529/' } },
  '429 with Retry-After': { status: 429, retryAfter: '0' },
  [FOR_LONG]: { status: 429, retryAfter: '600', body: 'empty' },
  '503 with Retry-After': { status: 503, retryAfter: '0' },
  '408': { status: 408 },
  '408 after applying': { status: 408, applied: true },
  ...Object.fromEntries(
    [400, 401, 403, 404, 405, 409, 415, 422, 423, 501].map((status) => [`${status}`, { status }]),
  ),
  ...Object.fromEntries(
    [500, 502, 503, 504].flatMap((status) => [
      [`${status}`, { status }],
      [`${status} after applying`, { status, applied: true }],
    ]),
  ),
  ...Object.fromEntries([521, 530].map((status) => [`${status} of the edge`, { status }])),
}

/** What only a provider that deploys can do. */
const deployments: Record<string, object> = {
  'no deployment result': { partialDeployment: { missing: true } },
  'a deployment that failed': { partialDeployment: { level: 'top' } },
  'a deployment that failed in an environment': {
    partialDeployment: { environments: ['staging'], level: 'environment' },
  },
  'a deployment that failed on a pod': {
    partialDeployment: { environments: ['production'], level: 'pod' },
  },
  'a FAILURE': { failure: { resultMessage: 'User does not have required permission.', status: 200 } },
}

export const kindsOf = ({ deploys }: Operation): Record<string, object> => ({
  ...faults,
  ...(deploys && deployments),
})

import { env, exports } from 'cloudflare:workers'
import worker from '../../src/worker.ts'
import type { Runtime } from './differences.ts'

export const runtime: Runtime = 'workerd'

/** Nothing to start: every file of a suite has a runtime of its own, with the Worker in it and empty storage. */
export function useGateway(): void {}

let changed: typeof env | undefined

/** The Worker goes on with another configuration; its objects keep theirs, in which no callers matter. */
export async function reconfigure(document: object): Promise<void> {
  const variables = { GATEWAY_CONFIG: JSON.stringify(document) }
  changed = { ...env, ...variables }
}

/** One request to the Worker that wrangler.toml describes. */
export function gatewayFetch(path: string, init?: RequestInit): Promise<Response> {
  const request = new Request(new URL(path, 'https://gateway.example'), init)
  return changed ? worker.fetch(request, changed) : exports.default.fetch(request)
}

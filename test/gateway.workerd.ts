import { exports } from 'cloudflare:workers'
import type { Runtime } from './differences.ts'

export const runtime: Runtime = 'workerd'

/** Nothing to start: every file of a suite has a runtime of its own, with the Worker in it and empty storage. */
export function useGateway(): void {}

/** One request to the Worker that wrangler.toml describes. */
export const gatewayFetch = (path: string, init?: RequestInit): Promise<Response> =>
  exports.default.fetch(new Request(new URL(path, 'https://gateway.example'), init))

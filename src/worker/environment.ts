import type { DurableObjectNamespace } from 'cloudflare:workers'
import { registry } from '../../adapters/index.ts'
import { readSettings, type Settings } from '../config/settings.ts'
import { type Log, openLog } from '../lib/log.ts'

/** What wrangler.toml binds. All else in the environment is text: the configuration, its secrets and the audit key. */
export interface Env {
  CONNECTIONS: DurableObjectNamespace
  ASSETS: { fetch(url: string): Promise<Response> }
  /** In workerd on a machine of one’s own: what has become of the storage, which no object can see. Absent on Cloudflare. */
  STATE?: { fetch(url: string): Promise<Response> }
}

export interface Surroundings {
  log: Log
  /** Undefined where the environment is at fault. */
  settings: Settings | undefined
}

/** One variable holds 5 KB, so the document goes on in `GATEWAY_CONFIG_2` and so forth. */
function documentOf(variables: Record<string, string>): string | undefined {
  let text = variables['GATEWAY_CONFIG']
  for (let part = 2; text !== undefined; part++) {
    const next = variables[`GATEWAY_CONFIG_${part}`]
    if (next === undefined) break
    text += next
  }
  return text
}

/** Made once per instance of the Worker. Only plain values: requests must not wait for one another. */
export function perEnvironment<T extends object>(make: (env: Env) => T): (env: Env) => T {
  const made = new WeakMap<Env, T>()
  return (env) => {
    const value = made.get(env) ?? make(env)
    made.set(env, value)
    return value
  }
}

/** Reads the environment. No one watches a Worker start, so its faults go to the log. */
export const environmentOf = perEnvironment((env): Surroundings => {
  const variables = Object.fromEntries(
    Object.entries(env).filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
  )
  const document = documentOf(variables)
  const { level, faults, warnings, settings } = readSettings(variables, document, registry, false)
  if (document === undefined) faults.push('GATEWAY_CONFIG must hold the configuration')
  const log = openLog(level, (line) => console.log(line.trimEnd()))
  for (const fault of faults) log.error('not configured', { fault })
  for (const warning of warnings) log.warn('never matches', { warning })
  return { log, settings }
})

/** How long the result of a look at the storage is reused. Milliseconds. */
const LOOK_EVERY = 500
const looks = perEnvironment(() => ({ at: -Infinity, isLost: false }))

/** Whether the storage was taken away or replaced: an object would go on with what it has opened, and all of that would be lost. */
export async function isStorageLost(env: Env): Promise<boolean> {
  const last = looks(env)
  if (!env.STATE || last.isLost || performance.now() - last.at < LOOK_EVERY) return last.isLost
  const { status, body } = await env.STATE.fetch('http://state/fault')
  await body?.cancel()
  last.isLost = status === 200
  last.at = performance.now()
  return last.isLost
}

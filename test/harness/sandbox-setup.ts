import type { TestProject } from 'vitest/node'
import { type Sandbox, startSandbox } from '../../sandbox/server.ts'
import { limits } from './configuration.ts'
import type { Runtime } from './differences.ts'
import { controlOf } from './sandbox-calls.ts'
import { startTokenIssuers } from './token-issuer.ts'

declare module 'vitest' {
  export interface ProvidedContext {
    sandbox: Sandbox['urls']
    /** A Commerce Layer with limits for each runtime: it counts by address, and both come from the same. */
    limited: Record<Runtime, string>
    /** What stands before the issuers of each runtime. */
    issuers: string
  }
}

/** One sandbox for all suites: they mint their own resources and clean nothing up. */
export default async function setup(project: TestProject) {
  const sandbox = await startSandbox({ limits: 'off' })
  const issuers = await startTokenIssuers()
  project.provide('sandbox', sandbox.urls)
  const limited = { node: await startSandbox(), workerd: await startSandbox() }
  for (const { urls } of Object.values(limited)) await enforce(urls.commerceLayer)
  project.provide('limited', {
    node: limited.node.urls.commerceLayer,
    workerd: limited.workerd.urls.commerceLayer,
  })
  project.provide('issuers', issuers.url)
  return () => Promise.all([sandbox, issuers, ...Object.values(limited)].map((started) => started.close()))
}

async function enforce(url: string): Promise<void> {
  const allowed = ([average, burst]: { requests: number; seconds: number }[]) => ({
    average: { limit: average?.requests, seconds: average?.seconds },
    burst: { limit: burst?.requests, seconds: burst?.seconds },
  })
  const token = { limit: limits.tokens[0]?.requests, seconds: limits.tokens[0]?.seconds }
  await controlOf(url).settings({
    limits: { writes: allowed(limits.writes), reads: allowed(limits.reads), token },
  })
}

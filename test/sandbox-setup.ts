import type { TestProject } from 'vitest/node'
import { type Sandbox, startSandbox } from '../sandbox/server.ts'
import { startTokenIssuers } from './token-issuer.ts'

declare module 'vitest' {
  export interface ProvidedContext {
    sandbox: Sandbox['urls']
    /** What stands before the issuers of each runtime. */
    issuers: string
  }
}

/** One sandbox for all suites: they mint their own resources and clean nothing up. */
export default async function setup(project: TestProject) {
  const sandbox = await startSandbox({ limits: 'off' })
  const issuers = await startTokenIssuers()
  project.provide('sandbox', sandbox.urls)
  project.provide('issuers', issuers.url)
  return () => Promise.all([sandbox.close(), issuers.close()])
}

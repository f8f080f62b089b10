import type { TestProject } from 'vitest/node'
import { type Sandbox, startSandbox } from '../sandbox/server.ts'

declare module 'vitest' {
  export interface ProvidedContext {
    sandbox: Sandbox['urls']
  }
}

/** One sandbox for all suites: they mint their own resources and clean nothing up. */
export default async function setup(project: TestProject) {
  const sandbox = await startSandbox({ limits: 'off' })
  project.provide('sandbox', sandbox.urls)
  return () => sandbox.close()
}

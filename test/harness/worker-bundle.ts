import { execFile } from 'node:child_process'
import { cpSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { TestProject } from 'vitest/node'
import { programOf } from './gateway-process.ts'

declare module 'vitest' {
  export interface ProvidedContext {
    /** A copy of the project in which the Worker is built. */
    worker: string
  }
}

const SOURCES = [
  'src',
  'adapters',
  'assets',
  'migrations',
  'tools/assets.ts',
  'wrangler.toml',
  'package.json',
]

/** Copies what the Worker is made of, so that it can be changed and built without a trace in the project. */
export function copyProject(): string {
  const copy = mkdtempSync(join(tmpdir(), 'worker-'))
  for (const path of SOURCES) cpSync(programOf(`../../${path}`), join(copy, path), { recursive: true })
  symlinkSync(programOf('../../node_modules'), join(copy, 'node_modules'), 'junction')
  return copy
}

/** What would be deployed of the project in `folder`, into its `dist`. */
export async function buildWorker(folder: string): Promise<void> {
  const wrangler = programOf('../../node_modules/wrangler/bin/wrangler.js')
  const words = [wrangler, 'deploy', '--dry-run', '--outdir', 'dist/worker']
  await promisify(execFile)(process.execPath, words, {
    cwd: folder,
    env: { ...process.env, WRANGLER_SEND_METRICS: 'false' },
    timeout: 60_000,
  })
}

/** One bundle for all suites. */
export default async function setup(project: TestProject) {
  const folder = copyProject()
  await buildWorker(folder)
  project.provide('worker', folder)
  return () => rmSync(folder, { recursive: true, force: true })
}

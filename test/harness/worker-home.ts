import { type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Sandbox } from '../../sandbox/server.ts'
import { databasesIn, startWorker, variablesIn } from '../../tools/worker-process.ts'
import { environment } from './configuration.ts'
import { type AnyHome, AUDIT_KEY, documentOf, type DocumentOptions, type Running } from './gateway-process.ts'

export interface WorkerHome extends AnyHome {
  folder: string
  /** Starts what is built in that copy of the project. */
  start(project?: string): Promise<Running>
}

/** The Worker in workerd itself, with storage that outlives its process. */
export function makeWorkerHome(
  urls: Sandbox['urls'],
  project: string,
  options: DocumentOptions = {},
): WorkerHome {
  const folder = mkdtempSync(join(tmpdir(), 'faults-'))
  const variables = variablesIn({
    ...environment,
    AUDIT_KEY,
    GATEWAY_CONFIG: documentOf(urls, options),
    LOG_LEVEL: 'warn',
  })
  const children = new Set<ChildProcess>()

  async function end(child: ChildProcess, signal: NodeJS.Signals) {
    const asked = performance.now()
    const closed = once(child, 'close')
    child.kill(signal)
    const [code, by] = await closed
    return { code, signal: by, ms: performance.now() - asked }
  }

  return {
    folder,
    databases: () => databasesIn(folder),
    async start(from = project) {
      const { url, child } = await startWorker({
        bundle: join(from, 'dist/worker'),
        assets: join(from, 'dist/assets'),
        storage: folder,
        variables,
        host: '127.0.0.1',
        port: 0,
        networks: ['127.0.0.0/8'],
      })
      children.add(child)
      child.once('close', () => children.delete(child))
      child.stdout?.resume()
      return {
        url,
        pid: child.pid ?? 0,
        kill: async () => void (await end(child, 'SIGKILL')),
        stop: () => end(child, 'SIGTERM'),
      }
    },
    async leave() {
      await Promise.all([...children].map((child) => end(child, 'SIGKILL')))
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

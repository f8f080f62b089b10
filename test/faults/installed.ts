import { spawnSync } from 'node:child_process'

/** Whether this machine has the program. A suite that goes without one says so. */
export function isInstalled(program: string): boolean {
  const is = spawnSync(program, ['--version']).status === 0
  if (!is) console.warn(`${program} is not installed: nothing is shown of it`)
  return is
}

import { type ChildProcess, fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Job, Measured } from './contenders/generator.ts'

/** After which a program that nobody ended is killed. Milliseconds. */
const LONGEST_LIFE = 1_800_000

/** How often a log is looked at. Milliseconds. */
const LOOK = 2

export interface Program {
  url: string
  pid: number
  end(): Promise<void>
}

interface Start {
  /** Beside this file. */
  file: string
  args?: string[]
  env?: Record<string, string>
  /** Options of Node. */
  options?: string[]
  /** Where its output goes: a file, as of a service, so that nobody spends CPU on reading it. */
  log: string
}

const PROJECT = fileURLToPath(new URL('..', import.meta.url))

/** The gateway, with the options that `npm start` gives it. */
export function startGateway(env: Record<string, string>, log: string): Promise<Program> {
  const { scripts } = JSON.parse(readFileSync(join(PROJECT, 'package.json'), 'utf8')) as {
    scripts: { start: string }
  }
  const words = (scripts.start.split('exec node ')[1] ?? '').split(' ')
  return startProgram({ file: `../${words.at(-1)}`, options: words.slice(0, -1), env, log })
}

const programOf = (path: string): string => fileURLToPath(new URL(path, import.meta.url))

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill('SIGKILL')
  await ended
}

/** Starts a program in a process of its own and waits until it says where it listens. */
export async function startProgram({
  file,
  args = [],
  options = [],
  env = {},
  log,
}: Start): Promise<Program> {
  const output = openSync(log, 'w')
  const started = performance.now()
  const child = spawn(process.execPath, [...options, programOf(file), ...args], {
    cwd: PROJECT,
    env,
    stdio: ['ignore', output, output],
    timeout: LONGEST_LIFE,
    killSignal: 'SIGKILL',
  })
  closeSync(output)
  for (;;) {
    const line = readFileSync(log, 'utf8')
      .split('\n')
      .find((text) => text.includes('"listening"') && text.endsWith('}'))
    if (line !== undefined) {
      const { url } = JSON.parse(line) as { url: string }
      return { url, pid: child.pid ?? 0, end: () => kill(child) }
    }
    if (child.exitCode !== null || performance.now() - started > 30_000) {
      await kill(child)
      throw new Error(`${file} did not start: ${readFileSync(log, 'utf8')}`)
    }
    await pause(LOOK)
  }
}

export interface Generator {
  run(job: Job): Promise<Measured>
  end(): Promise<void>
}

/** What makes the load, in a process of its own. */
export function startGenerator(): Generator {
  const child = fork(programOf('contenders/generator.ts'), { timeout: LONGEST_LIFE, killSignal: 'SIGKILL' })
  const ended = once(child, 'exit').then(() => {
    throw new Error('the load generator ended')
  })
  // Only what waits for a measurement has to know.
  ended.catch(() => {})
  return {
    async run(job) {
      child.send(job)
      const measured = once(child, 'message') as Promise<[Measured]>
      return (await Promise.race([measured, ended]))[0]
    },
    end: () => kill(child),
  }
}

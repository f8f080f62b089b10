import { fork, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { startSandbox } from '../sandbox/server.ts'
import { configuration, environment, keys } from '../test/harness/configuration.ts'
import { controlOf } from '../test/harness/sandbox-calls.ts'
import type { Siege } from './contenders/besieger.ts'
import { memoryOf } from './cpu.ts'
import { type Bench, quantile } from './figure.ts'
import { type Program, startGateway, startProgram } from './program.ts'

// A caller that behaves makes changes while everybody else does not; beside it the same siege of a server that only refuses.

/** How long the gateway is besieged, and how long the server beside it. Minutes. */
const MINUTES = process.env['BENCH'] === 'full' ? { gateway: 10, refuser: 5 } : { gateway: 2, refuser: 1 }
/** Between two changes. Milliseconds. */
const EVERY = 100
const WARM_UP = 16_000

interface Lived {
  /** Milliseconds of each change. */
  times: number[]
  /** Replies that were not as they should be. */
  wrong: string[]
  grownMiB: number
}

function besiege(siege: Siege): ChildProcess {
  const child = fork(fileURLToPath(new URL('contenders/besieger.ts', import.meta.url)), {
    timeout: 1_800_000,
  })
  child.send(siege)
  return child
}

/** Changes one resource after the other, for so long. */
async function change(
  program: Program,
  paths: string[],
  status: number,
  ms: number,
): Promise<Omit<Lived, 'grownMiB'>> {
  const agent = new Agent({ keepAlive: true })
  const times: number[] = []
  const wrong: string[] = []
  const end = performance.now() + ms
  for (let n = 0; performance.now() < end; n++) {
    const started = performance.now()
    const headers = { 'x-api-key': keys.admin, 'content-type': 'application/json' }
    const answered = await new Promise<number>((resolve, reject) => {
      const sent = request(
        program.url + paths[n % paths.length],
        { method: 'PUT', agent, headers },
        (reply) => {
          text(reply).then(() => resolve(reply.statusCode ?? 0), reject)
        },
      )
      sent.once('error', reject)
      sent.end(JSON.stringify({ name: `Change ${n}` }))
    }).catch(String)
    times.push(performance.now() - started)
    if (answered !== status) wrong.push(String(answered))
    await pause(EVERY)
  }
  agent.destroy()
  return { times, wrong }
}

export const siege: Bench = async (tell) => {
  const sandbox = await startSandbox({ limits: 'off' })
  const folder = mkdtempSync(join(tmpdir(), 'siege-'))
  const control = controlOf(sandbox.urls.commerceLayer)
  const mint = async (id: string) => {
    await control.mint('roles', id, { attributes: { name: 'Before' } })
    return `/roles/commerce-layer:${id}`
  }
  const paths = await Promise.all(Array.from({ length: 50 }, (_, n) => mint(`siegeRole${n}`)))
  const [failing, slow, guessed] = [
    await mint('failingOne'),
    await mint('slowOnePlease'),
    await mint('guessedOne'),
  ]
  await control.fault({ status: 500 }, { match: { method: 'GET', path: 'failingOne' }, times: null })
  await control.fault(
    { delayBeforeMs: 3000 },
    { match: { method: 'GET', path: 'slowOnePlease' }, times: null },
  )
  const config = join(folder, 'gateway.json')
  writeFileSync(config, JSON.stringify(configuration(sandbox.urls)))

  async function live(program: Program, status: number, minutes: number): Promise<Lived> {
    await change(program, paths, status, WARM_UP)
    const before = memoryOf(program.pid).now
    const besieger = besiege({
      url: program.url,
      keys: { reader: keys.viewer, planner: keys.planner, narrow: keys.narrow, admin: keys.admin },
      failing,
      slow,
      guessed,
    })
    try {
      const lived = await change(program, paths, status, minutes * 60_000)
      return { ...lived, grownMiB: memoryOf(program.pid).most - before }
    } finally {
      besieger.kill('SIGKILL')
      await program.end()
    }
  }

  try {
    const env = {
      ...environment,
      AUDIT_KEY: randomBytes(32).toString('base64'),
      GATEWAY_CONFIG: config,
      DATABASE: join(folder, 'gateway.db'),
      PORT: '0',
    }
    tell('the gateway is besieged')
    const own = await live(await startGateway(env, join(folder, 'gateway.log')), 200, MINUTES.gateway)
    tell('a server that refuses is')
    const beside = await live(
      await startProgram({ file: 'contenders/refuser.ts', log: join(folder, 'refuser.log') }),
      503,
      MINUTES.refuser,
    )
    const p99 = quantile(own.times, 0.99)
    const besideP99 = quantile(beside.times, 0.99)
    const ms = (value: number) => `${value.toFixed(1)} ms`
    return [
      {
        bench: 'siege',
        what: `changes of a caller that behaves, answered (${MINUTES.gateway} minutes)`,
        measured: `${own.times.length - own.wrong.length} of ${own.times.length} ${[...new Set(own.wrong)].join(', ')}`,
        goal: { text: 'all', met: own.wrong.length === 0 },
      },
      {
        bench: 'siege',
        what: 'their p50 and p99',
        measured: `${ms(quantile(own.times, 0.5))}, ${ms(p99)}`,
      },
      {
        bench: 'siege',
        what: 'p99 at a server that refuses everything, besieged alike',
        measured: `${ms(besideP99)} (${(p99 / besideP99).toFixed(2)} ×; ${beside.wrong.length} of ${beside.times.length} unanswered)`,
        goal: { text: '2 ×', met: p99 <= 2 * besideP99 },
      },
      {
        bench: 'siege',
        what: 'memory, at its most, above what it was under load before',
        measured: `${own.grownMiB.toFixed(0)} MiB`,
        goal: { text: '60 MiB', met: own.grownMiB <= 60 },
      },
    ]
  } finally {
    await sandbox.close()
    rmSync(folder, { recursive: true, force: true })
  }
}

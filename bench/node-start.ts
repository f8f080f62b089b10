import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { cpuOf, memoryOf } from './cpu.ts'
import { type Bench, quantile } from './figure.ts'
import { startGateway } from './program.ts'
import { gatewayEnvironment } from './throughput.ts'

// How soon a gateway on Node answers that it is ready, and what it holds when nobody asks anything of it.
const STARTS = 15
const READY_MS = 500
const IDLE_MB = 120

/** After which memory has come to rest. Milliseconds. */
const REST = 3000

export const nodeStart: Bench = async () => {
  const folder = mkdtempSync(join(tmpdir(), 'bench-'))
  const env = gatewayEnvironment(folder, 'http://127.0.0.1:9')
  async function start(rest: number) {
    const started = performance.now()
    const gateway = await startGateway(env, join(folder, 'gateway.log'))
    try {
      const { status } = await fetch(`${gateway.url}/health/ready`)
      if (status !== 200) throw new Error(`/health/ready answered ${status}`)
      const readyMs = performance.now() - started
      const cpuMs = cpuOf(gateway.pid)
      await pause(rest)
      return { readyMs, cpuMs, megabytes: memoryOf(gateway.pid).now }
    } finally {
      await gateway.end()
    }
  }
  try {
    const starts = []
    for (let n = 0; n < STARTS; n++) starts.push(await start(0))
    const idle = await start(REST)
    const ready = starts.map(({ readyMs }) => readyMs)
    const middle = quantile(ready, 0.5)
    const bench = 'start-up, Node'
    return [
      {
        bench,
        what: `from the start of the process to 200 of /health/ready, median of ${STARTS} (least to most)`,
        measured: `${middle.toFixed(0)} ms (${quantile(ready, 0).toFixed(0)} to ${quantile(ready, 1).toFixed(0)})`,
        goal: { text: `at most ${READY_MS} ms`, met: middle <= READY_MS },
      },
      {
        bench,
        what: 'the CPU that it takes, median',
        measured: `${quantile(
          starts.map(({ cpuMs }) => cpuMs),
          0.5,
        ).toFixed(0)} ms`,
      },
      {
        bench,
        what: `memory (RSS) ${REST / 1000} s later, idle`,
        measured: `${idle.megabytes.toFixed(0)} MB`,
        goal: { text: `at most ${IDLE_MB} MB`, met: idle.megabytes <= IDLE_MB },
      },
    ]
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

import { statfsSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, release, tmpdir, totalmem, type } from 'node:os'
import build from '../tools/build.ts'
import { workerd } from '../tools/worker-process.ts'
import { audit } from './audit.ts'
import { belief } from './belief.ts'
import { discipline } from './discipline.ts'
import type { Bench, Figure } from './figure.ts'
import { isolation } from './isolation.ts'
import { keyComparison } from './key-comparison.ts'
import { nodeStart } from './node-start.ts'
import { startup } from './startup.ts'
import { throughput } from './throughput.ts'

// Measures what is named, or everything. Only a run of everything writes the results, so that none of them is older.
const benches: Record<string, Bench> = {
  throughput,
  audit,
  belief,
  start: nodeStart,
  isolation,
  discipline,
  startup,
  keys: keyComparison,
}
const named = process.argv.slice(2)
const unknown = named.filter((name) => !Object.hasOwn(benches, name))
if (unknown.length > 0) {
  process.stderr.write(
    `no bench is called ${unknown.join(', ')}; there are: ${Object.keys(benches).join(', ')}\n`,
  )
  process.exit(1)
}

await build()
const figures: Figure[] = []
for (const [name, bench] of Object.entries(benches)) {
  if (named.length > 0 && !named.includes(name)) continue
  figures.push(...(await bench((progress) => void process.stdout.write(`${name}: ${progress}\n`))))
}

const row = (cells: string[]): string => `| ${cells.join(' | ')} |\n`
const table =
  row(['bench', 'figure', 'measured', 'goal', 'met']) +
  row(['---', '---', '---', '---', '---']) +
  figures
    .map(({ bench, what, measured, goal }) =>
      row([bench, what, measured, goal?.text ?? '', goal ? (goal.met ? 'yes' : 'no') : '']),
    )
    .join('')
process.stdout.write(`\n${table}`)

/** By the numbers in Linux's magic.h. */
const FILE_SYSTEMS: Record<number, string> = {
  0x01021994: 'tmpfs, in memory',
  0xef53: 'ext4',
  0x58465342: 'xfs',
}

if (named.length === 0) {
  const store = statfsSync(tmpdir()).type
  const machine = `${cpus()[0]?.model.trim()}, ${availableParallelism()} cores, ${Math.round(totalmem() / 2 ** 30)} GiB, ${type()} ${release()}`
  writeFileSync(
    new URL('RESULTS.md', import.meta.url),
    `# Measured

\`${process.env['BENCH'] === 'full' ? 'BENCH=full ' : ''}npm run bench\` on ${new Date().toISOString().slice(0, 10)} wrote this file. The gateway, the sandbox and what makes the load shared the machine.

- Machine: ${machine}
- Databases on ${FILE_SYSTEMS[store] ?? `a file system of type ${store}`}
- Node ${process.versions.node}, workerd ${workerd.version}

${table}`,
  )
}
if (figures.some(({ goal }) => goal?.met === false)) process.exitCode = 1

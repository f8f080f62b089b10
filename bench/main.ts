import { readFileSync, statfsSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, release, tmpdir, totalmem, type } from 'node:os'
import build from '../tools/build.ts'
import { workerd } from '../tools/worker-process.ts'
import { audit } from './audit.ts'
import { belief } from './belief.ts'
import { discipline } from './discipline.ts'
import type { Bench, Figure, Tabled } from './figure.ts'
import { isolation } from './isolation.ts'
import { keyComparison } from './key-comparison.ts'
import { nodeStart } from './node-start.ts'
import { siege } from './siege.ts'
import { startup } from './startup.ts'
import { throughput } from './throughput.ts'

// Measures what is named, or everything. Only a run of everything writes the results, so that none of them is older; a table
// that stands by itself, with its date, is put in its place by every run.
const benches: Record<string, Bench> = {
  throughput,
  audit,
  belief,
  start: nodeStart,
  isolation,
  discipline,
  siege,
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
const tables = new Map<string, Tabled>()
for (const [name, bench] of Object.entries(benches)) {
  if (named.length > 0 && !named.includes(name)) continue
  const measured = await bench((progress) => void process.stdout.write(`${name}: ${progress}\n`))
  figures.push(...(Array.isArray(measured) ? measured : measured.figures))
  if (!Array.isArray(measured)) tables.set(name, measured)
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

/** What follows the figures, with a place for its table. */
const BELIEF = `The same changes under the same faults, made in four ways; README.md says what the columns mean.

<!-- bench belief -->
<!-- /bench belief -->`

const today = new Date().toISOString().slice(0, 10)
const RESULTS = new URL('RESULTS.md', import.meta.url)
const README = new URL('../README.md', import.meta.url)

/** Puts the table between the marks that a page has for it. */
function place(page: URL, name: string, table: string): void {
  const [begin, end] = [`<!-- bench ${name} -->`, `<!-- /bench ${name} -->`]
  const text = readFileSync(page, 'utf8')
  const [head, rest] = text.split(begin)
  const tail = rest?.split(end)[1]
  if (tail === undefined) throw new Error(`${page.pathname} has no place for the table of ${name}`)
  const said = `\`npm run bench -- ${name}\`, ${today}:`
  writeFileSync(page, `${head}${begin}\n${said}\n\n${table}${end}${tail}`)
}

if (named.length === 0) {
  const store = statfsSync(tmpdir()).type
  const machine = `${cpus()[0]?.model.trim()}, ${availableParallelism()} cores, ${Math.round(totalmem() / 2 ** 30)} GiB, ${type()} ${release()}`
  writeFileSync(
    RESULTS,
    `# Measured

\`${process.env['BENCH'] === 'full' ? 'BENCH=full ' : ''}npm run bench\` on ${today} wrote this file. The gateway, the sandbox and what makes the load shared the machine.

- Machine: ${machine}
- Databases on ${FILE_SYSTEMS[store] ?? `a file system of type ${store}`}
- Node ${process.versions.node}, workerd ${workerd.version}

${table}
## Wrong beliefs

${BELIEF}
`,
  )
}
for (const [name, { table, notes }] of tables) {
  place(README, name, table)
  place(RESULTS, name, `${table}\n${notes}`)
}
if (figures.some(({ goal }) => goal?.met === false)) process.exitCode = 1

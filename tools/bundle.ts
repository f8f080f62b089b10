import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'

// Builds what `wrangler deploy` would upload, and says whether it is small and free of what only Node has.
const FOLDER = 'dist/worker'
const LIMIT = 300 * 1024
const NODE_ONLY = ['better-sqlite3', '@hono/node-server']

rmSync(FOLDER, { recursive: true, force: true })
execFileSync('wrangler', ['deploy', '--dry-run', '--outdir', FOLDER], {
  stdio: ['ignore', 'ignore', 'inherit'],
})

// Source maps do not count towards the size, and the folder's README stays here. Assets are uploaded apart.
const modules = readdirSync(FOLDER).filter((name) => !name.endsWith('.map') && name !== 'README.md')
const whole = Buffer.concat(modules.map((name) => readFileSync(join(FOLDER, name))))
const size = gzipSync(whole).length
const kib = (bytes: number): string => `${(bytes / 1024).toFixed(1)} KiB`
process.stdout.write(`${modules.length} modules, ${kib(whole.length)}, ${kib(size)} in gzip\n`)

const { sources } = JSON.parse(readFileSync(join(FOLDER, 'worker.js.map'), 'utf8')) as { sources: string[] }
const faults = NODE_ONLY.filter(
  (name) => sources.some((path) => path.includes(`node_modules/${name}/`)) || whole.includes(`"${name}"`),
).map((name) => `${name} is part of the bundle`)
if (size > LIMIT) faults.push(`the bundle is larger than ${kib(LIMIT)} in gzip`)
if (!modules.some((name) => name.endsWith('.sql'))) faults.push('the bundle has no migrations')
for (const fault of faults) process.stderr.write(`${fault}\n`)
if (faults.length > 0) process.exitCode = 1

import { execFileSync } from 'node:child_process'
import { cpSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

// Says whether the migrations produce the schema in src/ledger/schema.ts: on a copy of them, nothing is left to generate.
const folder = mkdtempSync(join(tmpdir(), 'migrations-'))
try {
  cpSync('migrations', join(folder, 'migrations'), { recursive: true })
  const config = join(folder, 'drizzle.config.json')
  const out = join(folder, 'migrations')
  writeFileSync(
    config,
    JSON.stringify({
      dialect: 'sqlite',
      driver: 'durable-sqlite',
      schema: resolve('src/ledger/schema.ts'),
      out,
    }),
  )
  execFileSync('drizzle-kit', ['generate', '--config', config], { stdio: 'pipe' })
  const added =
    readdirSync(out).filter((file) => file.endsWith('.sql')).length -
    readdirSync('migrations').filter((file) => file.endsWith('.sql')).length
  if (added !== 0) {
    process.stderr.write('the schema has changed and no migration says so; run: npm run migrations\n')
    process.exitCode = 1
  }
} finally {
  rmSync(folder, { recursive: true })
}

import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { startSandbox } from '../sandbox/server.ts'
import { configuration, environment } from './configuration.ts'

// Starts the provider sandbox and, in front of it, the Worker in a local workerd with fresh storage.
const FOLDER = 'data/worker'
const VARIABLES = `${FOLDER}/variables.env`
const port = process.env['PORT'] ?? '8787'

rmSync(FOLDER, { recursive: true, force: true })
mkdirSync(FOLDER, { recursive: true })

const sandbox = await startSandbox({ ports: { commerceLayer: 4101, discue: 4102, apinizer: 4103 } })
const key = `cgw_demo_${randomBytes(32).toString('base64url')}`
const variables = {
  ...environment,
  GATEWAY_CONFIG: JSON.stringify(configuration(sandbox.urls, key)),
  AUDIT_KEY: randomBytes(32).toString('base64'),
}
// Single quotes keep JSON as it is; in double quotes wrangler does not undo the backslashes.
const lines = Object.entries(variables).map(([name, value]) => `${name}='${value}'\n`)
writeFileSync(VARIABLES, lines.join(''), { mode: 0o600 })

process.stdout.write(`
  curl -s -H 'X-API-Key: ${key}' http://127.0.0.1:${port}/credentials/billing-worker
  curl -s -H 'X-API-Key: ${key}' http://127.0.0.1:${port}/audit

`)
const options = ['--env-file', VARIABLES, '--persist-to', FOLDER, '--ip', '127.0.0.1', '--port', port]
const worker = spawn('wrangler', ['dev', ...options], { stdio: 'inherit' })
// Ctrl-C reaches wrangler too; the sandbox stays until it has ended.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void worker.kill(signal))
worker.once('exit', (code) => void sandbox.close().then(() => process.exit(code ?? 0)))

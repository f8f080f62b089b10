import { randomBytes } from 'node:crypto'
import { createWriteStream, mkdirSync, rmSync } from 'node:fs'
import { isDeepStrictEqual, parseArgs, styleText } from 'node:util'
import { registry } from '../adapters/index.ts'
import { startSandbox } from '../sandbox/server.ts'
import { readConfig } from '../src/config/read.ts'
import { deriveAuditKeys } from '../src/lib/keyed-digests.ts'
import { openLog } from '../src/lib/log.ts'
import { startNodeGateway } from '../src/node/gateway.ts'
import { changes, type DemoChange, refused } from './changes.ts'
import { configuration, environment } from './configuration.ts'

// Starts the provider sandbox and a gateway, makes one change at each of the five upstream operations, compares what
// the providers applied with what was asked for, and shows the audit. Stays up afterwards, or ends with --once.
const { once } = parseArgs({ options: { once: { type: 'boolean', default: false } } }).values
const FOLDER = 'data/demo'

const say = (text = ''): void => void process.stdout.write(`${text}\n`)
const good = (text: string): string => styleText('green', `✓ ${text}`)
const bad = (text: string): string => styleText('red', `✗ ${text}`)
const faint = (text: string): string => styleText('dim', text)

rmSync(FOLDER, { recursive: true, force: true })
mkdirSync(FOLDER, { recursive: true })
const lines = createWriteStream(`${FOLDER}/gateway.log`)

const sandbox = await startSandbox({
  ports: once ? {} : { commerceLayer: 4101, discue: 4102, apinizer: 4103 },
})
const key = `cgw_demo_${randomBytes(32).toString('base64url')}`
const config = readConfig(JSON.stringify(configuration(sandbox.urls, key)), environment, registry)
if (!config.ok) throw new Error(JSON.stringify(config.faults))
const gateway = await startNodeGateway({
  home: new URL('..', import.meta.url),
  config: config.value,
  registry,
  keys: deriveAuditKeys({ id: 1, bytes: randomBytes(32) }),
  database: `${FOLDER}/gateway.db`,
  port: once ? 0 : Number(process.env['PORT'] ?? 8787),
  host: '127.0.0.1',
  log: openLog('info', (line) => void lines.write(line)),
})

const headers = {
  authorization: `Bearer ${key}`,
  'content-type': 'application/json',
  'x-change-reason': 'demo',
}

interface Entry {
  operation: string
  id: string
  before: object
  after: object
}

async function applied({ provider }: DemoChange): Promise<Entry[]> {
  const response = await fetch(`${new URL(sandbox.urls[provider]).origin}/_sandbox/ledger`)
  return ((await response.json()) as { entries: Entry[] }).entries
}

let failures = 0
const check = (holds: boolean, text: string): void => {
  if (!holds) failures += 1
  say(`  ${holds ? good(text) : bad(text)}`)
}

async function make(change: DemoChange): Promise<void> {
  const before = (await applied(change)).length
  const response = await fetch(`${gateway.url}${change.path}`, {
    method: 'PUT',
    headers,
    body: JSON.stringify(change.body),
  })
  const reply = (await response.json()) as {
    outcome?: string
    changeId?: string
    type?: string
    upstream?: { method: string }
  }
  say(styleText('bold', change.title))
  say(`  PUT ${change.path} ${faint(JSON.stringify(change.body))}`)
  const entries = (await applied(change)).slice(before)
  if (!change.expect) {
    say(`  ${response.status} ${reply.type}`)
    check(response.status === 422 && entries.length === 0, 'refused before any upstream write')
    return
  }
  say(`  ${response.status} outcome ${reply.outcome}, change ${reply.changeId}`)
  const [entry] = entries
  check(
    response.status === 200 && entries.length === 1,
    `the provider applied one ${entry?.operation ?? 'nothing'}`,
  )
  check(
    entry !== undefined && isDeepStrictEqual(difference(entry), change.expect),
    `exactly what was asked for: ${JSON.stringify(entry && difference(entry))}`,
  )
}

/** What is different in the provider's own record, flattened; its own time stamp aside. */
function difference({ before, after }: Entry): Record<string, unknown> {
  const [old, now] = [flatten(before), flatten(after)]
  return Object.fromEntries(
    Object.entries(now).filter(
      ([name, value]) => name !== 'updated_at' && !isDeepStrictEqual(value, old[name]),
    ),
  )
}

function flatten(record: object): Record<string, unknown> {
  const { attributes, relationships, ...rest } = record as { attributes?: object; relationships?: object }
  return { ...rest, ...attributes, ...relationships }
}

say()
for (const change of [...changes, refused]) {
  await make(change)
  say()
}

const audit = (await (await fetch(`${gateway.url}/audit`, { headers })).json()) as {
  data: {
    at: string
    type: string
    outcome: string | null
    actor: { caller: string }
    resource: string
    fields: object
  }[]
}
say(styleText('bold', 'The audit, oldest first'))
for (const event of audit.data.toReversed()) {
  const { at, type, outcome, actor, resource, fields } = event
  say(
    `  ${at}  ${type.padEnd(7)} ${(outcome ?? '').padEnd(8)} ${actor.caller}  ${resource}  ${Object.keys(fields).join(' ')}`,
  )
}
check(audit.data.length === 2 * changes.length, 'an intent and an outcome for each of the five changes')
say()

if (failures > 0 || once) {
  await gateway.close()
  await sandbox.close()
  lines.end()
  process.exit(failures > 0 ? 1 : 0)
}

const curl = (path: string, body?: object): string => {
  const change = body ? ` -X PUT -H 'Content-Type: application/json' -d '${JSON.stringify(body)}'` : ''
  return `  curl -s -H 'X-API-Key: ${key}'${change} '${gateway.url}${path}'`
}
say(styleText('bold', 'Up until Ctrl-C'))
say(`  gateway         ${gateway.url}`)
say(`  API reference   ${gateway.url}/docs`)
say(`  Commerce Layer  ${sandbox.urls.commerceLayer}/_sandbox/ledger`)
say(`  Discue          ${new URL(sandbox.urls.discue).origin}/_sandbox/ledger`)
say(`  Apinizer        ${sandbox.urls.apinizer}/_sandbox/ledger`)
say(`  database        ${FOLDER}/gateway.db`)
say(`  log             ${FOLDER}/gateway.log`)
say()
say(styleText('bold', 'Try'))
say(curl('/credentials/billing-worker'))
say(curl('/credentials/billing-worker?dryRun=true', { secret: 'new-password', enabled: false }))
say(curl('/credentials/discue:5bc2be68-7498-4853-aa64-4be0ca62934e', { name: 'example.com/next' }))
say(curl('/audit?limit=5'))
say(curl('/providers'))

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    void Promise.all([gateway.close(), sandbox.close()]).then(() => process.exit(0))
  })
}

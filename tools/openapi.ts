import { readFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { createConfig, lintFromString } from '@redocly/openapi-core'
import { registry } from '../adapters/index.ts'
import { createApp } from '../src/http/app.ts'
import { openApiDocument } from '../src/http/openapi.ts'
import { toYaml } from '../src/http/routes/docs.ts'
import { openLog } from '../src/lib/log.ts'

// Writes openapi.yaml from the schemas that validate, or with --check says whether the committed file is current
// and has nothing that a linter for such documents would warn of.
const { values, positionals } = parseArgs({
  options: { check: { type: 'boolean', default: false } },
  allowPositionals: true,
})
const file = positionals[0] ?? 'openapi.yaml'

const app = createApp({
  config: { connections: new Map(), aliases: new Map(), issuers: [], callers: [], trustedProxies: [] },
  registry,
  actor: () => undefined,
  history: {
    events: async () => ({ rows: [], end: null, unanswered: [] }),
    changes: async () => ({ rows: [], end: null, unanswered: [] }),
    story: async () => [],
  },
  refused: async () => {},
  takeRequest: async () => undefined,
  sendToIssuer: () => async () => ({ received: false, sent: false, detail: 'nothing is sent here' }),
  readiness: async () => [],
  referenceScript: () => new Uint8Array(),
  bodyOf: (bytes) => bytes,
  targetOf: () => undefined,
  addressOf: () => null,
  log: openLog('error', (line) => void process.stderr.write(line)),
})
const text = toYaml(openApiDocument(app))

if (values.check) {
  const faults = await lintFromString({
    source: text,
    config: await createConfig({ extends: ['recommended'] }),
  })
  if (readFileSync(file, 'utf8') !== text)
    process.stderr.write(`${file} is not what the code describes; run: npm run openapi\n`)
  for (const { ruleId, message, location } of faults)
    process.stderr.write(`${file}${location[0]?.pointer ?? ''}: ${message} (${ruleId})\n`)
  process.exitCode = faults.length > 0 || readFileSync(file, 'utf8') !== text ? 1 : 0
} else writeFileSync(file, text)

import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { keys } from '../harness/configuration.ts'
import { startTestGateway, type TestGateway } from '../harness/gateway.node.ts'
import { controlOf, type Json } from '../harness/sandbox-calls.ts'

// The verifier of docs/storage.md is run as it stands there, on an export of a gateway that has made changes.

const page = readFileSync('docs/storage.md', 'utf8')
const [, verifier = ''] = /```js\n(.*?)```/s.exec(page) ?? []

let gateway: TestGateway
let folder = ''
let lines: string[] = []
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'storage-'))
  writeFileSync(join(folder, 'verify.mjs'), verifier)
  symlinkSync(join(process.cwd(), 'node_modules'), join(folder, 'node_modules'), 'junction')
  gateway = await startTestGateway()
  const headers = { 'x-api-key': keys.admin, 'content-type': 'application/json' }
  for (const n of [1, 2, 3]) {
    const id = `storage${n}x${process.pid}`
    await controlOf(inject('sandbox').discue).mint('api_clients', id)
    const body = JSON.stringify({ name: `example.com/${id}/é` })
    await fetch(`${gateway.url}/credentials/discue:${id}`, { method: 'PUT', headers, body })
  }
  const reply = await fetch(`${gateway.url}/audit`, {
    headers: { ...headers, accept: 'application/x-ndjson' },
  })
  lines = (await reply.text()).trim().split('\n')
})
afterAll(async () => {
  await gateway?.close()
  rmSync(folder, { recursive: true })
})

async function verify(exported: readonly string[]): Promise<string> {
  const file = join(folder, 'audit.ndjson')
  writeFileSync(file, `${exported.join('\n')}\n`)
  const run = promisify(execFile)(process.execPath, [join(folder, 'verify.mjs'), file])
  return run.then(
    ({ stdout }) => stdout.trim(),
    ({ stderr }: { stderr: string }) => stderr.trim(),
  )
}

test('the verifier in docs/storage.md accepts an export', async () => {
  expect(lines).toHaveLength(6)
  expect(await verify(lines)).toBe('6 events in 1 chains are as they were written')
})

const alter = (index: number, change: (event: Json) => object): string[] =>
  lines.map((line, at) => (at === index ? JSON.stringify(change(JSON.parse(line))) : line))

test.each<[string, () => string[]]>([
  ['whose value was changed', () => alter(2, (event) => ({ ...event, widens: !event.widens }))],
  ['whose hash was changed', () => alter(2, (event) => ({ ...event, hash: event.previous }))],
  ['that lacks an event', () => lines.toSpliced(2, 1)],
  ['in another order', () => [...lines.slice(0, 2), lines[3] ?? '', lines[2] ?? '', ...lines.slice(4)]],
])('the verifier in docs/storage.md refuses an export %s', async (_, tampered) => {
  expect(await verify(tampered())).toMatch(/^discue: event \d was changed, or one before it is missing$/)
})

test('the table of docs/storage.md has every member of an event', () => {
  const members = [...page.matchAll(/^\| (`[^|]*) \|/gm)].flatMap(([, cell = '']) =>
    [...cell.matchAll(/`(\w+)`/g)].map(([, name]) => name),
  )
  for (const line of lines) expect(members).toEqual(expect.arrayContaining(Object.keys(JSON.parse(line))))
})

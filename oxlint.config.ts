import { defineConfig, type OxlintOverride } from 'oxlint'
import { layers, packagesOfFiles, runtimes } from './tools/lint/layers.ts'

/** Nothing may be imported but what is listed, types included. (A `regex` with look-ahead is accepted, and matches nothing.) */
const only = (
  allowed: readonly string[],
  message: string,
  but: readonly string[] = [],
): NonNullable<OxlintOverride['rules']> => ({
  'no-restricted-imports': [
    'error',
    { patterns: [{ group: ['**', ...allowed.map((glob) => `!${glob}`), ...but], message }] },
  ],
})

const PACKAGES = { group: ['ofetch', 'undici'], message: 'src/upstream/send.ts is the only way out.' }

/** A layer's files, and those of a folder in it. */
const ofLayers = Object.entries(layers).flatMap(([layer, { may, packages }]): OxlintOverride[] => {
  const message = `src/${layer}/ imports ${[...may.map((name) => `${name}/`), ...packages].join(', ') || 'nothing'}, and nothing else.`
  const from = (up: string): string[] => may.map((name) => `${up}${name}/**`)
  return [
    { files: [`src/${layer}/*.ts`], rules: only(['./**', ...from('../'), ...packages], message) },
    {
      files: [`src/${layer}/*/*.ts`],
      rules: only(['./**', '../*.ts', '../*/*.ts', ...from('../../'), ...packages], message, [
        // `../*.ts` matches these too.
        '../../*.ts',
      ]),
    },
  ]
})

const below = Object.keys(layers)
const ofRuntimes = runtimes.flatMap((runtime): OxlintOverride[] => {
  const common = ['./**', 'node:*', 'node:*/*', ...below.map((layer) => `../${layer}/**`)]
  const special =
    runtime === 'worker' ? ['cloudflare:workers', '../../adapters/index.ts', '../../migrations/**'] : []
  const message = `src/${runtime}/ imports layers, and of packages what tools/lint/layers.ts lists.`
  const files = Object.entries(packagesOfFiles).filter(([file]) => file.startsWith(`src/${runtime}/`))
  return [
    { files: [`src/${runtime}/*.ts`], rules: only([...common, ...special], message) },
    ...files.map(([file, packages]) => ({
      files: [file],
      rules: only([...common, ...special, ...packages], message),
    })),
  ]
})

const TIMERS = ['setTimeout', 'setInterval', 'setImmediate', 'queueMicrotask', 'performance']
const OUTSIDE = ['globalThis', 'global', 'self', 'navigator', 'caches', 'WebSocket', 'console', 'crypto']
const FETCH = { name: 'fetch', message: 'src/upstream/send.ts sends; an entry hands its fetch in.' }
const PROCESS = { name: 'process', message: 'Only src/node.ts reads the environment.' }

export default defineConfig({
  plugins: ['typescript', 'unicorn', 'oxc', 'import'],
  jsPlugins: ['./tools/lint/adapter-is-pure.js'],
  categories: { correctness: 'error', suspicious: 'error' },
  rules: {
    'no-shadow': 'off',
    'unicorn/no-array-sort': 'error',
    'typescript/no-explicit-any': 'error',
    'typescript/no-non-null-assertion': 'error',
    // A type that is imported ties as a value does.
    'import/no-cycle': ['error', { ignoreTypes: false }],
    'no-restricted-imports': ['error', { patterns: [PACKAGES] }],
    'unicorn/consistent-function-scoping': 'off',
    'no-unused-vars': [
      'error',
      { ignoreRestSiblings: true, argsIgnorePattern: '^_', varsIgnorePattern: '^_' },
    ],
  },
  ignorePatterns: ['migrations/**', 'data/**'],
  overrides: [
    {
      files: ['src/**/*.ts'],
      rules: {
        'no-restricted-globals': ['error', FETCH, PROCESS],
        'no-restricted-properties': [
          'error',
          {
            property: 'expose',
            message: 'A secret is opened where it is sent, digested or compared, and nowhere else.',
          },
        ],
      },
    },
    { files: ['src/node.ts'], rules: { 'no-restricted-globals': ['error', FETCH] } },
    {
      files: ['src/worker.ts', 'src/worker/{object,send}.ts'],
      rules: { 'no-restricted-globals': ['error', PROCESS] },
    },
    {
      files: [
        'src/upstream/{send,sign-in}.ts',
        'src/lib/keyed-digests.ts',
        'src/config/one-account.ts',
        'src/change/prepare.ts',
      ],
      rules: { 'no-restricted-properties': 'off' },
    },
    ...ofLayers,
    ...ofRuntimes,
    { files: ['bench/contenders/**/*.ts'], rules: { 'no-restricted-imports': 'off' } },
    {
      files: ['adapters/**/*.ts'],
      rules: {
        'law/pure': 'error',
        ...only(
          ['zod', '../src/model/*.ts', '../src/lib/json.ts', '../src/lib/secret.ts'],
          'An adapter imports zod, src/model/ and src/lib/{json,secret}.ts, and nothing else.',
        ),
        'no-restricted-globals': ['error', 'fetch', 'process', ...TIMERS, ...OUTSIDE],
        'no-restricted-properties': [
          'error',
          { object: 'Math', property: 'random' },
          { object: 'Date', property: 'now' },
        ],
      },
    },
    {
      files: ['adapters/index.ts'],
      rules: only(['./*.ts', '../src/model/adapter.ts'], 'The registry imports adapters only.'),
    },
  ],
})

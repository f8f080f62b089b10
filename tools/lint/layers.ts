/** Who may know whom. The linter holds it (oxlint.config.ts), a test breaks it, and ARCHITECTURE.md shows it. */

export interface Layer {
  /** Folders of `src/` that it may import, types included, beside its own. */
  may: readonly string[]
  /** Packages and modules of the runtime that it may import. */
  packages: readonly string[]
}

/** From the bottom up: none imports one that stands below it in this list. */
export const layers: Readonly<Record<string, Layer>> = {
  lib: {
    may: [],
    packages: [
      '@humanwhocodes/momoa',
      '@logtape/logtape',
      'canonicalize',
      'ipaddr.js',
      'uuid',
      'node:crypto',
      'node:net',
      'node:util',
    ],
  },
  model: { may: ['lib'], packages: ['zod', 'ipaddr.js'] },
  config: { may: ['model', 'lib'], packages: ['zod'] },
  ledger: {
    may: ['model', 'lib'],
    packages: ['drizzle-orm', 'drizzle-orm/sqlite-core', 'uuid', 'node:crypto'],
  },
  upstream: { may: ['config', 'model', 'lib'], packages: ['async-mutex', 'cockatiel', 'ofetch'] },
  access: { may: ['upstream', 'config', 'model', 'lib'], packages: ['jose', 'node:crypto'] },
  change: { may: ['upstream', 'ledger', 'config', 'model', 'lib'], packages: ['zod'] },
  http: {
    may: ['change', 'access', 'ledger', 'config', 'model', 'lib'],
    packages: ['hono', 'hono/utils/accept', '@hono/zod-openapi', 'uuid', 'yaml', 'node:crypto', 'node:zlib'],
  },
}

/** Each knows one runtime and every layer; none knows the other, and nobody but an entry knows them. */
export const runtimes = ['node', 'worker'] as const

/** Files outside of their layer's rule, each for one reason. */
export const packagesOfFiles: Readonly<Record<string, readonly string[]>> = {
  'src/node/database.ts': [
    'better-sqlite3',
    'drizzle-orm',
    'drizzle-orm/better-sqlite3',
    'drizzle-orm/better-sqlite3/migrator',
  ],
  'src/node/sender.ts': ['undici'],
  'src/node/gateway.ts': ['@hono/node-server'],
  'src/node/server.ts': ['@hono/node-server'],
  'src/worker/object.ts': ['drizzle-orm/durable-sqlite', 'drizzle-orm/durable-sqlite/migrator'],
}

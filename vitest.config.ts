import { fileURLToPath } from 'node:url'
import { cloudflareTest } from '@cloudflare/vitest-plugin'
import { defineConfig } from 'vitest/config'
import { configuration, environment } from './test/harness/configuration.ts'

const at = (path: string): string => fileURLToPath(new URL(path, import.meta.url))

export default defineConfig({
  test: {
    globalSetup: ['./test/harness/sandbox-setup.ts'],
    testTimeout: 30_000,
    hookTimeout: 30_000,
    // What a test waits for comes in its own time: a second, the default, is short on a machine that is busy.
    expect: { poll: { timeout: 10_000 } },
    // Many tests wait for a provider or a deadline; on two cores the default is one worker, and two leave them half idle.
    maxWorkers: 3,
    projects: [
      { extends: true, test: { name: 'adapters', include: ['test/adapters/*.test.ts'] } },
      { extends: true, test: { name: 'gateway', include: ['test/gateway/*.test.ts'] } },
      {
        extends: true,
        test: {
          name: 'node',
          include: ['test/node/*.test.ts'],
          globalSetup: ['./tools/build.ts'],
        },
      },
      {
        extends: true,
        test: {
          name: 'faults',
          include: ['test/faults/*.test.ts'],
          globalSetup: ['./tools/build.ts', './test/harness/worker-bundle.ts'],
        },
      },
      {
        extends: true,
        test: {
          name: 'requests',
          include: ['test/requests/*.test.ts'],
          globalSetup: ['./tools/build.ts', './test/harness/worker-bundle.ts'],
        },
      },
      { extends: true, test: { name: 'sandbox', include: ['test/sandbox/*.test.ts'] } },
      {
        extends: true,
        resolve: { alias: { '#gateway': at('./test/harness/gateway.workerd.ts') } },
        test: {
          name: 'workerd',
          include: ['test/adapters/*.test.ts', 'test/gateway/*.test.ts', 'test/workerd/*.test.ts'],
          globalSetup: ['./tools/assets.ts'],
        },
        plugins: [
          cloudflareTest(({ inject }) => ({
            wrangler: { configPath: at('./wrangler.toml') },
            miniflare: {
              bindings: {
                ...environment,
                GATEWAY_CONFIG: JSON.stringify(
                  configuration(inject('sandbox'), `${inject('issuers')}/workerd`, inject('limited').workerd),
                ),
                AUDIT_KEY: Buffer.from(Array.from({ length: 32 }, (_, n) => n * 7)).toString('base64'),
                LOG_LEVEL: 'error',
              },
            },
          })),
        ],
      },
    ],
  },
})

import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    globalSetup: ['./test/sandbox-setup.ts'],
    testTimeout: 30_000,
    hookTimeout: 30_000,
    projects: [
      { extends: true, test: { name: 'adapters', include: ['test/adapters/*.test.ts'] } },
      { extends: true, test: { name: 'gateway', include: ['test/gateway/*.test.ts'] } },
      { extends: true, test: { name: 'node', include: ['test/node/*.test.ts'] } },
      { extends: true, test: { name: 'sandbox', include: ['test/sandbox*.test.ts'] } },
    ],
  },
})

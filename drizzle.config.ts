import { defineConfig } from 'drizzle-kit'

// The durable-sqlite driver writes the same SQL and, beside it, the module that a Durable Object imports.
export default defineConfig({
  dialect: 'sqlite',
  driver: 'durable-sqlite',
  schema: './src/ledger/schema.ts',
  out: './migrations',
})

import { runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { drizzle } from 'drizzle-orm/durable-sqlite'
import * as schema from '../../src/ledger/schema.ts'
import { ledgerContract } from '../ledger/contract.ts'

// No connection of the configuration: its object migrates the storage, and no recovery runs beside the tests.
const object = () => env.CONNECTIONS.getByName('ledger-contract')

ledgerContract('durable-sqlite', (test) =>
  runInDurableObject(object(), (_, { storage }) => {
    const db = drizzle(storage, { schema })
    return test({ db, commit: async (write) => db.transaction(write) })
  }),
)

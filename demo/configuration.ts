import { createHash } from 'node:crypto'
import type { Sandbox } from '../sandbox/server.ts'

/** Secrets that the configuration refers to; they open the sandbox and nothing else. */
export const environment = {
  CL_CLIENT_ID: 'sandbox-client-id',
  CL_CLIENT_SECRET: 'sandbox-client-secret',
  DISCUE_API_KEY: 'sandbox-discue-key',
  APINIZER_TOKEN: 'sandbox-token',
}

/** A connection to each provider of the sandbox, and one caller with one key. */
export const configuration = (urls: Sandbox['urls'], key: string): object => ({
  connections: {
    'commerce-layer': {
      provider: 'commerce-layer',
      baseUrl: urls.commerceLayer,
      authUrl: urls.commerceLayerAuth,
      clientId: { env: 'CL_CLIENT_ID' },
      clientSecret: { env: 'CL_CLIENT_SECRET' },
    },
    discue: { provider: 'discue', baseUrl: urls.discue, apiKey: { env: 'DISCUE_API_KEY' } },
    apinizer: { provider: 'apinizer', baseUrl: urls.apinizer, token: { env: 'APINIZER_TOKEN' } },
  },
  aliases: { 'billing-worker': 'apinizer:MyProject:api-user' },
  callers: [
    {
      name: 'demo',
      keys: [{ id: 'demo', sha256: createHash('sha256').update(key).digest('hex') }],
      allow: [
        {
          actions: ['read', 'write', 'audit', 'resolve'],
          kinds: ['credential', 'role', 'permission'],
          ids: ['*'],
          fields: ['*'],
        },
      ],
    },
  ],
})

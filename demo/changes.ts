import { createHash } from 'node:crypto'
import type { Sandbox } from '../sandbox/server.ts'

export interface DemoChange {
  title: string
  path: string
  body: Record<string, unknown>
  /** Whose record of applied changes shows it. */
  provider: keyof Omit<Sandbox['urls'], 'commerceLayerAuth'>
  /** What must be different in the provider's record, in the provider's words; absent when it must be refused. */
  expect?: Record<string, unknown>
}

const secret = 'correct-horse-battery-staple'

/** One change at each of the five upstream operations. */
export const changes: DemoChange[] = [
  {
    title: '1. Commerce Layer: an API credential gets a reference and another role',
    path: '/credentials/commerce-layer:xYZkjABcde',
    body: { reference: 'vault:9021', roles: ['ABCRtyUpBa'] },
    provider: 'commerceLayer',
    expect: { reference: 'vault:9021', role: { data: { type: 'roles', id: 'ABCRtyUpBa' } } },
  },
  {
    title: '2. Commerce Layer: a role is renamed',
    path: '/roles/commerce-layer:xYZkjABcde',
    body: { name: 'Catalog editors' },
    provider: 'commerceLayer',
    expect: { name: 'Catalog editors' },
  },
  {
    title: '3. Commerce Layer: a permission is widened by one verb',
    path: '/permissions/commerce-layer:xYZkjABcde',
    body: { canRead: true },
    provider: 'commerceLayer',
    expect: { can_read: true },
  },
  {
    title: '4. Discue: an API client is renamed',
    path: '/credentials/discue:5bc2be68-7498-4853-aa64-4be0ca62934e',
    body: { name: 'example.com/demo' },
    provider: 'discue',
    expect: { name: 'example.com/demo' },
  },
  {
    title: '5. Apinizer: a credential gets a new password and an expiry, through its alias',
    path: '/credentials/billing-worker',
    body: { secret, expiresAt: '2027-01-31T23:59:59Z' },
    provider: 'apinizer',
    expect: {
      expireDate: '2027-01-31T23:59:59.000Z',
      passwordSha256: createHash('sha256').update(secret).digest('hex'),
    },
  },
]

/** Apinizer replaces the whole credential, password included, which the gateway neither has nor invents. */
export const refused: DemoChange = {
  title: '6. Apinizer: a change without the secret that the provider needs',
  path: '/credentials/billing-worker',
  body: { enabled: false },
  provider: 'apinizer',
}

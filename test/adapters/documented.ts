import type { JsonObject } from '../../src/lib/json.ts'

/** Answers as the providers document them; suites read them and change single members of them. */

const link = (path: string) => `https://provisioning.commercelayer.io/api/${path}`
const relationship = (path: string, name: string) => ({
  links: { self: link(`${path}/relationships/${name}`), related: link(`${path}/${name}`) },
})

/** https://docs.commercelayer.io/provisioning/api-reference/api_credentials/update */
export const apiCredential = {
  data: {
    id: 'xYZkjABcde',
    type: 'api_credentials',
    links: { self: link('api_credentials/xYZkjABcde') },
    attributes: {
      name: 'My app',
      kind: 'sales_channel',
      confidential: true,
      redirect_uri: 'https://bluebrand.com/img/logo.svg',
      client_id: 'xxxx-yyyy-zzzz',
      client_secret: 'xxxx-yyyy-zzzz',
      scopes: 'market:all market:9 market:122 market:6 stock_location:6 stock_location:33',
      expires_in: 7200,
      mode: 'test',
      custom: false,
      created_at: '2018-01-01T12:00:00.000Z',
      updated_at: '2018-01-01T12:00:00.000Z',
      reference: 'ANY-EXTERNAL-REFEFERNCE',
      reference_origin: 'ANY-EXTERNAL-REFEFERNCE-ORIGIN',
      metadata: { foo: 'bar' },
    },
    relationships: {
      organization: relationship('api_credentials/xYZkjABcde', 'organization'),
      role: relationship('api_credentials/xYZkjABcde', 'role'),
    },
  },
} satisfies JsonObject

/** The same as it is read with `?include=role`: only then an answer says which role is linked. */
export const apiCredentialWithRole = (role: JsonObject | null) => ({
  data: {
    ...apiCredential.data,
    relationships: {
      ...apiCredential.data.relationships,
      role: { ...apiCredential.data.relationships.role, data: role },
    },
  },
})

/** https://docs.commercelayer.io/provisioning/api-reference/roles/update */
export const role = {
  data: {
    id: 'xYZkjABcde',
    type: 'roles',
    links: { self: link('roles/xYZkjABcde') },
    attributes: {
      name: 'Custom role',
      kind: 'custom',
      created_at: '2018-01-01T12:00:00.000Z',
      updated_at: '2018-01-01T12:00:00.000Z',
      reference: 'ANY-EXTERNAL-REFEFERNCE',
      reference_origin: 'ANY-EXTERNAL-REFEFERNCE-ORIGIN',
      metadata: { foo: 'bar' },
    },
    relationships: {
      organization: relationship('roles/xYZkjABcde', 'organization'),
      permissions: relationship('roles/xYZkjABcde', 'permissions'),
      memberships: relationship('roles/xYZkjABcde', 'memberships'),
      api_credentials: relationship('roles/xYZkjABcde', 'api_credentials'),
      versions: relationship('roles/xYZkjABcde', 'versions'),
    },
  },
} satisfies JsonObject

/** https://docs.commercelayer.io/provisioning/api-reference/permissions/update */
export const permission = {
  data: {
    id: 'xYZkjABcde',
    type: 'permissions',
    links: { self: link('permissions/xYZkjABcde') },
    attributes: {
      can_create: false,
      can_read: false,
      can_update: false,
      can_destroy: false,
      subject: '',
      restrictions: { foo: 'bar' },
      created_at: '2018-01-01T12:00:00.000Z',
      updated_at: '2018-01-01T12:00:00.000Z',
      reference: 'ANY-EXTERNAL-REFEFERNCE',
      reference_origin: 'ANY-EXTERNAL-REFEFERNCE-ORIGIN',
      metadata: { foo: 'bar' },
    },
    relationships: {
      organization: relationship('permissions/xYZkjABcde', 'organization'),
      role: relationship('permissions/xYZkjABcde', 'role'),
      versions: relationship('permissions/xYZkjABcde', 'versions'),
    },
  },
} satisfies JsonObject

/** https://docs.commercelayer.io/core/handling-errors */
export const jsonApiError = (code: string, more: JsonObject = {}) => ({
  errors: [{ title: 'A title', detail: 'A detail', code, ...more }],
})

/** https://docs.discue.io/api-reference/organizations/update-an-api-client.html */
export const apiClient = {
  api_client: { id: '5bc2be68-7498-4853-aa64-4be0ca62934e', name: 'example.com/dev' },
  _links: { self: { href: 'https://api.discue.io/api_clients/5bc2be68-7498-4853-aa64-4be0ca62934e' } },
} satisfies JsonObject

/** https://docs.apinizer.com/api-reference/credentials/crud/list-credentials */
export const listedCredential = {
  email: 'user@example.com',
  fullName: 'API User',
  description: 'A credential',
  username: 'api-user',
  password: null,
  roleNameList: ['API_USER'],
  enabled: false,
  ipList: ['192.168.1.100'],
  expireDate: '2025-12-31T23:59:59.000Z',
} satisfies JsonObject

export const credentialList = (...resultList: JsonObject[]) => ({
  status: 'SUCCESS',
  resultList,
  resultCount: resultList.length,
})

const pod = (envName: string, podName: string) => ({
  envName,
  podName,
  podIp: '10.0.0.4',
  success: true,
  responseTime: 150,
})

/** https://docs.apinizer.com/api-reference/credentials/crud/create-credential */
export const deployedEverywhere = {
  success: true,
  responseTime: 310,
  detailList: [pod('production', 'worker-7c9'), pod('staging', 'worker-1aa')],
} satisfies JsonObject

import { registry } from '../../adapters/index.ts'
import type { JsonObject } from '../../src/lib/json.ts'
import { type Answer, adapterContract, type Samples } from './contract.ts'
import {
  apiClient,
  apiCredentialWithRole,
  credentialList,
  deployedEverywhere,
  listedCredential,
  permission,
  role,
} from './documented.ts'

const commerceLayerRefusals = (words: string) => [
  { errors: [{ title: words, detail: words, code: words, status: '422' }] },
  ...['blank', words].map((error) => ({
    errors: [
      {
        title: words,
        detail: `name - ${words}`,
        code: 'VALIDATION_ERROR',
        source: { pointer: '/data/attributes/name' },
        status: '422',
        meta: { error, value: words, count: 7200 },
      },
    ],
  })),
  { errors: [{ code: 'VALIDATION_ERROR', source: { pointer: words } }] },
  { errors: [{ code: 'VALIDATION_ERROR', source: { pointer: `/data/attributes/${words}` } }] },
]

const commerceLayerAnswer = (body: JsonObject, attributes: Readonly<Record<string, string>>): Answer => ({
  body,
  vital: ['data', 'data.id', 'data.type', 'data.attributes'],
  demanded: Object.fromEntries(
    Object.entries(attributes).map(([upstream, field]) => [`data.attributes.${upstream}`, field]),
  ),
  identity: 'data.id',
})

const commerceLayerKind = (answer: Answer) => ({
  ref: { id: 'xYZkjABcde' },
  needs: {},
  read: answer,
  written: answer,
  refusals: commerceLayerRefusals,
})

const samples = {
  'commerce-layer': {
    kinds: {
      credential: commerceLayerKind(
        commerceLayerAnswer(apiCredentialWithRole({ type: 'roles', id: 'ABCRtyUpBa' }), { name: 'name' }),
      ),
      role: commerceLayerKind(commerceLayerAnswer(role, { name: 'name' })),
      permission: commerceLayerKind(
        commerceLayerAnswer(permission, {
          can_create: 'canCreate',
          can_read: 'canRead',
          can_update: 'canUpdate',
          can_destroy: 'canDestroy',
        }),
      ),
    },
    token: {
      issued: {
        body: {
          access_token: 'eyJhbGciOiJSUzUxMiJ9',
          token_type: 'bearer',
          expires_in: 7200,
          scope: 'provisioning-api',
          created_at: 1760000000,
        },
        vital: ['access_token', 'expires_in'],
      },
      refusals: (words) => [{ errors: [{ title: words, detail: words, code: 'UNAUTHORIZED', status: 401 }] }],
    },
  },

  discue: {
    kinds: {
      credential: {
        ref: { api_client_id: '5bc2be68-7498-4853-aa64-4be0ca62934e' },
        needs: { name: 'example.com/dev' },
        written: { body: apiClient, vital: ['api_client', 'api_client.id'], identity: 'api_client.id' },
        refusals: (words) => [{ title: words, status: 422 }],
      },
    },
  },

  apinizer: {
    kinds: {
      credential: {
        ref: { projectName: 'MyProject', username: 'api-user' },
        needs: { secret: 'NewSecurePassword123!' },
        read: {
          body: credentialList({
            ...listedCredential,
            metadata: [{ key: 'team', value: 'billing', secret: false }],
          }),
          vital: ['resultList', 'resultList.0.username'],
          demanded: {
            'resultList.0.fullName': 'name',
            'resultList.0.email': 'email',
            'resultList.0.enabled': 'enabled',
            'resultList.0.roleNameList': 'roles',
            'resultList.0.ipList': 'allowedIps',
          },
          identity: 'resultList.0.username',
        },
        written: {
          body: { status: 'SUCCESS', deploymentResult: deployedEverywhere },
          vital: [
            'status',
            'deploymentResult',
            'deploymentResult.success',
            'deploymentResult.detailList.0.success',
            'deploymentResult.detailList.1.success',
          ],
        },
        refusals: (words) => [
          { status: 'FAILURE', resultMessage: words },
          { status: 'FAILURE', resultMessage: `Credential ${words} was not found.` },
          { status: 'FAILURE', resultMessage: `The username ${words} is already used.` },
          { error: 'bad_request', error_description: words },
          { success: false, message: words },
        ],
      },
    },
    token: {
      issued: {
        body: { access_token: 'eyJhbGciOiJIUzUxMiJ9', token_type: 'Bearer', expires_in: 3600 },
        // Not every token has an end.
        vital: ['access_token'],
      },
      refusals: (words) => [{ error: 'unauthorized_client', error_description: words }],
    },
  },
} satisfies Record<keyof typeof registry, Samples>

for (const [name, adapter] of Object.entries(registry)) {
  adapterContract(name, adapter, samples[name as keyof typeof registry])
}

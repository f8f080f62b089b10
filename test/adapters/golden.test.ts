import { describe, expect, test } from 'vitest'
import type { JsonObject } from '../../src/lib/json.ts'
import type { Kind } from '../../src/model/enums.ts'
import { readCurl } from './curl.ts'
import {
  apiClient,
  apiCredential,
  apiCredentialWithRole,
  credentialList,
  deployedEverywhere,
  listedCredential,
  permission,
  role,
} from './documented.ts'
import { answer, translate } from './translation.ts'

/** The requests and responses that the providers' pages show, word for word. */

const token = '{{your_access_token}}'
const commerceLayer = (kind: Kind) => translate('commerce-layer', kind, 'commerce-layer:xYZkjABcde')

/** The resource before the documented update: some attributes have other values. */
const having = <D extends { data: { attributes: JsonObject } }>(document: D, attributes: JsonObject) => ({
  data: { ...document.data, attributes: { ...document.data.attributes, ...attributes } },
})

describe('commerce layer', () => {
  test('update an API credential', () => {
    const curl = String.raw`curl -g -X PATCH \
      'https://provisioning.commercelayer.io/api/api_credentials/xYZkjABcde' \
      -H 'Accept: application/vnd.api+json' \
      -H 'Authorization: Bearer {{your_access_token}}' \
      -H 'Content-Type: application/vnd.api+json' \
      -d '{
        "data": {
          "type": "api_credentials",
          "id": "xYZkjABcde",
          "attributes": {
            "reference": "ANY-EXTERNAL-REFEFERNCE"
          },
          "relationships": {
            "role": {
              "data": {
                "type": "roles",
                "id": "ABCRtyUpBa"
              }
            }
          }
        }
      }'`
    const body = { reference: 'ANY-EXTERNAL-REFEFERNCE', roles: ['ABCRtyUpBa'] }
    const before = having(apiCredentialWithRole(null), { reference: null })
    expect(commerceLayer('credential').send(body, token, before)).toEqual(readCurl(curl))
    expect(commerceLayer('credential').parse(answer(200, apiCredential))).toEqual({
      outcome: 'applied',
      values: {
        name: 'My app',
        tokenLifetime: 7200,
        redirectUri: 'https://bluebrand.com/img/logo.svg',
        reference: 'ANY-EXTERNAL-REFEFERNCE',
        referenceOrigin: 'ANY-EXTERNAL-REFEFERNCE-ORIGIN',
        metadata: { foo: 'bar' },
        kind: 'sales_channel',
        mode: 'test',
        clientId: 'xxxx-yyyy-zzzz',
        scopes: 'market:all market:9 market:122 market:6 stock_location:6 stock_location:33',
        confidential: true,
        custom: false,
        createdAt: '2018-01-01T12:00:00.000Z',
        updatedAt: '2018-01-01T12:00:00.000Z',
      },
    })
  })

  test('update a role', () => {
    const curl = String.raw`curl -g -X PATCH \
      'https://provisioning.commercelayer.io/api/roles/xYZkjABcde' \
      -H 'Accept: application/vnd.api+json' \
      -H 'Authorization: Bearer {{your_access_token}}' \
      -H 'Content-Type: application/vnd.api+json' \
      -d '{
        "data": {
          "type": "roles",
          "id": "xYZkjABcde",
          "attributes": {
            "reference": "ANY-EXTERNAL-REFEFERNCE"
          }
        }
      }'`
    const before = having(role, { reference: null })
    expect(commerceLayer('role').send({ reference: 'ANY-EXTERNAL-REFEFERNCE' }, token, before)).toEqual(
      readCurl(curl),
    )
    expect(commerceLayer('role').parse(answer(200, role))).toEqual({
      outcome: 'applied',
      values: {
        name: 'Custom role',
        kind: 'custom',
        reference: 'ANY-EXTERNAL-REFEFERNCE',
        referenceOrigin: 'ANY-EXTERNAL-REFEFERNCE-ORIGIN',
        metadata: { foo: 'bar' },
      },
    })
  })

  test('update a permission', () => {
    const curl = String.raw`curl -g -X PATCH \
      'https://provisioning.commercelayer.io/api/permissions/xYZkjABcde' \
      -H 'Accept: application/vnd.api+json' \
      -H 'Authorization: Bearer {{your_access_token}}' \
      -H 'Content-Type: application/vnd.api+json' \
      -d '{
      "data": {
        "type": "permissions",
        "id": "xYZkjABcde",
        "attributes": {
          "reference": "ANY-EXTERNAL-REFEFERNCE"
        }
      }
    }'`
    const before = having(permission, { reference: null })
    const body = { reference: 'ANY-EXTERNAL-REFEFERNCE' }
    expect(commerceLayer('permission').send(body, token, before)).toEqual(readCurl(curl))
    expect(commerceLayer('permission').parse(answer(200, permission))).toEqual({
      outcome: 'applied',
      values: {
        canCreate: false,
        canRead: false,
        canUpdate: false,
        canDestroy: false,
        subject: '',
        restrictions: { foo: 'bar' },
        reference: 'ANY-EXTERNAL-REFEFERNCE',
        referenceOrigin: 'ANY-EXTERNAL-REFEFERNCE-ORIGIN',
        metadata: { foo: 'bar' },
      },
    })
  })
})

describe('discue', () => {
  test('update an API client', () => {
    const id = '5bc2be68-7498-4853-aa64-4be0ca62934e'
    const credential = translate('discue', 'credential', `discue:${id}`)
    const curl = String.raw`curl -X PUT http://api.discue.io/v1/api_clients/{api_client_id} \
      -H 'Content-Type: application/json' \
      -H 'Accept: application/json' \
      -H 'X-API-KEY: API_KEY' \
      -d '{
        "id": "5bc2be68-7498-4853-aa64-4be0ca62934e",
        "name": "example.com/dev"
      }'`
    // The examples say http, the documentation's text says that only TLS is served.
    const documented = readCurl(curl.replace('http:', 'https:').replace('{api_client_id}', id))
    expect(credential.send({ name: 'example.com/dev' }, 'API_KEY')).toEqual(documented)
    expect(credential.parse(answer(200, apiClient))).toEqual({
      outcome: 'applied',
      values: { name: 'example.com/dev' },
    })
  })
})

describe('apinizer', () => {
  const credential = translate(
    'apinizer',
    'credential',
    'apinizer:MyProject:api-user',
    'https://demo.apinizer.com',
  )
  const before = credentialList(listedCredential)

  test('update a credential, the cURL example', () => {
    const curl = String.raw`curl -X PUT \
      "https://demo.apinizer.com/apiops/projects/MyProject/credentials/" \
      -H "Authorization: Bearer YOUR_TOKEN" \
      -H "Content-Type: application/json" \
      -d '{
        "email": "updated@example.com",
        "fullName": "Updated User",
        "description": "Updated description",
        "username": "api-user",
        "password": "NewSecurePassword123!",
        "roleNameList": [
          "API_USER"
        ],
        "enabled": true,
        "ipList": [],
        "expireDate": null
      }'`
    const body = {
      email: 'updated@example.com',
      name: 'Updated User',
      description: 'Updated description',
      secret: 'NewSecurePassword123!',
      roles: ['API_USER'],
      enabled: true,
      allowedIps: [],
      expiresAt: null,
    }
    expect(credential.send(body, 'YOUR_TOKEN', before)).toEqual(readCurl(curl))
  })

  test('update a credential, the full JSON body example', () => {
    const documented = {
      email: 'updated@example.com',
      fullName: 'Updated User',
      description: 'Updated credential description',
      username: 'api-user',
      password: 'NewSecurePassword123!',
      roleNameList: ['API_USER', 'DEVELOPER'],
      enabled: true,
      ipList: ['192.168.1.100'],
      expireDate: '2025-12-31T23:59:59.000Z',
    }
    const body = {
      email: 'updated@example.com',
      name: 'Updated User',
      description: 'Updated credential description',
      secret: 'NewSecurePassword123!',
      roles: ['API_USER', 'DEVELOPER'],
      enabled: true,
      allowedIps: ['192.168.1.100'],
      expiresAt: '2025-12-31T23:59:59.000Z',
    }
    expect(credential.send(body, 'YOUR_TOKEN', before)).toEqual({
      method: 'PUT',
      url: 'https://demo.apinizer.com/apiops/projects/MyProject/credentials/',
      headers: { authorization: 'Bearer YOUR_TOKEN', 'content-type': 'application/json' },
      body: documented,
    })
  })

  test('the answer to a create or an update', () => {
    const documented = { status: 'SUCCESS', deploymentResult: deployedEverywhere }
    expect(credential.parse(answer(200, documented))).toEqual({
      outcome: 'applied',
      deployment: {
        success: true,
        environments: [
          { name: 'production', success: true },
          { name: 'staging', success: true },
        ],
      },
    })
  })

  test('the list of credentials', () => {
    expect(credential.read(answer(200, before))).toEqual({
      ok: true,
      value: {
        values: {
          name: 'API User',
          description: 'A credential',
          email: 'user@example.com',
          enabled: false,
          roles: ['API_USER'],
          allowedIps: ['192.168.1.100'],
          expiresAt: '2025-12-31T23:59:59.000Z',
        },
      },
    })
  })
})

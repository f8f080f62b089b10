import { consoleUser } from './apinizer/access.ts'
import { gatewayClient } from './commerce-layer/resources.ts'
import { startSandbox } from './server.ts'

const port = (name: string, usual: number): number => Number(process.env[name] ?? usual)

const { urls, close } = await startSandbox({
  ports: {
    commerceLayer: port('SANDBOX_COMMERCE_LAYER_PORT', 4101),
    discue: port('SANDBOX_DISCUE_PORT', 4102),
    apinizer: port('SANDBOX_APINIZER_PORT', 4103),
  },
  ...(process.env['SANDBOX_HOST'] !== undefined && { host: process.env['SANDBOX_HOST'] }),
})

const update = (
  type: string,
  more = '',
) => `curl -g -X PATCH '${urls.commerceLayer}/api/${type}/xYZkjABcde' \\
  -H 'Accept: application/vnd.api+json' -H 'Content-Type: application/vnd.api+json' \\
  -H "Authorization: Bearer $TOKEN" \\
  -d '{"data":{"type":"${type}","id":"xYZkjABcde","attributes":{"reference":"ANY-EXTERNAL-REFEFERNCE"}${more}}}'`

console.log(`The provider sandbox is up. Its credentials are test values and open nothing else.

Commerce Layer  ${urls.commerceLayer}
  user (admin)      ${gatewayClient.id} / ${gatewayClient.secret}
  user (read only)  sandbox-reader-id / sandbox-reader-secret
Discue          ${urls.discue}
  key               sandbox-discue-key (sandbox-discue-limited-key may not touch api clients)
Apinizer        ${urls.apinizer}
  token             sandbox-token (also sandbox-token-no-deploy, sandbox-token-readonly, sandbox-token-expired)
  console user      ${consoleUser.name} / ${consoleUser.password}

What was applied: GET /_sandbox/ledger on each address. What shall go wrong: POST /_sandbox/faults.

TOKEN=$(curl -s ${urls.commerceLayerAuth}/oauth/token -H 'Content-Type: application/json' \\
  -d '{"grant_type":"client_credentials","client_id":"${gatewayClient.id}","client_secret":"${gatewayClient.secret}"}' \\
  | sed 's/.*"access_token":"\\([^"]*\\)".*/\\1/')

${update('api_credentials', ',"relationships":{"role":{"data":{"type":"roles","id":"ABCRtyUpBa"}}}')}

${update('roles')}

${update('permissions')}

curl -X PUT ${urls.discue}/api_clients/5bc2be68-7498-4853-aa64-4be0ca62934e \\
  -H 'Content-Type: application/json' -H 'Accept: application/json' -H 'X-API-KEY: sandbox-discue-key' \\
  -d '{"id":"5bc2be68-7498-4853-aa64-4be0ca62934e","name":"example.com/dev"}'

curl -X PUT '${urls.apinizer}/apiops/projects/MyProject/credentials/' \\
  -H 'Authorization: Bearer sandbox-token' -H 'Content-Type: application/json' \\
  -d '{"email":"updated@example.com","fullName":"Updated User","description":"Updated description","username":"api-user","password":"NewSecurePassword123!","roleNameList":["API_USER"],"enabled":true,"ipList":[],"expireDate":null}'
`)

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void close())

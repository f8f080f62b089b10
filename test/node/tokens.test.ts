import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { configuration } from '../harness/configuration.ts'
import { startTestGateway, type TestGateway } from '../harness/gateway.node.ts'

// Issuers of its own: other files tell theirs what to publish at the same time.
const ISSUERS = `${inject('issuers')}/log`
const issuer = (name: string): string => `${ISSUERS}/${name}`

let gateway: TestGateway
beforeAll(async () => {
  gateway = await startTestGateway(configuration(inject('sandbox'), ISSUERS))
})
afterAll(() => gateway.close())

const { privateKey, publicKey } = await generateKeyPair('ES256')

const publish = async (name: string, state: object): Promise<void> => {
  await fetch(`${issuer(name)}/control`, { method: 'PUT', body: JSON.stringify(state) })
}

/** Sends a token and tells the entry of the log with the request's id, if it is more than that of the request itself. */
async function entryOf(requestId: string, claims: object, kid = 'log'): Promise<object> {
  const token = await new SignJWT({
    iss: issuer('people'),
    aud: 'gateway',
    exp: Math.floor(Date.now() / 1000) + 300,
    team: 'platform',
    ...claims,
  })
    .setProtectedHeader({ alg: 'ES256', kid })
    .sign(privateKey)
  const headers = { authorization: `Bearer ${token}`, 'x-request-id': requestId }
  const { status } = await fetch(`${gateway.url}/providers`, { headers })
  const lines = gateway.logged.map((line) => JSON.parse(line)).filter((line) => line.requestId === requestId)
  for (const part of [...token.split('.'), 'mallory', 'unprintable'])
    expect(gateway.logged.join()).not.toContain(part)
  expect(lines.at(-1)).toMatchObject({ message: 'request', status })
  const { message, reason, issuer: named, callers } = lines[0]
  return { status, message, reason, issuer: named, callers }
}

test('the log says why a token was refused, and nothing that stood in it', async () => {
  await publish('people', { keys: [{ ...(await exportJWK(publicKey)), kid: 'log' }] })
  const refused = (reason: string, more: object = { issuer: issuer('people') }) => ({
    status: 401,
    message: 'token refused',
    reason,
    ...more,
  })
  const sub = 'mallory'
  // The first, for it has the keys read: later nobody could say before the next reading.
  expect(await entryOf('key', { sub }, 'unprintable')).toMatchObject(refused('ERR_JWKS_NO_MATCHING_KEY'))
  expect(await entryOf('good', { sub })).toMatchObject({ status: 200, message: 'request' })
  expect(await entryOf('expired', { sub, exp: 7 })).toMatchObject(refused('ERR_JWT_EXPIRED exp'))
  expect(await entryOf('audience', { aud: 'unprintable' })).toMatchObject(
    refused('ERR_JWT_CLAIM_VALIDATION_FAILED aud'),
  )
  expect(await entryOf('issuer', { iss: 'https://unprintable.example' })).toMatchObject(
    refused('it is of no issuer that is configured for this header', {}),
  )
  expect(await entryOf('long', { sub: 'x'.repeat(8192) })).toMatchObject(refused('it is too long', {}))
  expect(await entryOf('nobody', { team: 'unprintable' })).toMatchObject(
    refused('its claims are those of no caller'),
  )
  expect(await entryOf('several', { groups: 'ops', email_verified: true })).toMatchObject(
    refused('its claims are those of several callers', { callers: 'people operators' }),
  )
})

test('the log says why an issuer’s keys cannot be had', async () => {
  await publish('failing', { keys: [], faults: [{ on: 'keys', status: 418 }] })
  expect(await entryOf('down', { iss: issuer('failing') })).toMatchObject({ status: 503 })
  expect(gateway.logged.map((line) => JSON.parse(line))).toContainEqual(
    expect.objectContaining({
      level: 'WARN',
      message: 'issuer without keys',
      issuer: issuer('failing'),
      reason: 'the answer was 418',
    }),
  )
})

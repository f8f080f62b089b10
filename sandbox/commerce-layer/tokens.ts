import { generateKeyPair, type KeyObject, randomInt, sign } from 'node:crypto'
import { promisify } from 'node:util'
import type { Clock } from '../clock.ts'
import { gatewayClient } from './resources.ts'

/** Personal credentials of a user. Only organization admins may write (docs.commercelayer.io/provisioning). */
export interface UserClient {
  clientId: string
  clientSecret: string
  admin: boolean
  userId: string
  applicationId: string
}

const clients: UserClient[] = [
  {
    clientId: gatewayClient.id,
    clientSecret: gatewayClient.secret,
    admin: true,
    userId: 'uSeRaDmInX',
    applicationId: 'aPpLiCaTiA',
  },
  {
    clientId: 'sandbox-reader-id',
    clientSecret: 'sandbox-reader-secret',
    admin: false,
    userId: 'uSeRrEaDeR',
    applicationId: 'aPpLiCaTiR',
  },
]

export const clientOf = (id: unknown, secret: unknown): UserClient | undefined =>
  clients.find(({ clientId, clientSecret }) => clientId === id && clientSecret === secret)

const keyId = 'sandbox-rs512'
const issuer = 'https://auth.commercelayer.io'

let pair: Promise<{ publicKey: KeyObject; privateKey: KeyObject }> | undefined
/** One key per process, made when the first token is asked for: it takes longer than starting the sandbox. */
const keyPair = () => (pair ??= promisify(generateKeyPair)('rsa', { modulusLength: 2048 }))

export async function jsonWebKeySet(): Promise<object> {
  const { publicKey } = await keyPair()
  return { keys: [{ ...publicKey.export({ format: 'jwk' }), kid: keyId, alg: 'RS512', use: 'sig' }] }
}

const encoded = (part: object) => Buffer.from(JSON.stringify(part)).toString('base64url')

interface Issued {
  client: UserClient
  expiresAt: number
  revoked: boolean
}

export interface Tokens {
  issue(client: UserClient, lifetimeSeconds: number): Promise<object>
  /** The owner of a valid token; undefined for a foreign, expired or revoked one. */
  owner(token: string): UserClient | undefined
  revoke(token: string): boolean
  revokeAll(): number
  expireAll(): number
  clear(): void
}

export function createTokens(clock: Clock): Tokens {
  const issued = new Map<string, Issued>()
  const change = (apply: (token: Issued) => void) => {
    for (const token of issued.values()) apply(token)
    return issued.size
  }

  return {
    async issue(client, lifetimeSeconds) {
      const { privateKey } = await keyPair()
      const iat = Math.floor(clock.now() / 1000)
      const signed = [
        encoded({ typ: 'JWT', alg: 'RS512', kid: keyId }),
        encoded({
          user: { id: client.userId },
          application: {
            id: client.applicationId,
            client_id: client.clientId,
            kind: 'user',
            public: false,
            confidential: true,
          },
          scope: 'provisioning-api',
          exp: iat + lifetimeSeconds,
          iat,
          test: false,
          rand: randomInt(2 ** 32),
          iss: issuer,
        }),
      ].join('.')
      const token = `${signed}.${sign('sha512', Buffer.from(signed), privateKey).toString('base64url')}`
      issued.set(token, { client, expiresAt: (iat + lifetimeSeconds) * 1000, revoked: false })
      return {
        access_token: token,
        token_type: 'bearer',
        expires_in: lifetimeSeconds,
        scope: 'provisioning-api',
        created_at: iat,
      }
    },
    owner(token) {
      const known = issued.get(token)
      return known && !known.revoked && known.expiresAt > clock.now() ? known.client : undefined
    },
    revoke(token) {
      const known = issued.get(token)
      if (known) known.revoked = true
      return known !== undefined
    },
    revokeAll: () => change((token) => (token.revoked = true)),
    expireAll: () => change((token) => (token.expiresAt = clock.now())),
    clear: () => issued.clear(),
  }
}

import { runtime } from '#gateway'
import { base64url, type CryptoKey, exportJWK, exportSPKI, generateKeyPair, SignJWT } from 'jose'
import { inject } from 'vitest'
import { keys } from './configuration.ts'

/** What tokens are made with. */
export interface Forge {
  /** A token of the issuer `gate`; with `undefined` a claim is left out. */
  sign(claims?: Record<string, unknown>, key?: CryptoKey): Promise<string>
  /** The key of the issuer `lodge`, which has the name of the one of `gate`. */
  foreign: CryptoKey
  publicKey: CryptoKey
}

const issuerOf = (name: string): string => `${inject('issuers')}/${runtime}/${name}`

const seconds = (): number => Math.floor(Date.now() / 1000)

const claimsOf = (more: Record<string, unknown> = {}): Record<string, unknown> => ({
  iss: issuerOf('gate'),
  aud: 'gateway',
  sub: 'alice',
  exp: seconds() + 3600,
  team: 'platform',
  ...more,
})

const KID = 'one'

/** Has both issuers publish a key of theirs. */
export async function openForge(): Promise<Forge> {
  const [own, foreign] = await Promise.all([generateKeyPair('RS256'), generateKeyPair('RS256')])
  for (const [name, key] of Object.entries({ gate: own.publicKey, lodge: foreign.publicKey })) {
    const published = [{ ...(await exportJWK(key)), kid: KID, alg: 'RS256', use: 'sig' }]
    const body = JSON.stringify({ keys: published })
    const { status } = await fetch(`${issuerOf(name)}/control`, { method: 'PUT', body })
    if (status !== 200) throw new Error(`the issuer ${name} answered ${status}`)
  }
  return {
    sign: (claims, key = own.privateKey) =>
      new SignJWT(claimsOf(claims)).setProtectedHeader({ alg: 'RS256', kid: KID }).sign(key),
    foreign: foreign.privateKey,
    publicKey: own.publicKey,
  }
}

type Headers = Record<string, string>

const bearer = (text: string): Headers => ({ authorization: `Bearer ${text}` })
const encode = (value: unknown): string => base64url.encode(JSON.stringify(value))

const lastTurned = (key: string): string => key.slice(0, -1) + (key.endsWith('A') ? 'B' : 'A')

/** Well formed, and of nobody who is configured. */
const revoked = keys.admin.replace('cgw_admin_', 'cgw_revoked_')

/** Every way of coming in that tells nobody who it is. */
export const unknownArrivals: [string, (forge: Forge) => Promise<Headers> | Headers][] = [
  ['no credential', () => ({})],
  ['an empty key', () => ({ 'x-api-key': '' })],
  ['an empty bearer', () => ({ authorization: 'Bearer ' })],
  ['a malformed key', () => ({ 'x-api-key': `${keys.admin}=` })],
  ['a malformed key as a bearer', () => bearer(keys.admin.toUpperCase())],
  ['a key that was revoked', () => ({ 'x-api-key': revoked })],
  ['a key that was revoked, as a bearer', () => bearer(revoked)],
  ['a key with a wrong secret', () => ({ 'x-api-key': lastTurned(keys.admin) })],
  ['a key with the secret of another', () => bearer(keys.viewer.replace('cgw_viewer_', 'cgw_admin_'))],
  ['a key as a password', () => ({ authorization: `Basic ${btoa(`admin:${keys.admin}`)}` })],
  ['a key in a cookie', () => ({ cookie: `x-api-key=${keys.admin}` })],
  ['two keys at once', () => ({ ...bearer(keys.admin), 'x-api-key': keys.rotated })],
  ['a key beside a token', async ({ sign }) => ({ ...bearer(await sign()), 'x-api-key': keys.admin })],
  ['a bearer that is no token', () => bearer('a.b.c')],
  ['a token that has expired', async ({ sign }) => bearer(await sign({ exp: seconds() - 60 }))],
  ['a token that is not valid yet', async ({ sign }) => bearer(await sign({ nbf: seconds() + 60 }))],
  ['a token without an end', async ({ sign }) => bearer(await sign({ exp: undefined }))],
  ['a token for another audience', async ({ sign }) => bearer(await sign({ aud: 'another-gateway' }))],
  ['a token of an unknown issuer', async ({ sign }) => bearer(await sign({ iss: issuerOf('nobody') }))],
  [
    'a token in the name of another issuer',
    async ({ sign }) => bearer(await sign({ iss: issuerOf('lodge') })),
  ],
  ['a token without a signature', () => bearer(`${encode({ alg: 'none' })}.${encode(claimsOf())}.`)],
  [
    'a token whose signature is a MAC with the public key',
    async ({ publicKey }) => {
      const secret = new TextEncoder().encode(await exportSPKI(publicKey))
      return bearer(await new SignJWT(claimsOf()).setProtectedHeader({ alg: 'HS256', kid: KID }).sign(secret))
    },
  ],
  ['a token that is signed by an unknown key', async ({ sign, foreign }) => bearer(await sign({}, foreign))],
  [
    'a token in the header of another issuer',
    async ({ sign }) => ({ 'cf-access-jwt-assertion': await sign() }),
  ],
  ['a token of another header', async ({ sign }) => bearer(await sign({ iss: issuerOf('edge') }))],
  ['a token in the header of keys', async ({ sign }) => ({ 'x-api-key': await sign() })],
  ['a token whose claims are of no caller', async ({ sign }) => bearer(await sign({ team: 'marketing' }))],
]

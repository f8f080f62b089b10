import { createHmac, hkdfSync } from 'node:crypto'
import { canonical } from './json.ts'
import type { Secret } from './secret.ts'

/** Keyed digests over what must not be stored or shown; every use has a key of its own (HKDF, RFC 5869). */
export interface AuditKeys {
  /** Names the key in fingerprints, so that old ones can still be recognized after a rotation. */
  id: number
  /** Equal for equal keys; a ledger keeps it to notice that a key was exchanged without a new id. */
  check: string
  /** Binds the value to its resource and field: the same secret elsewhere has another fingerprint. */
  fingerprint(kind: string, resource: string, field: string, secret: Secret): string
  /** Distinguishes two requests with one idempotency key, without being a digest that could be guessed against. */
  request(parts: unknown): string
  /** A strong entity tag (RFC 9110 §8.8.3), quotes included. */
  etag(parts: unknown): string
}

export interface AuditKeyText {
  id: number
  bytes: Uint8Array
}

/** `{base64 of 32 bytes}`, or `{id}:{base64}` for a later key; the id of the first is 1. */
export function parseAuditKey(text: string): AuditKeyText | undefined {
  const [, id = '1', base64 = ''] = /^(?:([1-9]\d{0,5}):)?([A-Za-z0-9+/]{43}=)$/.exec(text.trim()) ?? []
  const bytes = Buffer.from(base64, 'base64')
  return bytes.length === 32 ? { id: Number(id), bytes } : undefined
}

/** Whether somebody typed it: of 32 random bytes eight values are never all. */
export const isGuessable = ({ bytes }: AuditKeyText): boolean => new Set(bytes).size <= 8

export function deriveAuditKeys({ id, bytes }: AuditKeyText): AuditKeys {
  const derive = (use: string) => Buffer.from(hkdfSync('sha256', bytes, '', `credential-gateway/${use}`, 32))
  const keys = { fingerprint: derive('fingerprint'), etag: derive('etag'), request: derive('request') }
  const mac = (key: Buffer, value: unknown) => createHmac('sha256', key).update(canonical(value))
  return {
    id,
    check: derive('check').toString('hex').slice(0, 16),
    fingerprint: (kind, resource, field, secret) =>
      `hmac-sha256:${id}:${mac(keys.fingerprint, [kind, resource, field, secret.expose()]).digest('hex')}`,
    request: (parts) => mac(keys.request, parts).digest('base64url'),
    etag: (parts) => `"${mac(keys.etag, parts).digest('base64url').slice(0, 32)}"`,
  }
}

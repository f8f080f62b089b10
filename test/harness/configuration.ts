import { createHash } from 'node:crypto'
import type { Sandbox } from '../../sandbox/server.ts'
import { actions, tokenAlgorithms } from '../../src/config/document.ts'

/** Keys of the test's callers. The texts are fixed, so that one configuration serves every process. */
export const keys = {
  admin: apiKey('admin'),
  reader: apiKey('reader'),
  planner: apiKey('planner'),
  /** Only `name` and `enabled` of one Apinizer project. */
  narrow: apiKey('narrow'),
  /** Writes everything and reads nothing. */
  blind: apiKey('blind'),
  auditor: apiKey('auditor'),
  /** Reads everything and does nothing else. */
  viewer: apiKey('viewer'),
  /** Reads the audit of everything and nothing else. */
  examiner: apiKey('examiner'),
  /** Audits Apinizer’s credentials, and sees nothing of them but the description. */
  librarian: apiKey('librarian'),
  /** Does everything with roles and permissions. */
  clerk: apiKey('clerk'),
  /** Does everything with one field. */
  labeller: apiKey('labeller'),
  /** Settles changes by hand and reads nothing. */
  resolver: apiKey('resolver'),
  expired: apiKey('expired'),
  /** Three requests an hour. */
  limited: apiKey('limited'),
  /** Two requests a second. */
  brief: apiKey('brief'),
  /** A second key of `admin`. */
  rotated: apiKey('rotated'),
}

function apiKey(id: string): string {
  return `cgw_${id}_${createHash('sha256').update(`test key ${id}`).digest('base64url')}`
}

export const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex')

const everything = { kinds: ['credential', 'role', 'permission'], ids: ['*'], fields: ['*'] }

const caller = (name: string, ids: string[], allow: object[], expiresAt: string | null = null) => ({
  name,
  keys: ids.map((id) => ({ id, sha256: sha256(apiKey(id)), expiresAt })),
  allow,
})

/** Secrets that the configuration refers to. */
export const environment = {
  CL_CLIENT_ID: 'sandbox-client-id',
  CL_CLIENT_SECRET: 'sandbox-client-secret',
  CL_READER_ID: 'sandbox-reader-id',
  CL_READER_SECRET: 'sandbox-reader-secret',
  DISCUE_API_KEY: 'sandbox-discue-key',
  DISCUE_LIMITED_KEY: 'sandbox-discue-limited-key',
  APINIZER_TOKEN: 'sandbox-token',
  APINIZER_READONLY: 'sandbox-token-readonly',
  APINIZER_USER: 'sandbox-user',
  APINIZER_PASSWORD: 'sandbox-password',
}

/** A port on which nothing listens: it is above those that systems give out. */
const NOWHERE = 'http://127.0.0.1:65529'

/** Issuers that are asked where their keys are; their tokens for `team: platform` are those of a caller. */
const discovered = [
  'people',
  'cold',
  'crowd',
  'rotating',
  'retiring',
  'failing',
  'flooded',
  'lying',
  'slow',
  'silent',
  'gate',
  'lodge',
]

/** What the sandbox's Commerce Layer with limits enforces, and what its connection is configured to keep. */
export const limits = {
  writes: [
    { requests: 24, seconds: 2 },
    { requests: 16, seconds: 1 },
  ],
  reads: [
    { requests: 160, seconds: 2 },
    { requests: 120, seconds: 1 },
  ],
  tokens: [{ requests: 30, seconds: 60 }],
}

/** The same server at another address: one account has one connection, and on this machine each address counts as a server. */
export function at<T extends { baseUrl: string }>(name: string, connection: T): T {
  if (connection.baseUrl === '') return connection
  const { origin, pathname } = new URL(connection.baseUrl)
  return { ...connection, baseUrl: `${origin}/at/${name}${pathname === '/' ? '' : pathname}` }
}

/** The same server as another host. */
const byName = (url: string): string => url.replace('127.0.0.1', 'localhost')

/** Who signs tokens, and whose tokens they are. */
function tokens(base: string) {
  const issuer = (name: string, more: object = {}) => ({
    issuer: `${base}/${name}`,
    audience: 'gateway',
    algorithms: tokenAlgorithms,
    ...more,
  })
  const holder = (name: string, of: string, claims: object, actions: string[]) => ({
    name,
    jwt: { issuer: `${base}/${of}`, claims },
    allow: [{ ...everything, actions }],
  })
  return {
    issuers: [
      ...discovered.map((name) => issuer(name)),
      issuer('direct', {
        jwksUrl: `${base}/direct/keys`,
        algorithms: ['RS256'],
        audience: ['gateway', 'another-gateway'],
      }),
      issuer('edge', { jwksUrl: `${base}/edge/keys`, header: 'Cf-Access-Jwt-Assertion' }),
    ],
    callers: [
      ...discovered.map((name) => holder(name, name, { team: 'platform' }, ['read', 'write'])),
      holder('direct', 'direct', { team: 'platform' }, ['read']),
      holder('edge', 'edge', { common_name: 'deploy.access' }, ['read']),
      holder('operators', 'people', { groups: ['ops', 'sre'], email_verified: true }, ['read']),
    ],
  }
}

/**
 * One document with a connection for every way of being configured that a suite needs.
 * @param issuers What stands before the issuers of tokens; without it there are none.
 * @param limited A Commerce Layer that enforces `limits`; without it no connection leads to one.
 */
export function configuration(urls: Sandbox['urls'], issuers?: string, limited?: string): object {
  const byToken = issuers === undefined ? { issuers: [], callers: [] } : tokens(issuers)
  const commerceLayer = {
    provider: 'commerce-layer',
    baseUrl: urls.commerceLayer,
    authUrl: urls.commerceLayerAuth,
    clientId: { env: 'CL_CLIENT_ID' },
    clientSecret: { env: 'CL_CLIENT_SECRET' },
    // The sandbox of all suites sets none.
    limits: { writes: [], reads: [], tokens: [] },
  }
  const discue = { provider: 'discue', baseUrl: urls.discue, apiKey: { env: 'DISCUE_API_KEY' } }
  const apinizer = { provider: 'apinizer', baseUrl: urls.apinizer, token: { env: 'APINIZER_TOKEN' } }
  return {
    connections: {
      'commerce-layer': commerceLayer,
      'cl-reader': {
        ...commerceLayer,
        clientId: { env: 'CL_READER_ID' },
        clientSecret: { env: 'CL_READER_SECRET' },
      },
      'cl-locked-out': { ...at('locked', commerceLayer), clientSecret: { env: 'DISCUE_API_KEY' } },
      'cl-careful': { ...at('careful', commerceLayer), requireIfMatch: true },
      'cl-hiding': { ...at('hiding', commerceLayer), hideMetadata: true },
      // On a host of its own: what its provider forbids holds back nobody else.
      'cl-spent': { ...commerceLayer, baseUrl: byName(urls.commerceLayer) },
      ...(limited && {
        'cl-limited': { ...commerceLayer, baseUrl: limited, authUrl: limited, limits },
      }),
      'cl-short': { ...at('short', commerceLayer), deadlineMs: 1500 },
      discue,
      'discue-limited': { ...discue, apiKey: { env: 'DISCUE_LIMITED_KEY' } },
      'discue-spent': at('spent', discue),
      'discue-failing': at('failing', discue),
      'discue-tight': { ...at('tight', discue), limits: { writes: [{ requests: 2, seconds: 60 }] } },
      'discue-nowhere': { ...discue, baseUrl: NOWHERE },
      'discue-short': { ...at('short', discue), deadlineMs: 1500 },
      apinizer: { ...apinizer, self: ['apinizer:MyProject:gateway-itself'] },
      'apinizer-login': at('login', {
        provider: 'apinizer',
        baseUrl: urls.apinizer,
        clientId: { env: 'APINIZER_USER' },
        clientSecret: { env: 'APINIZER_PASSWORD' },
      }),
      'apinizer-spent': at('spent', apinizer),
      'apinizer-parted': { ...at('parted', apinizer), projects: ['Parted', 'MyProject'] },
      'apinizer-tight': { ...at('tight', apinizer), limits: { reads: [{ requests: 8, seconds: 60 }] } },
      'apinizer-unverified': { ...at('unverified', apinizer), verifyWrites: false },
      'apinizer-readonly': { ...at('readonly', apinizer), token: { env: 'APINIZER_READONLY' } },
    },
    aliases: {
      'seed-credential': 'commerce-layer:xYZkjABcde',
      'billing-worker': 'apinizer:MyProject:api-user',
    },
    issuers: byToken.issuers,
    callers: [
      ...byToken.callers,
      caller(
        'admin',
        ['admin', 'rotated'],
        [{ ...everything, actions: ['read', 'write', 'audit', 'resolve'] }],
      ),
      caller('reader', ['reader'], [{ ...everything, kinds: ['credential'], actions: ['read'] }]),
      caller('planner', ['planner'], [{ ...everything, actions: ['plan'] }]),
      caller(
        'narrow',
        ['narrow'],
        [
          {
            actions: ['read', 'write'],
            kinds: ['credential'],
            ids: ['apinizer:Narrow:*'],
            fields: ['name', 'enabled', 'secret'],
          },
        ],
      ),
      caller('blind', ['blind'], [{ ...everything, actions: ['write'] }]),
      caller('viewer', ['viewer'], [{ ...everything, actions: ['read'] }]),
      caller('examiner', ['examiner'], [{ ...everything, actions: ['audit'] }]),
      caller('clerk', ['clerk'], [{ ...everything, actions, kinds: ['role', 'permission'] }]),
      caller('labeller', ['labeller'], [{ ...everything, actions, fields: ['metadata'] }]),
      caller('resolver', ['resolver'], [{ ...everything, actions: ['resolve'] }]),
      caller(
        'auditor',
        ['auditor'],
        [{ actions: ['audit'], kinds: ['credential'], ids: ['discue:*'], fields: ['*'] }],
      ),
      caller(
        'librarian',
        ['librarian'],
        [{ actions: ['audit'], kinds: ['credential'], ids: ['apinizer:*'], fields: ['description'] }],
      ),
      {
        ...caller('limited', ['limited'], [{ ...everything, actions: ['read'] }]),
        limit: { requests: 3, seconds: 3600 },
      },
      {
        ...caller('brief', ['brief'], [{ ...everything, actions: ['read'] }]),
        limit: { requests: 2, seconds: 1 },
      },
      caller('expired', ['expired'], [{ ...everything, actions: ['read', 'write'] }], '2020-01-01T00:00:00Z'),
    ],
  }
}

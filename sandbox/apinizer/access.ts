import { randomBytes } from 'node:crypto'
import type { Clock } from '../clock.ts'

export type Permission = 'VIEW' | 'MANAGE' | 'DEPLOY_UNDEPLOY'

/** Permissions on identities by project; `*` stands for all projects. A token inherits those of its user. */
export interface Access {
  permissions: Record<string, readonly Permission[]>
  /** Never, for a token that was made in the console without a date. */
  expiresAt: number | null
}

const everything: Access['permissions'] = { '*': ['VIEW', 'MANAGE', 'DEPLOY_UNDEPLOY'] }

const consoleTokens: readonly [token: string, access: Access][] = [
  ['sandbox-token', { permissions: everything, expiresAt: null }],
  ['sandbox-token-no-deploy', { permissions: { '*': ['VIEW', 'MANAGE'] }, expiresAt: null }],
  ['sandbox-token-readonly', { permissions: { MyProject: ['VIEW'] }, expiresAt: null }],
  ['sandbox-token-expired', { permissions: everything, expiresAt: 0 }],
]

export const consoleUser = { name: 'sandbox-user', password: 'sandbox-password' }

export interface AccessTokens {
  issue(lifetimeMs: number): { token: string; expiresAt: number }
  /** Three different texts answer the three ways of having no valid token. */
  check(authorization: string | undefined): Access | string
  clear(): void
}

export function createAccessTokens(clock: Clock): AccessTokens {
  let tokens = new Map(consoleTokens)
  return {
    issue(lifetimeMs) {
      const token = `apz.${randomBytes(24).toString('base64url')}`
      const expiresAt = clock.now() + lifetimeMs
      tokens.set(token, { permissions: everything, expiresAt })
      return { token, expiresAt }
    },
    check(authorization) {
      const token = /^Bearer +(\S+)$/i.exec(authorization ?? '')?.[1]
      if (token === undefined) return 'An access token is needed.'
      const access = tokens.get(token)
      if (!access) return 'The access token is unknown.'
      if (access.expiresAt !== null && access.expiresAt <= clock.now()) return 'The access token has run out.'
      return access
    },
    clear() {
      tokens = new Map(consoleTokens)
    },
  }
}

export const permits = (access: Access, project: string, permission: Permission): boolean =>
  permissionsOn(access, project).includes(permission)

export const permissionsOn = ({ permissions }: Access, project: string): readonly Permission[] =>
  (Object.hasOwn(permissions, project) ? permissions[project] : permissions['*']) ?? []

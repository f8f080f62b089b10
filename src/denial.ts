import type { Kind } from './enums.ts'
import { type Problem, refuse } from './problems.ts'
import type { ResourceAddress } from './resource-id.ts'

/** A refusal that says something about the caller, not about the request: such attempts are audited. */
export const deny = (
  slug: 'forbidden' | 'not-found',
  detail: string,
  kind: Kind | null = null,
  address: Pick<ResourceAddress, 'connection' | 'id' | 'alias'> | null = null,
): { ok: false; problem: Problem } => {
  const { connection = null, alias = null, id: resource = null } = address ?? {}
  return refuse(slug, detail, { denied: { connection, alias, kind, resource } })
}

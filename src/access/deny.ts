import type { Kind } from '../model/enums.ts'
import { type Problem, refuse } from '../model/problems.ts'
import type { ResourceAddress } from '../model/resource-id.ts'

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

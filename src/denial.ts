import type { Kind } from './model.ts'
import { type Problem, refuse } from './problems.ts'
import type { ResourceAddress } from './resource-id.ts'

/** What a caller asked for and may not have. All null where it was a route. */
export interface Denied {
  connection: string | null
  alias: string | null
  kind: Kind | null
  resource: string | null
}

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

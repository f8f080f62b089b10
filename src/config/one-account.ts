import { isLoopbackHost } from '../lib/address-guard.ts'
import type { Adapter, Registry } from '../model/adapter.ts'
import type { ConnectionConfig } from './document.ts'

/** A URL's own form has lower case, no usual port and no dots. */
const serverOf = ({ baseUrl }: ConnectionConfig): string => new URL(baseUrl).href.replace(/\/+$/, '')

const clientOf = ({ auth, secrets }: ConnectionConfig): string | undefined =>
  (auth.scheme === 'header' ? secrets[auth.setting] : secrets.clientId)?.expose()

/** Doubles of providers run on this machine, and take the same keys at different addresses. */
const isDouble = ({ baseUrl }: ConnectionConfig): boolean => isLoopbackHost(new URL(baseUrl).hostname)

/** Whether two connections could change the same resource, each without knowing of the other. */
function isOneAccount({ account }: Adapter, one: ConnectionConfig, other: ConnectionConfig): boolean {
  const isSameServer = serverOf(one) === serverOf(other)
  if (!account)
    return clientOf(one) === clientOf(other) && (isSameServer || !(isDouble(one) || isDouble(other)))
  if (!isSameServer) return false
  const { projects: own } = one
  const { projects: theirs } = other
  if (!own || !theirs || [...own, ...theirs].includes(account.everything)) return true
  return !new Set(own).isDisjointFrom(new Set(theirs))
}

/** Each connection that leads to the account of an earlier one, with the first of these. */
export function oneAccounts(
  registry: Registry,
  connections: readonly ConnectionConfig[],
): [ConnectionConfig, ConnectionConfig][] {
  return connections.flatMap((second, index): [ConnectionConfig, ConnectionConfig][] => {
    const adapter = registry[second.provider]
    const first = connections
      .slice(0, index)
      .find((one) => adapter && one.provider === second.provider && isOneAccount(adapter, one, second))
    return first ? [[first, second]] : []
  })
}

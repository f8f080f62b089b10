import { z } from 'zod'
import { isPrivateHost } from '../lib/address-guard.ts'
import { readRange } from '../lib/client-address.ts'
import { membersNotAlone } from '../lib/json.ts'
import type { Registry } from '../model/adapter.ts'
import { NAME, type ResourceAddress } from '../model/resource-id.ts'
import { NO_NAME, readConnections } from './connections.ts'
import {
  caller,
  type CallerConfig,
  type Config,
  type ConfigFault,
  document,
  encryptedBase,
  issuer,
  type IssuerConfig,
  PRIVATE,
  readId,
} from './document.ts'
import { findNeverMatching } from './never-matching.ts'
import { oneAccounts } from './one-account.ts'
import { openReport, type Report } from './report.ts'

/** Reads the aliases whose connection is there. */
function readAliases(
  given: Readonly<Record<string, unknown>>,
  connections: object,
  report: Report,
): Map<string, ResourceAddress> {
  const aliases = new Map<string, ResourceAddress>()
  for (const [name, value] of Object.entries(given)) {
    const at = ['aliases', name]
    if (!NAME.test(name)) report.fault(at, NO_NAME)
    const id = report.check(z.string(), value, at)
    if (id === undefined) continue
    const target = readId(id)
    if (!target.ok) report.fault(at, target.fault)
    else if (!Object.hasOwn(connections, target.value.connection))
      report.neverMatching(at, 'leads to no connection')
    else aliases.set(name, target.value)
  }
  return aliases
}

/** `names` includes invalid issuers, so that callers naming them are not reported twice. */
function readIssuers(
  given: readonly unknown[],
  { fault, check }: Report,
): { issuers: IssuerConfig[]; names: ReadonlySet<unknown> } {
  const names = new Set<unknown>()
  const issuers = given.flatMap((value, index): IssuerConfig[] => {
    const at = ['issuers', index]
    const name = (value as { issuer?: unknown } | null)?.issuer
    if (name !== undefined && names.has(name)) fault([...at, 'issuer'], 'is used twice')
    names.add(name)
    const read = check(issuer, value, at)
    if (!read) return []
    // Without the address of the keys it is asked for: then the issuer must be an address itself.
    const url = read.jwksUrl ?? check(encryptedBase, read.issuer, [...at, 'issuer'])
    if (url !== undefined && isPrivateHost(new URL(url).hostname) && !read.allowPrivateAddresses)
      fault([...at, read.jwksUrl === undefined ? 'issuer' : 'jwksUrl'], PRIVATE)
    return [read]
  })
  return { issuers, names }
}

function readCallers(
  given: readonly unknown[],
  issuers: ReadonlySet<unknown>,
  { fault, check }: Report,
): CallerConfig[] {
  const names = new Set<string>()
  const keyIds = new Set<string>()
  return given.flatMap((value, index): CallerConfig[] => {
    const read = check(caller, value, ['callers', index])
    if (!read) return []
    if (names.has(read.name)) fault(['callers', index, 'name'], 'is used twice')
    names.add(read.name)
    for (const [keyIndex, { id }] of read.keys.entries()) {
      if (keyIds.has(id)) fault(['callers', index, 'keys', keyIndex, 'id'], 'is used twice')
      keyIds.add(id)
    }
    if (read.jwt && !issuers.has(read.jwt.issuer))
      fault(['callers', index, 'jwt', 'issuer'], 'is none of the issuers')
    return [read]
  })
}

/** What can be found out once every part is as it should be. */
function crossCheck(registry: Registry, config: Omit<Config, 'trustedProxies'>, report: Report): void {
  const { connections, aliases, callers } = config
  for (const [first, second] of oneAccounts(registry, [...connections.values()])) {
    const apart = registry[first.provider]?.account ? ', or give each projects of its own' : ''
    const detail = `leads to the account of ${first.name}, and an account has one connection; use that one${apart}`
    report.fault(['connections', second.name], detail)
  }
  for (const { at, detail } of findNeverMatching(registry, connections, aliases, callers))
    report.neverMatching(at, detail)
}

/**
 * Reads the document and names every fault at once; a fault's text never holds a value.
 * @param onNode Where the address that a connection is made to is checked, and what never matches is a fault: on Workers one
 * would take all traffic down, so there it is a warning.
 */
export function readConfig(
  text: string,
  environment: Readonly<Record<string, string | undefined>>,
  registry: Registry,
  onNode = true,
): { ok: true; value: Config; warnings: ConfigFault[] } | { ok: false; faults: ConfigFault[] } {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    return { ok: false, faults: [{ path: '#', detail: 'is not JSON' }] }
  }
  const report = openReport(onNode)
  const { faults, warnings } = report
  for (const at of membersNotAlone(text)) report.fault(at, 'is there twice, or is named __proto__')
  const whole = report.check(document, json, [])
  if (!whole) return { ok: false, faults }
  const connections = readConnections(whole.connections, { environment, registry, onNode, report })
  const aliases = readAliases(whole.aliases, whole.connections, report)
  const { issuers, names } = readIssuers(whole.issuers, report)
  const callers = readCallers(whole.callers, names, report)
  const trustedProxies = whole.trustedProxies.flatMap((value, index) => {
    const range = typeof value === 'string' ? readRange(value) : undefined
    if (!range) report.fault(['trustedProxies', index], 'is neither an address nor a CIDR range')
    return range ? [range] : []
  })
  // A fault elsewhere may be why.
  if (faults.length === 0) crossCheck(registry, { connections, aliases, issuers, callers }, report)
  if (faults.length > 0) return { ok: false, faults }
  return { ok: true, value: { connections, aliases, issuers, callers, trustedProxies }, warnings }
}

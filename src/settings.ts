import type { Registry } from './adapter.ts'
import { type AuditKeys, deriveAuditKeys, parseAuditKey } from './audit-keys.ts'
import { type Config, readConfig } from './config.ts'
import { type Level, logLevels } from './log.ts'

export interface Settings {
  config: Config
  keys: AuditKeys
}

/**
 * Reads what both runtimes take from their environment. Every fault is named at once, by name and never by value.
 * @param document The configuration document's text; undefined where the runtime found none, and said so.
 * @param checksAddresses Whether the runtime checks the address that a connection is made to.
 */
export function readSettings(
  environment: Readonly<Record<string, string | undefined>>,
  document: string | undefined,
  registry: Registry,
  checksAddresses: boolean,
): { level: Level; faults: string[]; settings: Settings | undefined } {
  const faults: string[] = []
  const level = logLevels.find((one) => one === (environment['LOG_LEVEL'] ?? 'info'))
  if (!level) faults.push(`LOG_LEVEL is none of ${logLevels.join(', ')}`)
  const auditKey = parseAuditKey(environment['AUDIT_KEY'] ?? '')
  if (!auditKey) faults.push('AUDIT_KEY must be 32 bytes in base64; make one with: openssl rand -base64 32')
  const config =
    document === undefined ? undefined : readConfig(document, environment, registry, checksAddresses)
  if (config?.ok === false)
    faults.push(...config.faults.map(({ path, detail }) => `configuration ${path}: ${detail}`))
  const usable = faults.length === 0 && auditKey && config?.ok
  return {
    level: level ?? 'info',
    faults,
    settings: usable ? { config: config.value, keys: deriveAuditKeys(auditKey) } : undefined,
  }
}

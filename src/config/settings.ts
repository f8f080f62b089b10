import { type AuditKeys, deriveAuditKeys, isGuessable, parseAuditKey } from '../lib/keyed-digests.ts'
import { type Level, logLevels } from '../lib/log.ts'
import type { Registry } from '../model/adapter.ts'
import { type Config, type ConfigFault } from './document.ts'
import { readConfig } from './read.ts'

export interface Settings {
  config: Config
  keys: AuditKeys
}

const toText = ({ path, detail }: ConfigFault): string => `configuration ${path}: ${detail}`

/**
 * Reads what both runtimes take from their environment. Every fault is named at once, by name and never by value.
 * @param document The configuration document's text; undefined where the runtime found none, and said so.
 * @param onNode See `readConfig`.
 */
export function readSettings(
  environment: Readonly<Record<string, string | undefined>>,
  document: string | undefined,
  registry: Registry,
  onNode: boolean,
): { level: Level; faults: string[]; warnings: string[]; settings: Settings | undefined } {
  const faults: string[] = []
  const level = logLevels.find((one) => one === (environment['LOG_LEVEL'] ?? 'info'))
  if (!level) faults.push(`LOG_LEVEL is none of ${logLevels.join(', ')}`)
  const auditKey = parseAuditKey(environment['AUDIT_KEY'] ?? '')
  const make = 'make one with: openssl rand -base64 32'
  if (!auditKey) faults.push(`AUDIT_KEY must be 32 bytes in base64; ${make}`)
  else if (isGuessable(auditKey)) faults.push(`AUDIT_KEY is not random; ${make}`)
  const config = document === undefined ? undefined : readConfig(document, environment, registry, onNode)
  if (config?.ok === false) faults.push(...config.faults.map(toText))
  const usable = faults.length === 0 && auditKey && config?.ok
  return {
    level: level ?? 'info',
    faults,
    warnings: config?.ok ? config.warnings.map(toText) : [],
    settings: usable ? { config: config.value, keys: deriveAuditKeys(auditKey) } : undefined,
  }
}

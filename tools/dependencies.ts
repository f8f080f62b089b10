import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

// Says whether what the gateway is made of may be used, is little, is pinned by its hash, and has no known weakness.
const ALLOWED = new Set([
  'MIT',
  'ISC',
  '0BSD',
  'BSD-2-Clause',
  'BSD-3-Clause',
  'Apache-2.0',
  'CC0-1.0',
  'BlueOak-1.0.0',
])

/** What `npm ci --omit=dev` may install, on all platforms together. */
const MOST_SHIPPED = 80

interface Locked {
  version?: string
  license?: string
  integrity?: string
  resolved?: string
  dev?: true
  link?: true
  hasInstallScript?: true
  optionalDependencies?: Record<string, string>
}
type Packages = Record<string, Locked>

/** Without what is the project's own: itself, its workspaces and the links to them. */
const lockedIn = (packages: Packages) =>
  Object.entries(packages).filter(([path, { link }]) => path.includes('node_modules/') && !link)

const shippedIn = (packages: Packages) => lockedIn(packages).filter(([, { dev }]) => !dev)

/** An SPDX expression without nesting; what needs more is looked at by a person. */
const isAllowed = (expression: string): boolean =>
  expression
    .replace(/[()]/g, '')
    .split(' OR ')
    .some((alternative) => alternative.split(' AND ').every((licence) => ALLOWED.has(licence)))

/** What is wrong with the packages of a lock file. */
export function faultsOf(packages: Packages): string[] {
  const faults: string[] = []
  for (const [path, { integrity, resolved }] of lockedIn(packages)) {
    if (!integrity) faults.push(`${path} has no integrity hash`)
    if (resolved) faults.push(`${path} names the host that it came from`)
  }
  const shipped = shippedIn(packages)
  for (const [path, { license = 'no licence', hasInstallScript }] of shipped) {
    if (!isAllowed(license)) faults.push(`${path} is under ${license}`)
    // What such a script fetches has no hash here.
    if (hasInstallScript) faults.push(`${path} runs a script when it is installed`)
  }
  if (shipped.length > MOST_SHIPPED)
    faults.push(`${shipped.length} packages are shipped, ${MOST_SHIPPED} are the most`)
  // npm leaves out in silence what its registry does not have.
  for (const [name, version] of Object.entries(packages['']?.optionalDependencies ?? {}))
    if (packages[`node_modules/${name}`]?.version !== version) faults.push(`${name} ${version} is not locked`)
  return faults
}

/** What is known of the packages that are shipped, by the registry's word. */
function weaknesses(): string[] {
  const { stdout } = spawnSync('npm', ['audit', '--omit=dev', '--audit-level=high', '--json'], {
    encoding: 'utf8',
  })
  const audit = JSON.parse(stdout) as {
    metadata?: { vulnerabilities: Record<string, number> }
    vulnerabilities?: Record<string, { severity: string }>
  }
  if (!audit.metadata) {
    process.stdout.write('advisories: this registry does not tell\n')
    return []
  }
  process.stdout.write(`advisories: ${JSON.stringify(audit.metadata.vulnerabilities)}\n`)
  return Object.entries(audit.vulnerabilities ?? {})
    .filter(([, { severity }]) => severity === 'high' || severity === 'critical')
    .map(([name, { severity }]) => `${name} has a known weakness: ${severity}`)
}

if (import.meta.main) {
  const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8')) as { packages: Packages }
  const counts = [lockedIn(packages).length, shippedIn(packages).length]
  process.stdout.write(`${counts[0]} packages locked, ${counts[1]} of them without the tools\n`)
  const faults = [...faultsOf(packages), ...weaknesses()]
  for (const fault of faults) process.stderr.write(`${fault}\n`)
  if (faults.length > 0) process.exitCode = 1
}

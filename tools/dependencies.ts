import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

// Says whether what the gateway is made of may be used, is pinned, and has no known weakness.
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

interface Locked {
  version: string
  license?: string
  integrity?: string
  resolved?: string
  dev?: true
  os?: string[]
  link?: true
}

const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8')) as {
  packages: Record<string, Locked>
}
const faults: string[] = []
// Without what is the project's own: itself, its workspaces and the links to them.
const locked = Object.entries(packages).filter(([path, { link }]) => path.includes('node_modules/') && !link)

/** An SPDX expression without nesting; what needs more is looked at by a person. */
const isAllowed = (expression: string): boolean =>
  expression
    .replace(/[()]/g, '')
    .split(' OR ')
    .some((alternative) => alternative.split(' AND ').every((licence) => ALLOWED.has(licence)))

for (const [path, { license = 'no licence', integrity, resolved, dev, os }] of locked) {
  if (!dev && !isAllowed(license)) faults.push(`${path} is under ${license}`)
  // Some binaries for other systems are listed by hand, because not every registry serves them.
  if (!integrity && !(dev && os)) faults.push(`${path} has no integrity hash`)
  if (resolved) faults.push(`${path} names the host that it came from`)
}
const shipped = locked.filter(([, { dev }]) => !dev).length
process.stdout.write(`${locked.length} packages locked, ${shipped} of them without the tools\n`)

const { stdout } = spawnSync('npm', ['audit', '--omit=dev', '--audit-level=high', '--json'], {
  encoding: 'utf8',
})
const audit = JSON.parse(stdout) as {
  metadata?: { vulnerabilities: Record<string, number> }
  vulnerabilities?: Record<string, { severity: string }>
}
if (audit.metadata) {
  for (const [name, { severity }] of Object.entries(audit.vulnerabilities ?? {}))
    if (severity === 'high' || severity === 'critical')
      faults.push(`${name} has a known weakness: ${severity}`)
  process.stdout.write(`advisories: ${JSON.stringify(audit.metadata.vulnerabilities)}\n`)
} else process.stdout.write('advisories: this registry does not tell\n')

for (const fault of faults) process.stderr.write(`${fault}\n`)
if (faults.length > 0) process.exitCode = 1

import { mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build as bundle } from 'esbuild'

const at = (path: string): string => fileURLToPath(new URL(path, import.meta.url))

/** What `npm start` runs. */
export const PROGRAM = at('../dist/node.js')

/**
 * Makes one file of the gateway and of what it imports: reading some eight hundred modules is most of a start, and what
 * none of them uses would stay in memory.
 */
export default async function build(): Promise<void> {
  const { outputFiles } = await bundle({
    entryPoints: [at('../src/node.ts')],
    outfile: PROGRAM,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node24',
    // It finds its binary beside itself.
    external: ['better-sqlite3'],
    // Packages that are CommonJS still ask for Node's own modules in their way.
    banner: {
      js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);",
    },
    logLevel: 'warning',
    write: false,
  })
  mkdirSync(dirname(PROGRAM), { recursive: true })
  // Whole or not at all: another start may read it now.
  const written = `${PROGRAM}.${process.pid}`
  writeFileSync(written, outputFiles[0]?.contents ?? '')
  renameSync(written, PROGRAM)
}

if (import.meta.main) await build()

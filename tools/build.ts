import { createHash } from 'node:crypto'
import { existsSync, globSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'

const at = (path: string): string => fileURLToPath(new URL(path, import.meta.url))

/** What `npm start` runs. */
export const PROGRAM = at('../dist/node.js')

/** All that the program is made of, in one line: it changes with any of it. */
function madeOf(): string {
  const digest = createHash('sha256')
  const sources = globSync('{src,adapters}/**/*.ts', { cwd: at('..') }).toSorted()
  for (const path of [...sources, 'package-lock.json', 'tools/build.ts'])
    digest.update(`${path}\n`).update(readFileSync(at(`../${path}`)))
  return `// Made by tools/build.ts of ${digest.digest('hex')}`
}

/** A production install has no bundler: there the program is what was built before, or else the sources as they are. */
const openBundler = (): Promise<typeof import('esbuild') | undefined> =>
  import('esbuild').catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ERR_MODULE_NOT_FOUND') throw error
    return undefined
  })

/**
 * Makes one file of the gateway and of what it imports: reading some five hundred modules is most of a start, and what
 * none of them uses would stay in memory.
 */
async function bundle(banner: string): Promise<string | Uint8Array> {
  const bundler = await openBundler()
  if (!bundler) {
    process.stderr.write(
      'starting from the sources, with more time and memory: dist/ was not built of them\n',
    )
    return "import '../src/node.ts'\n"
  }
  const { outputFiles } = await bundler.build({
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
      js: `${banner}\nimport { createRequire } from 'node:module'; const require = createRequire(import.meta.url);`,
    },
    logLevel: 'warning',
    write: false,
  })
  return outputFiles[0]?.contents ?? ''
}

export default async function build(): Promise<void> {
  const banner = madeOf()
  if (existsSync(PROGRAM) && readFileSync(PROGRAM, 'utf8').startsWith(`${banner}\n`)) return
  const program = await bundle(banner)
  mkdirSync(dirname(PROGRAM), { recursive: true })
  // Whole or not at all: another start may read it now.
  const written = `${PROGRAM}.${process.pid}`
  writeFileSync(written, program)
  renameSync(written, PROGRAM)
}

if (import.meta.main) await build()

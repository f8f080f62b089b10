import { createHash } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { gunzipSync, gzipSync } from 'node:zlib'

// Keeps the script of the API reference, so that production goes without the packages that it is made of: writes it from the
// package that the lock file pins, or with --check says whether the committed files are that.
const FILE = 'assets/reference.js.gz'
const TAG = 'src/http/reference-tag.ts'
const script = readFileSync(
  fileURLToPath(new URL('browser/standalone.js', import.meta.resolve('@scalar/api-reference'))),
)
const tag = createHash('sha256').update(script).digest('base64url').slice(0, 32)
const module = `/** Of assets/reference.js.gz: 192 bits of its SHA-256. Made by tools/reference.ts. */
export const REFERENCE_TAG = '${tag}'
`

if (!process.argv.includes('--check')) {
  writeFileSync(FILE, gzipSync(script, { level: 9 }))
  writeFileSync(TAG, module)
} else if (!gunzipSync(readFileSync(FILE)).equals(script) || readFileSync(TAG, 'utf8') !== module) {
  process.stderr.write(`${FILE} is not the script of the installed package; run: npm run reference\n`)
  process.exit(1)
}

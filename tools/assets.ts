import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'

const FROM = fileURLToPath(new URL('../assets', import.meta.url))
const TO = fileURLToPath(new URL('../dist/assets', import.meta.url))

/** Makes what wrangler.toml uploads beside the Worker: the script of the API reference, compressed and not. */
export default function makeAssets(): void {
  cpSync(FROM, TO, { recursive: true })
  writeFileSync(`${TO}/reference.js`, gunzipSync(readFileSync(`${FROM}/reference.js.gz`)))
}

if (import.meta.main) makeAssets()

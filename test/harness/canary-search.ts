import { Buffer } from 'node:buffer'

// A canary is a planted random secret. This finds any 8 characters of one, in any of the forms below, wherever they stand.
// It runs on every runtime, and one pass over the bytes looks for all of them.

/** What must not be found: a text, bytes that are no text, or a text that is no random one and counts only as a whole. */
export type Canary = string | Uint8Array | { whole: string }

/** Names of the canaries that stand in a text or in bytes, each with its form. */
export type Search = (haystack: string | Uint8Array) => string[]

/** Characters of a piece. */
export const PIECE = 8

const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
/** Every visible character of ASCII, and some that take two, three and four bytes. */
const SIGNS = Array.from({ length: 94 }, (_, at) => String.fromCharCode(33 + at)).concat(
  'é',
  'ß',
  '€',
  '漢',
  '😀',
)

const draw = (alphabet: ArrayLike<string>, length: number): string =>
  [...crypto.getRandomValues(new Uint32Array(length))].map((n) => alphabet[n % alphabet.length]).join('')

/** What encodings encode. Of every piece at most one character is given, so a text is one by chance once in 99^7 = 2^46. */
export const canaryText = (): string =>
  ['\\', '"', '/', '%', '&', '<', "'", '+', 'é'].map((given) => given + draw(SIGNS, PIECE)).join('')
/** 256 bits in base64url, good for a header, a query and a key. A text is a piece of it by chance once in 64^8 = 2^48. */
export const canaryToken = (): string => draw(LETTERS, 43)

const hexOf = (text: string, digits: number, upper: boolean): string => {
  const hex = text.charCodeAt(0).toString(16).padStart(digits, '0')
  return upper ? hex.toUpperCase() : hex
}
const units = (text: string): string[] => text.split('')
const escaped = (text: string, upper: boolean): string =>
  units(text)
    .map((unit) => `\\u${hexOf(unit, 4, upper)}`)
    .join('')
const inJson = (text: string): string => JSON.stringify(text).slice(1, -1)
const asciiJson = (text: string, upper: boolean): string =>
  inJson(text).replace(/[^ -~]/g, (unit) => escaped(unit, upper))
const percent = (bytes: Buffer, upper: boolean, sign = '%'): string =>
  [...bytes].map((byte) => sign + hexOf(String.fromCharCode(byte), 2, upper)).join('')
const lowerPercent = (text: string): string =>
  text.replace(/%(?:25)*[0-9A-F]{2}/g, (code) => code.toLowerCase())
const url = (text: string): string => encodeURIComponent(text)
const form = (text: string): string => new URLSearchParams({ '': text }).toString().slice(1)
const html = (text: string): string => text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;')
const references = (text: string, write: (code: number) => string): string =>
  Array.from(text, (sign) => `&#${write(sign.codePointAt(0) ?? 0)};`).join('')

/** What base64 of a longer text has of these bytes, wherever in it they begin; what shares a digit with others is left off. */
const withinBase64 = (bytes: Buffer, encoding: 'base64' | 'base64url'): string[] =>
  [0, 1, 2].map((before) =>
    Buffer.concat([Buffer.alloc(before), bytes])
      .toString(encoding)
      .slice(Math.ceil((before * 8) / 6), Math.floor(((before + bytes.length) * 8) / 6)),
  )

const byteForms: Record<string, (bytes: Buffer) => (string | Buffer)[]> = {
  plain: (bytes) => [bytes],
  base64: (bytes) => withinBase64(bytes, 'base64'),
  base64url: (bytes) => withinBase64(bytes, 'base64url'),
  hex: (bytes) => [percent(bytes, false, ''), percent(bytes, true, '')],
  'spaced hex': (bytes) => [percent(bytes, false, ' ').slice(1), percent(bytes, true, ' ').slice(1)],
  'escaped hex': (bytes) => [percent(bytes, false, '\\x'), percent(bytes, true, '\\x')],
  numbers: (bytes) => [bytes.join(',')],
  'percent, every byte': (bytes) => [percent(bytes, true), percent(bytes, false)],
  'percent twice, every byte': (bytes) => [percent(bytes, true, '%25'), percent(bytes, false, '%25')],
}

const textForms: Record<string, (text: string) => (string | Buffer)[]> = {
  reversed: (text) => [[...text].toReversed().join('')],
  'URL-encoded': (text) => [url(text), lowerPercent(url(text)), form(text), lowerPercent(form(text))],
  'URL-encoded twice': (text) => [url(url(text)), lowerPercent(url(url(text)))],
  JSON: (text) => [
    inJson(text),
    asciiJson(text, false),
    asciiJson(text, true),
    inJson(text).replaceAll('/', '\\/'),
  ],
  'JSON, every character': (text) => [escaped(text, false), escaped(text, true)],
  HTML: (text) =>
    ["'", '&#39;', '&#x27;', '&apos;'].flatMap((apostrophe) => {
      const inText = html(text).replaceAll("'", apostrophe)
      return [inText, inText.replaceAll('"', '&quot;')]
    }),
  'HTML, every character': (text) => [
    references(text, (code) => `${code}`),
    references(text, (code) => `x${code.toString(16)}`),
    references(text, (code) => `x${code.toString(16).toUpperCase()}`),
  ],
  quoted: (text) => [text.replace(/\\/g, '\\\\'), text.replace(/[\\']/g, '\\$&')],
  'UTF-16': (text) => [Buffer.from(text, 'utf16le'), Buffer.from(text, 'utf16le').swap16()],
}

/** In which a canary is looked for. */
export const forms: readonly string[] = [...Object.keys(byteForms), ...Object.keys(textForms)]

const asBytes = (text: string | Buffer): Buffer => (typeof text === 'string' ? Buffer.from(text) : text)

function* written(text: string | undefined, bytes: Buffer): Generator<[form: string, needle: Buffer]> {
  for (const [name, write] of Object.entries(byteForms))
    for (const needle of write(bytes)) yield [name, asBytes(needle)]
  if (text === undefined) return
  for (const [name, write] of Object.entries(textForms))
    for (const needle of write(text)) {
      yield [name, asBytes(needle)]
      if (typeof needle === 'string') yield [name, Buffer.from(inJson(needle))]
    }
}

/** What to look for: every piece of a canary, in every form. */
function* needlesOf(canary: Canary): Generator<[form: string, needle: Buffer]> {
  if (canary instanceof Uint8Array) {
    for (let at = 0; at + PIECE <= canary.length; at++)
      yield* written(undefined, Buffer.from(canary.slice(at, at + PIECE)))
    return
  }
  const signs = typeof canary === 'string' ? [...canary] : [canary.whole]
  const length = typeof canary === 'string' ? PIECE : 1
  if (signs.length < length) throw new Error('a canary is too short')
  for (let at = 0; at + length <= signs.length; at++) {
    const piece = signs.slice(at, at + length).join('')
    yield* written(piece, Buffer.from(piece))
  }
}

/** Bytes of a needle that decide whether the rest is compared; no form of 8 characters is shorter. */
const HEAD = 8
const FILTER_BITS = 24

const mix = (older: number, newer: number): number => {
  const product = Math.imul(older, 0x9e3779b1) ^ Math.imul(newer ^ (older >>> 15), 0x85ebca6b)
  return (product ^ (product >>> 15)) >>> 0
}

/** JSON within JSON doubles its backslashes, each time anew, and lists of numbers are told in columns: neither counts. */
const plainer = (bytes: Buffer): string =>
  bytes
    .toString('latin1')
    .replace(/\\{2,}/g, '\\')
    .replace(/(\d,)(?:\s|\\n)+(?=\d)/g, '$1')

/** Prepares one search for all canaries. */
export function searchFor(canaries: Readonly<Record<string, Canary>>): Search {
  const filter = new Uint32Array(2 ** (FILTER_BITS - 5))
  const byHash = new Map<number, Map<string, [found: string, needle: Buffer]>>()
  for (const [name, canary] of Object.entries(canaries)) {
    // What several forms have in common belongs to the first.
    for (const [form, needle] of needlesOf(canary))
      for (const one of [needle, Buffer.from(plainer(needle), 'latin1')]) add(one, `${name} (${form})`)
  }

  function add(needle: Buffer, what: string): void {
    if (needle.length < HEAD) return
    const hash = mix(needle.readUInt32BE(0), needle.readUInt32BE(4))
    const bit = hash >>> (32 - FILTER_BITS)
    filter[bit >>> 5] = (filter[bit >>> 5] ?? 0) | (1 << (bit & 31))
    const alike = byHash.get(hash) ?? new Map()
    byHash.set(hash, alike)
    const key = needle.toString('latin1')
    if (!alike.has(key)) alike.set(key, [what, needle])
  }

  function scan(bytes: Uint8Array, found: Set<string>): void {
    let older = 0
    let newer = 0
    for (let end = 1; end <= bytes.length; end++) {
      older = (older << 8) | (newer >>> 24)
      newer = (newer << 8) | (bytes[end - 1] ?? 0)
      if (end < HEAD) continue
      const hash = mix(older, newer)
      const bit = hash >>> (32 - FILTER_BITS)
      if (((filter[bit >>> 5] ?? 0) & (1 << (bit & 31))) === 0) continue
      const start = end - HEAD
      for (const [what, needle] of byHash.get(hash)?.values() ?? [])
        if (needle.equals(bytes.subarray(start, start + needle.length))) found.add(what)
    }
  }

  return (haystack) => {
    const bytes =
      typeof haystack === 'string'
        ? Buffer.from(haystack)
        : Buffer.from(haystack.buffer, haystack.byteOffset, haystack.length)
    const found = new Set<string>()
    scan(bytes, found)
    const view = plainer(bytes)
    if (view.length < bytes.length) scan(Buffer.from(view, 'latin1'), found)
    return [...found]
  }
}

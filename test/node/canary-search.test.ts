import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inspect } from 'node:util'
import Database from 'better-sqlite3'
import { describe, expect, test } from 'vitest'
import { canaryText, canaryToken, forms, PIECE, searchFor } from '../harness/canary-search.ts'

// The search for canaries is itself put to the test: what is planted is written by other means than what is looked for.

const codes = (text: string, write: (unit: string) => string): string => text.replace(/[^]/g, write)
const code = (unit: string): string => unit.charCodeAt(0).toString(16)
const bytewise = (text: string, write: (byte: string) => string): string =>
  Buffer.from(text).toString('hex').replace(/../g, write)
const lower = (text: string): string => text.replace(/%[0-9A-F]{2}/g, (percent) => percent.toLowerCase())

/** Each way of passing a text on, and the form by which it is found. */
const ways: [form: string, way: string, write: (text: string) => string | Buffer][] = [
  ['plain', 'as it is', (text) => text],
  [
    'plain',
    'in bytes that are no text',
    (text) => Buffer.concat([Buffer.of(0xff, 0, 0xc3), Buffer.from(text)]),
  ],
  ...['', 'a', 'ab', 'abc'].flatMap((before): typeof ways => [
    [
      'base64',
      `${before.length} bytes in`,
      (text) => btoa(unescape(encodeURIComponent(`${before}${text}zz`))),
    ],
    [
      'base64url',
      `${before.length} bytes in`,
      (text) => Buffer.from(`${before}${text}zz`).toString('base64url'),
    ],
  ]),
  ['hex', 'in lower case', (text) => Buffer.from(text).toString('hex')],
  ['hex', 'in upper case', (text) => Buffer.from(text).toString('hex').toUpperCase()],
  ['spaced hex', 'of an inspected buffer', (text) => inspect(Buffer.from(text))],
  ['spaced hex', 'in upper case', (text) => inspect(Buffer.from(text)).toUpperCase()],
  ['escaped hex', 'of a shell', (text) => bytewise(text, (byte) => `\\x${byte}`)],
  ['numbers', 'of a buffer in JSON', (text) => JSON.stringify(Buffer.from(text))],
  ['numbers', 'of an inspected list', (text) => inspect(Uint8Array.from(Buffer.from(text)))],
  ['percent, every byte', 'in lower case', (text) => bytewise(text, (byte) => `%${byte}`)],
  ['percent, every byte', 'in upper case', (text) => bytewise(text, (byte) => `%${byte}`).toUpperCase()],
  [
    'percent twice, every byte',
    'of a URL',
    (text) => encodeURIComponent(bytewise(text, (byte) => `%${byte}`)),
  ],
  ['reversed', 'backwards', (text) => Array.from(text).reduceRight((reversed, sign) => reversed + sign, '')],
  ['URL-encoded', 'as a part of a path', (text) => encodeURIComponent(text)],
  ['URL-encoded', 'in lower case', (text) => lower(encodeURIComponent(text))],
  ['URL-encoded', 'as a form', (text) => new URLSearchParams([['field', text]]).toString()],
  [
    'URL-encoded',
    'as a form in lower case',
    (text) => lower(new URLSearchParams([['field', text]]).toString()),
  ],
  ['URL-encoded twice', 'as a part of a part', (text) => encodeURIComponent(encodeURIComponent(text))],
  ['JSON', 'as a member', (text) => JSON.stringify({ member: text })],
  ['JSON', 'as a name', (text) => JSON.stringify({ [text]: 1 })],
  ['JSON', 'with escaped slashes', (text) => JSON.stringify({ text }).replaceAll('/', '\\/')],
  [
    'JSON',
    'in ASCII',
    (text) => JSON.stringify(text).replace(/[^ -~]/g, (unit) => `\\u${code(unit).padStart(4, '0')}`),
  ],
  ['JSON', 'in a string', (text) => JSON.stringify({ body: JSON.stringify({ text }) })],
  [
    'JSON, every character',
    'in lower case',
    (text) => codes(text, (unit) => `\\u${code(unit).padStart(4, '0')}`),
  ],
  [
    'JSON, every character',
    'in upper case',
    (text) => codes(text, (unit) => `\\u${code(unit).toUpperCase().padStart(4, '0')}`),
  ],
  [
    'JSON, every character',
    'in a string',
    (text) => JSON.stringify({ body: codes(text, (unit) => `\\u${code(unit).padStart(4, '0')}`) }),
  ],
  [
    'HTML',
    'as a text',
    (text) =>
      `<p title="x">${text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')}</p>`,
  ],
  [
    'HTML',
    'as an attribute',
    (text) =>
      text
        .replaceAll('&', '&amp;')
        .replaceAll('<', '&lt;')
        .replaceAll('>', '&gt;')
        .replaceAll('"', '&quot;')
        .replaceAll("'", '&#39;'),
  ],
  [
    'HTML, every character',
    'in decimal',
    (text) => Array.from(text, (sign) => `&#${String(sign.codePointAt(0))};`).join(''),
  ],
  [
    'HTML, every character',
    'in hexadecimal',
    (text) => Array.from(text, (sign) => `&#x${Number(sign.codePointAt(0)).toString(16)};`).join(''),
  ],
  ['quoted', 'as an inspected string', (text) => inspect(`${text}\`'"`)],
  ['UTF-16', 'with the low byte first', (text) => Buffer.from(`a${text}z`, 'utf16le')],
  ['UTF-16', 'with the high byte first', (text) => Buffer.from(`a${text}z`, 'utf16le').swap16()],
]

test('every form has a way of passing a text on', () => {
  expect([...new Set(ways.map(([form]) => form))].toSorted()).toEqual([...forms].toSorted())
})

/** Each way has a canary of its own, so that each is seen to be found. */
const planted = ways.map(([form, way, write]) => ({ name: `${form}, ${way}`, text: canaryText(), write }))
const search = searchFor(Object.fromEntries(planted.map(({ name, text }) => [name, text])))
const found = (haystack: string | Buffer): string[] => [
  ...new Set(search(haystack).map((one) => one.slice(0, one.lastIndexOf(' (')))),
]
const names = planted.map(({ name }) => name).toSorted()

/** Nine characters: what is found must be a piece, and any. Longer words may share their ends with other encoded ones. */
const cuts: [string, (text: string) => string][] = [
  ['whole', (text) => text],
  ...[0, 17, 41, 72].map((at): [string, (text: string) => string] => [
    `${PIECE} characters from ${at} on`,
    (text) => [...text].slice(at, at + PIECE).join(''),
  ]),
]

describe.each(cuts)('a canary, %s', (_, cut) => {
  const pieces = planted.map(({ text, write }) => Buffer.from(write(cut(text))))

  test.each<[string, (pieces: Buffer[]) => string | Buffer]>([
    ['a text', (all) => `before ${all.map((piece) => piece.toString()).join(' and ')} after`],
    [
      'bytes',
      (all) => Buffer.concat(all.flatMap((piece) => [Buffer.of(0x0a, 0x22), piece, Buffer.alloc(3)])),
    ],
    [
      'the middle of megabytes',
      (all) => Buffer.concat([Buffer.alloc(3e6, 'x'), ...all, Buffer.alloc(3e6, 'y')]),
    ],
  ])('is found in %s in every form', (kind, make) => {
    // Bytes that are no text do not survive being one.
    const texts = names.filter((name) => !/^UTF-16|no text/.test(name))
    expect(found(make(pieces)).toSorted()).toEqual(kind === 'a text' ? expect.arrayContaining(texts) : names)
  })

  test('is found in a line of a log in every form that is a text', () => {
    for (const { name, text, write } of planted) {
      const value = write(cut(text))
      if (typeof value !== 'string') continue
      expect(found(`${JSON.stringify({ level: 'INFO', message: 'request', value })}\n`)).toEqual([name])
    }
  })

  test('is found in a database in every form, in its log and in its file', () => {
    const folder = mkdtempSync(join(tmpdir(), 'canary-search-'))
    const database = new Database(join(folder, 'planted.db'))
    try {
      database.pragma('journal_mode = WAL')
      database.exec('CREATE TABLE t (padding TEXT, value BLOB)')
      database.pragma('wal_checkpoint(TRUNCATE)')
      const insert = database.prepare('INSERT INTO t VALUES (?, ?)')
      database.transaction(() => {
        for (const piece of pieces) insert.run('-'.repeat(300), piece)
      })()
      const inFile = (file: string) => found(readFileSync(join(folder, file))).toSorted()
      expect([inFile('planted.db'), inFile('planted.db-wal')]).toEqual([[], names])
      database.pragma('wal_checkpoint(TRUNCATE)')
      expect([inFile('planted.db'), inFile('planted.db-wal')]).toEqual([names, []])
    } finally {
      database.close()
      rmSync(folder, { recursive: true })
    }
  })
})

describe('other canaries', () => {
  const token = canaryToken()
  const bytes = crypto.getRandomValues(new Uint8Array(32))
  const search = searchFor({ token, bytes, fixed: { whole: 'fixed-value' } })

  test('a token is found in its headers', () => {
    expect(search(`authorization: Bearer ${token}`)).toEqual(['token (plain)'])
    expect(search(`Basic ${Buffer.from(`user:${token}`).toString('base64')}`)).toEqual(['token (base64)'])
  })

  test('bytes are found', () => {
    const key = Buffer.from(bytes)
    expect(search(key)).toEqual(['bytes (plain)'])
    expect(search(key.toString('hex'))).toEqual(['bytes (hex)'])
    expect(search(inspect({ key }))).toEqual(['bytes (spaced hex)'])
    expect(search(JSON.stringify({ key }))).toEqual(['bytes (numbers)'])
    expect(search(`2:${key.toString('base64')}`)).toContain('bytes (base64)')
  })

  test('a fixed value is found whole only', () => {
    expect(search('a fixed-value b')).toEqual(['fixed (plain)'])
    expect(search(Buffer.from('Bearer fixed-value').toString('base64'))).toEqual(['fixed (base64)'])
    expect(search('fixed-valu, ixed-value')).toEqual([])
  })

  test('nothing else is found', () => {
    const [{ text } = { text: '' }] = planted
    const short = [...text].slice(9, 9 + PIECE - 1).join('')
    expect(found(`${short} ${canaryText()} ${canaryToken()}`)).toEqual([])
    expect(search(token.slice(0, PIECE - 1) + canaryToken())).toEqual([])
    for (const digest of ['hex', 'base64', 'base64url'] as const)
      expect(found(createHash('sha256').update(text).digest(digest))).toEqual([])
  })

  test('a canary without a whole piece is refused', () => {
    expect(() => searchFor({ short: 'too few' })).toThrow('too short')
  })
})

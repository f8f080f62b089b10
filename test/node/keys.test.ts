import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { configuration, keys as usual } from '../harness/configuration.ts'
import { startTestGateway } from '../harness/gateway.node.ts'
import type { Json } from '../harness/sandbox-calls.ts'

const TOOL = fileURLToPath(new URL('../../tools/keys.ts', import.meta.url))
const DAY = 86_400_000

let folder = ''
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'keys-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

let files = 0
function written(document: object | string): string {
  const path = join(folder, `${(files += 1)}.json`)
  writeFileSync(path, typeof document === 'string' ? document : JSON.stringify(document))
  return path
}

const configured = (): string => written(configuration(inject('sandbox')))
const documentIn = (path: string): Json => JSON.parse(readFileSync(path, 'utf8'))
const callerIn = (path: string, name: string): Json =>
  documentIn(path).callers.find((caller: Json) => caller.name === name)

interface Ran {
  code: number | null
  out: string
  err: string
}

/** Runs the tool as a process of its own, with the environment that is given here and nothing else. */
async function keys(args: string[], env: Record<string, string> = {}): Promise<Ran> {
  const child = spawn(process.execPath, [TOOL, ...args], {
    cwd: folder,
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 20_000,
    killSignal: 'SIGKILL',
  })
  const ran: Ran = { code: null, out: '', err: '' }
  child.stdout.setEncoding('utf8').on('data', (text: string) => (ran.out += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (ran.err += text))
  const [code] = await once(child, 'close')
  return { ...ran, code }
}

/** The key that was printed, and the keys of the caller that were printed beside it. */
function madeBy({ code, out, err }: Ran): { key: string; id: string; entries: Json[] } {
  expect(code, err).toBe(0)
  const [line, id = ''] = /^cgw_([0-9a-f]{16})_[A-Za-z0-9_-]{43}\n$/.exec(out) ?? []
  expect(line).toBe(out)
  expect(err).not.toContain(out.trim().slice(-43))
  const { keys: entries } = JSON.parse(err.slice(err.indexOf('{'), err.lastIndexOf('}') + 1))
  return { key: out.trim(), id, entries }
}

/** What a gateway with this document answers each key with. */
async function answers(document: Json, ...texts: string[]): Promise<number[]> {
  const gateway = await startTestGateway(document)
  try {
    const path = `${gateway.url}/providers`
    const replies = texts.map((key) => fetch(path, { headers: { authorization: `Bearer ${key}` } }))
    return (await Promise.all(replies)).map(({ status }) => status)
  } finally {
    await gateway.close()
  }
}

describe('create', () => {
  test('prints a key that works once its entry is in the configuration, and writes nothing', async () => {
    const path = configured()
    const before = readFileSync(path, 'utf8')
    const { key, id, entries } = madeBy(await keys(['create', 'reader', '--config', path]))
    expect(readFileSync(path, 'utf8')).toBe(before)
    expect(entries).toEqual([
      ...callerIn(path, 'reader').keys,
      { id, sha256: createHash('sha256').update(key).digest('hex'), expiresAt: null },
    ])
    const document = documentIn(path)
    expect(await answers(document, key, usual.reader)).toEqual([401, 200])
    document.callers.find((caller: Json) => caller.name === 'reader').keys = entries
    expect(await answers(document, key, usual.reader)).toEqual([200, 200])
  })

  test('takes the file from the environment, and with --write puts the entry into it and nothing else', async () => {
    const path = configured()
    chmodSync(path, 0o640)
    const before = documentIn(path)
    const { key, entries } = madeBy(await keys(['create', 'auditor', '--write'], { GATEWAY_CONFIG: path }))
    const text = readFileSync(path, 'utf8')
    expect(text).not.toContain(key.slice(-43))
    expect(text).toBe(`${JSON.stringify(JSON.parse(text), null, 2)}\n`)
    before.callers.find((caller: Json) => caller.name === 'auditor').keys = entries
    expect(documentIn(path)).toEqual(before)
    expect(statSync(path).mode & 0o777).toBe(0o640)
    expect(readdirSync(folder).filter((file) => file.endsWith('.new'))).toEqual([])
    expect(await answers(documentIn(path), key, usual.auditor)).toEqual([200, 200])
  })

  test.each([
    ['2999-02-28', '2999-02-28T23:59:59Z'],
    ['2999-02-28T12:00:00+01:00', '2999-02-28T12:00:00+01:00'],
  ])('takes the end %s', async (expires, expiresAt) => {
    const made = madeBy(await keys(['create', 'reader', '--expires', expires, '--config', configured()]))
    expect(made.entries.at(-1)).toMatchObject({ id: made.id, expiresAt })
  })

  test('gives a caller its first key', async () => {
    const document: Json = configuration(inject('sandbox'), `${inject('issuers')}/keys`)
    const path = written(document)
    const { key } = madeBy(await keys(['create', 'operators', '--write', '--config', path]))
    expect(await answers(documentIn(path), key)).toEqual([200])
  })
})

describe('rotate', () => {
  test('keeps the old keys beside the new one for the overlap', async () => {
    const path = configured()
    const started = Date.now()
    const { key, id, entries } = madeBy(
      await keys(['rotate', 'admin', '--overlap', '3', '--write', '--config', path]),
    )
    expect(entries.map((entry) => entry.id)).toEqual(['admin', 'rotated', id])
    for (const { expiresAt } of entries.slice(0, 2)) {
      expect(Date.parse(expiresAt)).toBeGreaterThanOrEqual(started + 3 * DAY)
      expect(Date.parse(expiresAt)).toBeLessThanOrEqual(Date.now() + 3 * DAY)
    }
    expect(entries[2].expiresAt).toBe(null)
    expect(await answers(documentIn(path), key, usual.admin, usual.rotated)).toEqual([200, 200, 200])
  })

  test('ends the old keys at once with no overlap, and prolongs none', async () => {
    const path = configured()
    const { key, entries } = madeBy(
      await keys(['rotate', 'reader', '--overlap', '0', '--write', '--config', path]),
    )
    expect(await answers(documentIn(path), key, usual.reader)).toEqual([200, 401])
    const [old] = entries
    const again = madeBy(await keys(['rotate', 'reader', '--write', '--config', path]))
    expect(again.entries[0]).toEqual(old)
    expect(again.entries).toHaveLength(3)
    expect(await answers(documentIn(path), again.key, key, usual.reader)).toEqual([200, 200, 401])
  })
})

describe('revoke', () => {
  test('takes one key away and leaves the others', async () => {
    const path = configured()
    const { code, out, err } = await keys(['revoke', 'rotated', '--write', '--config', path])
    expect([code, out]).toEqual([0, ''])
    expect(err).toContain('admin')
    expect(callerIn(path, 'admin').keys.map(({ id }: Json) => id)).toEqual(['admin'])
    expect(await answers(documentIn(path), usual.admin, usual.rotated)).toEqual([200, 401])
  })

  test('does not leave a configuration that no gateway would take', async () => {
    const path = configured()
    const before = readFileSync(path, 'utf8')
    const { code, out, err } = await keys(['revoke', 'reader', '--write', '--config', path])
    expect([code, out]).toEqual([1, ''])
    expect(err).toBe('reader is the only key of reader: rotate it first, or remove the caller\n')
    expect(readFileSync(path, 'utf8')).toBe(before)
  })

  test('takes the last key of a caller who has tokens too', async () => {
    const path = written(configuration(inject('sandbox'), `${inject('issuers')}/keys`))
    const { id, key } = madeBy(await keys(['create', 'operators', '--write', '--config', path]))
    expect((await keys(['revoke', id, '--write', '--config', path])).code).toBe(0)
    expect(await answers(documentIn(path), key)).toEqual([401])
  })
})

test('list shows every key with its end and the days until then, and no digest', async () => {
  const document: Json = configuration(inject('sandbox'))
  document.callers = [
    { name: 'long-named-caller', keys: [{ id: 'k1', sha256: 'a'.repeat(64) }], allow: [] },
    {
      name: 'desk',
      keys: [
        { id: 'k2', sha256: 'b'.repeat(64), expiresAt: '2020-01-01T00:00:00Z' },
        { id: 'k3', sha256: 'c'.repeat(64), expiresAt: new Date(Date.now() + 2.5 * DAY).toISOString() },
      ],
      allow: [],
    },
  ]
  const { code, out, err } = await keys(['list', '--config', written(document)])
  expect([code, err]).toEqual([0, ''])
  expect(out.split('\n').map((line) => line.split(/ {2,}/))).toEqual([
    ['caller', 'key', 'expires', 'days left'],
    ['long-named-caller', 'k1', 'never'],
    ['desk', 'k2', '2020-01-01T00:00:00Z', 'expired'],
    ['desk', 'k3', expect.stringMatching(/Z$/), '2'],
    [''],
  ])
})

describe('what cannot be done is refused with its reason, and prints no key', () => {
  test.each<[string, string[], number, string]>([
    ['no command', [], 2, 'create <caller>'],
    ['an unknown command', ['destroy', 'admin'], 2, 'there is no command destroy'],
    ['a command of every object', ['toString', 'admin'], 2, 'there is no command toString'],
    ['no caller', ['create'], 2, 'create takes one caller'],
    ['two callers', ['create', 'admin', 'reader'], 2, 'create takes one caller'],
    ['a name to list', ['list', 'admin'], 2, 'list takes no name'],
    ['an unknown option', ['create', 'admin', '--force'], 2, '--force'],
    ['an option of another command', ['create', 'admin', '--overlap', '3'], 2, 'create takes no --overlap'],
    ['an unknown caller', ['create', 'nobody'], 1, 'there is no caller nobody; there are: admin, reader'],
    ['an unknown caller to rotate', ['rotate', 'nobody'], 1, 'there is no caller nobody'],
    ['an unknown key', ['revoke', 'nokey'], 1, 'there is no key nokey'],
    ['no date', ['create', 'admin', '--expires', 'soon'], 2, '--expires takes a date'],
    ['an impossible date', ['create', 'admin', '--expires', '2999-02-30'], 2, '--expires takes a date'],
    ['a past date', ['create', 'admin', '--expires', '2020-01-01'], 2, 'a time that has passed'],
    ['a negative overlap', ['rotate', 'admin', '--overlap=-1'], 2, '--overlap takes a number of days'],
    ['an endless overlap', ['rotate', 'admin', '--overlap', 'Infinity'], 2, '--overlap takes a number'],
    ['too long an overlap', ['rotate', 'admin', '--overlap', '366'], 2, '--overlap takes a number'],
  ])('%s', async (_, args, code, says) => {
    const ran = await keys(args, { GATEWAY_CONFIG: configured() })
    expect([ran.code, ran.out]).toEqual([code, ''])
    expect(ran.err).toContain(says)
    expect(ran.err).not.toMatch(/^ {4}at /m)
  })

  test.each<[string, () => string, number, string]>([
    ['no file', () => '', 2, 'name the configuration file'],
    ['a file that is not there', () => join(folder, 'nowhere.json'), 1, 'cannot be read (ENOENT)'],
    ['a file that is not JSON', () => written('{"callers": ['), 1, 'is not JSON'],
    ['a file without callers', () => written({}), 1, 'callers'],
    [
      'a faulty key in it',
      () => written({ callers: [{ name: 'a', keys: [{ id: 'k1', sha256: 'A' }] }] }),
      1,
      'callers.0.keys.0.sha256: must be a SHA-256 in lower-case hex',
    ],
  ])('%s', async (_, path, code, says) => {
    const ran = await keys(['create', 'a'], { GATEWAY_CONFIG: path() })
    expect([ran.code, ran.out]).toEqual([code, ''])
    expect(ran.err).toContain(says)
    expect(ran.err).not.toMatch(/^ {4}at /m)
  })

  test('a file beside which nothing can be written', async () => {
    const path = configured()
    writeFileSync(`${path}.new`, 'left by somebody else')
    const ran = await keys(['create', 'admin', '--write', '--config', path])
    expect([ran.code, ran.out]).toEqual([1, ''])
    expect(ran.err).toContain('(EEXIST)')
    expect(readFileSync(`${path}.new`, 'utf8')).toBe('left by somebody else')
    rmSync(`${path}.new`)
  })
})

import { useGateway } from '#gateway'
import { beforeAll, describe, expect, test } from 'vitest'
import type { Caller } from '../../src/access/rules.ts'
import { historyExport } from '../../src/http/lists/export.ts'
import type { CallerContext } from '../../src/http/operation.ts'
import type { Log } from '../../src/lib/log.ts'
import { keys } from '../harness/configuration.ts'
import {
  type Answer,
  type CallOptions,
  freshId,
  get,
  mintApinizer,
  mintDiscue,
  put,
} from '../harness/gateway-calls.ts'
import type { Json } from '../harness/sandbox-calls.ts'

useGateway()

const made = { discue: '', apinizer: '' }
beforeAll(async () => {
  made.discue = `discue:${await mintDiscue()}`
  made.apinizer = (await mintApinizer()).id
  for (let at = 0; at < 3; at++) await put(`/credentials/${made.discue}`, { name: `a.${freshId()}` })
  const headers = { 'x-change-reason': encodeURIComponent('=1+1, "quoted"') }
  await put(`/credentials/${made.apinizer}`, { secret: 's', description: 'x' }, { headers })
  await get('/audit', { key: keys.planner })
})

const as = (accept: string, options: CallOptions = {}): CallOptions => ({ ...options, headers: { accept } })
const NDJSON = 'application/x-ndjson'

const linesOf = ({ body }: Answer): Json[] =>
  (body as string).split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line)]))

/** The records of RFC 4180: fields may be quoted, and hold commas, quotes and ends of lines. */
function recordsOf(text: string): string[][] {
  const records: string[][] = [[]]
  for (const [, quoted, plain = '', end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n)/g)) {
    records.at(-1)?.push(quoted === undefined ? plain : quoted.replaceAll('""', '"'))
    if (end === '\r\n') records.push([])
  }
  return records.slice(0, -1)
}

describe.each(['/audit', '/changes'])('%s', (path) => {
  const all = async (query = ''): Promise<Json[]> => (await get(`${path}?limit=1000${query}`)).body.data

  test('as NDJSON is what the list holds, a line each', async () => {
    const reply = await get(path, as(NDJSON))
    expect([reply.status, reply.headers.get('content-type')]).toEqual([200, `${NDJSON}; charset=utf-8`])
    expect(reply.headers.get('cache-control')).toBe('no-store, no-transform')
    expect(linesOf(reply)).toEqual(await all())
    expect(linesOf(reply).length).toBeGreaterThan(3)
    expect((reply.body as string).endsWith('\n')).toBe(true)
  })

  test('as NDJSON has no end of a line within one, whatever takes what for it', async () => {
    const ends = '\u2028\u2029\u0085'
    const { id } = await mintApinizer()
    const headers = { 'x-change-reason': encodeURIComponent(`one\u2028two\u2029three`) }
    await put(`/credentials/${id}`, { secret: 's', description: `x${ends}y` }, { headers })
    const reply = await get(`${path}?resource=${encodeURIComponent(id)}`, as(NDJSON))
    const lines = (reply.body as string).split(/[\n\r\v\f\u0085\u2028\u2029]/)
    expect(lines.filter((line) => line !== '').map((line) => JSON.parse(line))).toEqual(
      await all(`&resource=${encodeURIComponent(id)}`),
    )
    if (path === '/audit') expect(linesOf(reply).at(-1).fields.description.to).toBe(`x${ends}y`)
  })

  test('as CSV has a header and the same rows', async () => {
    const reply = await get(path, as('text/csv'))
    const [header = [], ...records] = recordsOf(reply.body as string)
    const rows = await all()
    expect(header.toSorted()).toEqual([...new Set(rows.flatMap((row) => Object.keys(row)))].toSorted())
    expect(records.map((record) => record[header.indexOf('id')])).toEqual(rows.map(({ id }) => id))
    for (const record of records) expect(record).toHaveLength(header.length)
  })

  test('keeps the filters, the limit and the cursor', async () => {
    const [, second, ...rest] = await all(`&resource=${made.discue}`)
    const query = `resource=${made.discue}&cursor=${second.id}`
    expect(linesOf(await get(`${path}?${query}`, as(NDJSON)))).toEqual(rest)
    expect(rest.length).toBeGreaterThan(0)
    expect(linesOf(await get(`${path}?${query}&limit=1`, as(NDJSON)))).toEqual(rest.slice(0, 1))
    expect(linesOf(await get(`${path}?connection=nowhere`, as(NDJSON)))).toEqual([])
  })

  test.each([
    ['application/json', 'application/json'],
    ['*/*', 'application/json'],
    ['image/png', 'application/json'],
    ['text/csv;q=0.5, application/json', 'application/json'],
    ['application/json;q=0.5, text/csv', 'text/csv'],
    ['Application/X-NDJSON', NDJSON],
    ['application/x-ndjson;q=0', 'application/json'],
    ['text/csv, */*', 'text/csv'],
    ['image/png, text/csv;q=0.9', 'text/csv'],
    ['application/json, text/csv', 'application/json'],
  ])('asked for as %s is %s', async (accept, type) => {
    const reply = await get(`${path}?limit=1`, as(accept))
    expect(reply.headers.get('content-type')?.split(';')[0]).toBe(type)
  })

  test('refuses a bad query and who may not read it as ever', async () => {
    expect((await get(`${path}?limit=0`, as(NDJSON))).status).toBe(400)
    expect((await get(path, as(NDJSON, { key: keys.planner }))).status).toBe(403)
  })
})

test('an export of the audit shows a caller only what its rules reach', async () => {
  const asked = { key: keys.auditor }
  const lines = linesOf(await get('/audit', as(NDJSON, asked)))
  expect(lines).toEqual((await get('/audit?limit=1000', asked)).body.data)
  expect(lines.length).toBeGreaterThanOrEqual(6)
  for (const { resource } of lines) expect(resource).toMatch(/^discue:/)
})

test.each([
  [NDJSON, linesOf],
  ['application/json', ({ body }: Answer): Json[] => body.data],
])('%s hides fields that the caller may not audit', async (accept, eventsIn) => {
  const query = `resource=${encodeURIComponent(made.apinizer)}`
  const events = eventsIn(await get(`/audit?${query}`, as(accept, { key: keys.librarian })))
  expect(events.map(({ type }) => type)).toEqual(['outcome', 'intent'])
  for (const { fields } of events) {
    expect(fields.description).toMatchObject({ action: 'set', to: 'x' })
    expect(fields.secret).toEqual({ action: 'set', fingerprint: '[hidden]' })
  }
})

test('a CSV keeps values whole, and none of them is a formula', async () => {
  const reply = await get(`/audit?resource=${encodeURIComponent(made.apinizer)}`, as('text/csv'))
  const [header = [], ...records] = recordsOf(reply.body as string)
  const value = (name: string) => records[0]?.[header.indexOf(name)] ?? ''
  expect(value('reason')).toBe(`'=1+1, "quoted"`)
  expect(value('alias')).toBe('')
  expect(JSON.parse(value('actor'))).toMatchObject({ caller: 'admin' })
  expect(JSON.parse(value('fields'))).toMatchObject({ description: { to: 'x' } })
  expect(value('widens')).toBe('false')
})

describe('a stream', () => {
  const rule = { actions: ['audit'], kinds: ['credential'], ids: ['*'], fields: ['*'] }
  const caller = { name: 'test', keyId: 'test', allow: [rule], limit: undefined } as Caller
  const context = { caller, query: {}, requestId: 'r' } as CallerContext
  const logged: Record<string, unknown>[] = []
  const unheard = (): void => {}
  const error: Log['error'] = (message, properties) => void logged.push({ message, ...properties })
  const log: Log = { debug: unheard, info: unheard, warn: unheard, error }
  const idOf = (n: number) => `01979d3e-5b1a-7c3e-9f00-${String(999 - n).padStart(12, '0')}`

  /** A history of so many slices of two rows; those from `silentFrom` on name a connection that does not answer. */
  function slices(count: number, silentFrom = Infinity) {
    const reads: { before?: string; except: readonly string[] }[] = []
    return {
      reads,
      log,
      show: (row: { id: string }) => row,
      async read({ before, except }: { before?: string; except: readonly string[] }) {
        const at = reads.length
        reads.push({ ...(before !== undefined && { before }), except: [...except] })
        const rows = [{ id: idOf(2 * at) }, { id: idOf(2 * at + 1) }]
        const unanswered = at >= silentFrom && !except.includes('lost') ? ['lost'] : []
        return { rows, end: at === count - 1 ? null : idOf(2 * at + 1), unanswered }
      },
    }
  }
  /** Time for what must not happen; nothing that must happen is waited for with it. */
  const aWhile = () => new Promise((resolve) => setTimeout(resolve, 50))
  const readerOf = (response: Response) =>
    (response.body as ReadableStream<Uint8Array>).pipeThrough(new TextDecoderStream()).getReader()

  test('reads no further than its reader has come, and nothing after it has left', async () => {
    const history = slices(1000)
    const response = historyExport(context, NDJSON, ['id'], history)
    await aWhile()
    expect(history.reads).toHaveLength(0)
    const reader = readerOf(response)
    await reader.read()
    await aWhile()
    expect(history.reads.length).toBeLessThan(5)
    await reader.cancel()
    const { length } = history.reads
    await aWhile()
    expect(history.reads).toHaveLength(length)
  })

  test('that its reader leaves in the middle of a slice ends with it, and that is no fault', async () => {
    const history = slices(1000)
    const read = Promise.withResolvers<void>()
    const slow = {
      ...history,
      read: async (page: Parameters<typeof history.read>[0]) => {
        await read.promise
        return history.read(page)
      },
      show: () => undefined,
    }
    const reader = readerOf(historyExport(context, NDJSON, ['id'], slow))
    const first = reader.read()
    await aWhile()
    await reader.cancel()
    read.resolve()
    await first
    await expect.poll(() => history.reads.length).toBe(1)
    await aWhile()
    expect([history.reads.length, logged.length]).toEqual([1, 0])
  })

  test('goes on from the last row of the slice before', async () => {
    const history = slices(3)
    const text = await historyExport(context, NDJSON, ['id'], history).text()
    expect(text.split('\n').filter(Boolean)).toHaveLength(6)
    expect(history.reads.map(({ before }) => before)).toEqual([undefined, idOf(1), idOf(3)])
  })

  test('whose connection falls silent in the middle goes on without it, and says so at the end', async () => {
    const history = slices(4, 2)
    const lines = (await historyExport(context, NDJSON, ['id'], history).text()).trimEnd().split('\n')
    expect(lines).toHaveLength(9)
    expect(JSON.parse(lines.at(-1) ?? '')).toEqual({ unanswered: ['lost'] })
    expect(history.reads.map(({ except }) => except)).toEqual([[], [], [], ['lost']])
  })

  test('of CSV is cut off then, because it has no place to say so', async () => {
    await expect(historyExport(context, 'text/csv', ['id'], slices(4, 2)).text()).rejects.toThrow('lost')
    expect(logged).toMatchObject([
      { message: 'export cut off', requestId: 'r', error: expect.stringContaining('lost') },
    ])
    await expect(historyExport(context, 'text/csv', ['id'], slices(4)).text()).resolves.toMatch(/^id\r\n/)
  })
})

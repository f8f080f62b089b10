import { randomBytes } from 'node:crypto'
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import Database from 'better-sqlite3'
import { drizzle } from 'drizzle-orm/better-sqlite3'
import { migrate } from 'drizzle-orm/better-sqlite3/migrator'
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { type AuditEvent, GENESIS, hashOf, toRow } from '../../src/ledger/event.ts'
import { openLedger } from '../../src/ledger/ledger.ts'
import { idAt } from '../../src/ledger/position.ts'
import { deriveAuditKeys } from '../../src/lib/keyed-digests.ts'
import { Secret } from '../../src/lib/secret.ts'
import { openDatabase } from '../../src/node/database.ts'
import { configuration, keys } from '../harness/configuration.ts'
import { auditKey, startTestGateway } from '../harness/gateway.node.ts'
import { home } from '../harness/home.ts'
import { controlOf, type Json } from '../harness/sandbox-calls.ts'
import { silent } from '../harness/silent-log.ts'
import { draftOf } from '../ledger/subject.ts'

// A database that an earlier version has written is taken over as it is.

let folder = ''
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'upgrade-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

/** The database as it was after the first `count` migrations. */
function openedAfter(count: number): Database.Database {
  const migrations = join(folder, 'migrations')
  cpSync(fileURLToPath(new URL('../../migrations', import.meta.url)), migrations, { recursive: true })
  const file = join(migrations, 'meta/_journal.json')
  const journal = JSON.parse(readFileSync(file, 'utf8')) as { entries: unknown[] }
  writeFileSync(file, JSON.stringify({ ...journal, entries: journal.entries.slice(0, count) }))
  const sqlite = new Database(join(folder, `${randomBytes(4).toString('hex')}.db`))
  migrate(drizzle(sqlite), { migrationsFolder: migrations })
  return sqlite
}

const START = Date.parse('2026-11-20T10:00:00.000Z')

/** Ids as they were: the time, and a counter from anywhere in each millisecond. */
const idOf = (ms: number, counter: number): string => {
  const hex = ms.toString(16).padStart(12, '0')
  return `${hex.slice(0, 8)}-${hex.slice(8)}-7abc-8000-${counter.toString(16).padStart(12, '0')}`
}

/** Two chains whose events come in turn, several in a millisecond. From the `back`th on the clock was set back by an hour. */
function earlierEvents(back = Infinity): AuditEvent[] {
  const tips = new Map<string, AuditEvent>()
  return Array.from({ length: 300 }, (_, index) => {
    const connection = index % 3 === 0 ? 'a' : 'b'
    const ms = START + Math.floor(index / 7) - (index < back ? 0 : 3_600_000)
    const before = tips.get(connection)
    const unhashed = {
      ...draftOf({ resource: `${connection}:x`, outcome: index % 2 ? 'applied' : null }),
      id: idOf(ms, index),
      connection,
      seq: (before?.seq ?? 0) + 1,
      at: new Date(ms).toISOString(),
      previous: before?.hash ?? GENESIS,
    }
    const event: AuditEvent = { ...unhashed, hash: hashOf(unhashed) }
    tips.set(connection, event)
    return event
  })
}

const snake = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)

/** Members that events have since then. */
const LATER = ['position', 'unchanged']

/** Writes them as the version did that had no positions, or none of the later members only. */
function store(sqlite: Database.Database, events: AuditEvent[], without = LATER): void {
  for (const event of events) {
    const position = Date.parse(event.at) * 1024 + event.seq
    const whole = { ...toRow(event, position), widens: Number(event.widens) }
    const row = Object.entries(whole).filter(([name]) => !without.includes(name))
    const columns = row.map(([name]) => snake(name)).join(', ')
    const values = row.map(([, value]) => value)
    sqlite
      .prepare(`INSERT INTO audit (${columns}) VALUES (${values.map(() => '?').join(', ')})`)
      .run(...values)
  }
}

test('the audit of the version before events had positions', async () => {
  const sqlite = openedAfter(4)
  const events = earlierEvents()
  store(sqlite, events)
  const change = ['c1', 'a', 'credential', 'a:x', 'billing', 'unknown', events[0]?.at]
  sqlite.prepare('INSERT INTO changes VALUES (?, ?, ?, ?, ?, ?, ?)').run(...change)
  sqlite.close()

  const database = openDatabase(sqlite.name, silent, home)
  const ledger = openLedger(database.db, database.commit)
  const last = events.findLast(({ connection }) => connection === 'a')
  const next = await ledger.append({ connection: 'a', draft: draftOf() })
  expect(next).toMatchObject({ seq: (last?.seq ?? 0) + 1, previous: last?.hash })
  expect(Object.values(ledger.change('c1') ?? {})).toEqual(expect.arrayContaining(change))
  const paged: AuditEvent[] = []
  for (let before: string | null | undefined; before !== null;) {
    const { rows, end } = ledger.events({ limit: 5, ...(before && { before }) })
    paged.push(...rows)
    before = end
  }
  expect(paged.toReversed()).toEqual([...events, next])
  const [since, until] = [3, 20].map((ms) => new Date(START + ms).toISOString()) as [string, string]
  expect(ledger.events({ since, until, limit: 1000 }).rows.toReversed()).toEqual(
    events.filter(({ at }) => at >= since && at < until),
  )
  database.close()
})

test('is refused where it does not stand in the order of its ids, and left as it is', () => {
  const sqlite = openedAfter(4)
  store(sqlite, earlierEvents(290))
  const dump = () => sqlite.prepare('SELECT * FROM audit').all()
  const before = dump()
  expect(() => openDatabase(sqlite.name, silent, home)).toThrow(
    'the audit does not stand in the order of its ids',
  )
  expect(dump()).toEqual(before)
  sqlite.close()
})

/** Two changes of one resource that nobody knows the end of, as the version wrote them that knew of no `unchanged`. */
function openChanges(): AuditEvent[] {
  const events: AuditEvent[] = []
  for (const [type, changeId, outcome, field] of [
    ['intent', 'c1', null, 'name'],
    ['outcome', 'c1', 'unknown', 'name'],
    ['intent', 'c2', null, 'reference'],
    ['outcome', 'c2', 'unknown', 'reference'],
  ] as const) {
    const seq = events.length + 1
    const at = new Date(START + seq).toISOString()
    const fields = { [field]: { action: 'set' as const, to: 'After' } }
    const unhashed = {
      ...draftOf({ type, changeId, outcome, fields, resource: 'a:x', kind: 'role' }),
      id: idOf(START + seq, seq),
      connection: 'a',
      seq,
      at,
      previous: events.at(-1)?.hash ?? GENESIS,
    }
    events.push({ ...unhashed, hash: hashOf(unhashed) })
  }
  return events
}

test('open changes and their keys go on, by what they were to alter', async () => {
  const sqlite = openedAfter(5)
  const events = openChanges()
  store(sqlite, events, ['unchanged'])
  const insert = (table: string, ...values: unknown[]) =>
    sqlite.prepare(`INSERT INTO ${table} VALUES (${values.map(() => '?').join(', ')})`).run(...values)
  for (const id of ['c1', 'c2']) {
    insert('changes', id, 'a', 'role', 'a:x', 'billing', 'unknown', events[3]?.at)
    insert('idempotency', 'billing', 'role', 'a:x', `key-${id}`, id, `fingerprint-${id}`, null, null)
  }
  insert('resources', 'role', 'a:x', '{"name":"Before"}', 3)
  sqlite.close()

  const database = openDatabase(sqlite.name, silent, home)
  const ledger = openLedger(database.db, database.commit)
  const scope = { caller: 'billing', subject: '', kind: 'role' as const, resource: 'a:x' }
  expect(ledger.reservedKey({ ...scope, key: 'key-c1' })).toMatchObject({ changeId: 'c1', answer: null })
  expect(ledger.open('a', 'role', 'a:x').toSorted()).toEqual(['c1', 'c2'])
  expect(ledger.resource('role', 'a:x')).toEqual({ applied: { name: 'Before' }, secretChanges: 3 })
  const fields = { name: { action: 'set' as const, to: 'Newer' } }
  const draft = draftOf({ kind: 'role', resource: 'a:x', fields })
  await ledger.append({ connection: 'a', draft })
  expect([ledger.isOvertaken('c1'), ledger.isOvertaken('c2')]).toEqual([true, false])
  await ledger.append({
    connection: 'a',
    draft: { ...draft, type: 'outcome', outcome: 'applied' },
    applied: { values: { name: 'Newer' }, secretChanged: false },
  })
  expect([ledger.change('c1')?.state, ledger.change('c2')?.state]).toEqual(['superseded', 'unknown'])
  expect(ledger.resource('role', 'a:x').applied).toEqual({ name: 'Newer' })
  // The chain goes on, and what was written before is what was hashed.
  const all = ledger.events({ connections: ['a'], limit: 100 }).rows.toReversed()
  expect(all.slice(0, 4)).toEqual(events)
  for (const [index, event] of all.entries()) {
    expect(event.previous).toBe(all[index - 1]?.hash ?? GENESIS)
    expect(hashOf(event)).toBe(event.hash)
  }
  database.close()
})

/** A user name with all sorts of characters, and its id as it was spelled until ids became plain text. */
const username = "o'brien (2)*@münchen, ltd"
const plain = `apinizer:MyProject:${username}`
const encoded = 'apinizer:MyProject:o%27brien%20%282%29%2A%40m%C3%BCnchen%2C%20ltd'
const invisible = 'apinizer:MyProject:zero%E2%80%8Bwidth'
const cut = 'apinizer:MyProject:cut%20off'
const kept = 'apinizer:MyProject:kept%20outcome'

/**
 * What the version before wrote: of two changes of that user, one ended, one open; of one that nobody can name any more; of
 * one that a crash cut off; and of one whose outcome is still in the emergency's keeping.
 */
function writtenBefore(
  sqlite: Database.Database,
  bodies: { ended: object; open: object; kept: object },
): AuditEvent[] {
  const { fingerprint, request } = deriveAuditKeys(auditKey)
  const secretOf = (text: string) => ({
    action: 'set' as const,
    fingerprint: fingerprint('credential', encoded, 'secret', new Secret(text)),
  })
  const description = { action: 'set' as const, from: 'Before', to: 'After' }
  const changeIds = {
    ended: idOf(START, 1),
    open: idOf(START, 2),
    lost: idOf(START, 3),
    cut: idOf(START, 4),
    kept: idOf(START, 5),
  }
  const events: AuditEvent[] = []
  const add = (draft: Partial<AuditEvent>) => {
    const seq = events.length + 1
    const at = new Date(START + seq).toISOString()
    const unhashed = {
      ...draftOf({ actor: { caller: 'admin', key: 'admin', address: null }, resource: encoded, ...draft }),
      id: idAt((START + seq) * 1024 + seq),
      connection: 'apinizer',
      seq,
      at,
      previous: events.at(-1)?.hash ?? GENESIS,
    }
    events.push({ ...unhashed, hash: hashOf(unhashed) })
  }
  const ended = { changeId: changeIds.ended, fields: { secret: secretOf('first') } }
  add({ ...ended, type: 'intent' })
  add({ ...ended, type: 'outcome', outcome: 'applied' })
  const open = { changeId: changeIds.open, fields: { description, secret: secretOf('second') } }
  add({ ...open, type: 'intent' })
  add({ ...open, type: 'outcome', outcome: 'unknown' })
  const lost = { changeId: changeIds.lost, resource: invisible, fields: { secret: secretOf('third') } }
  add({ ...lost, type: 'intent' })
  add({ ...lost, type: 'outcome', outcome: 'unknown' })
  add({ changeId: changeIds.cut, resource: cut, fields: { description }, type: 'intent' })
  const ofKept = { changeId: changeIds.kept, resource: kept, fields: { secret: secretOf('kept') } }
  add({ ...ofKept, type: 'intent' })
  store(sqlite, events, [])

  const insert = (table: string, ...values: unknown[]) =>
    sqlite.prepare(`INSERT INTO ${table} VALUES (${values.map(() => '?').join(', ')})`).run(...values)
  const since = new Date().toISOString()
  insert('changes', changeIds.ended, 'apinizer', 'credential', encoded, 'admin', 'applied', since)
  insert('changes', changeIds.open, 'apinizer', 'credential', encoded, 'admin', 'unknown', since)
  // Nobody looks at it again for a minute after its outcome; that is over.
  const long = new Date(START).toISOString()
  insert('changes', changeIds.lost, 'apinizer', 'credential', invisible, 'admin', 'unknown', long)
  insert('changes', changeIds.cut, 'apinizer', 'credential', cut, 'admin', 'in_flight', since)
  insert('changes', changeIds.kept, 'apinizer', 'credential', kept, 'admin', 'in_flight', since)
  insert('resources', 'credential', encoded, '{"rate":1.50}', 7, '{}')
  const keyed = (key: string, body: object, changeId: string, answer: object | null, id = encoded) =>
    insert(
      'idempotency',
      'admin',
      'credential',
      id,
      key,
      changeId,
      request(['admin', 'credential', id, body, 'merge']),
      answer && JSON.stringify(answer),
      answer && Date.now() + 3_600_000,
    )
  const resource = { id: encoded, connection: 'apinizer', provider: 'apinizer', readable: true, name: '50 %' }
  const reply = {
    changeId: changeIds.ended,
    outcome: 'applied',
    changed: true,
    widens: false,
    resource,
    fields: {},
  }
  keyed('ended', bodies.ended, changeIds.ended, { reply })
  keyed('open', bodies.open, changeIds.open, null)
  keyed('kept', bodies.kept, changeIds.kept, null, kept)
  const outcome = {
    connection: 'apinizer',
    draft: { ...draftOf(ofKept), type: 'outcome', outcome: 'applied' },
    applied: { values: {}, secretChanged: true },
    answer: { reply: { ...reply, changeId: changeIds.kept, resource: { ...resource, id: kept } } },
  }
  writeFileSync(`${sqlite.name}.emergency`, `${JSON.stringify(outcome)}\n`)
  const attempt = {
    actor: { caller: 'reader', key: 'reader', address: null },
    problem: 'forbidden',
    alias: null,
    kind: 'credential',
    resource: encoded,
    requestId: 'before',
  }
  insert(
    'refusals',
    'apinizer',
    'reader',
    'reader',
    'forbidden',
    Date.now() - 120_000,
    2,
    JSON.stringify(attempt),
  )
  return events
}

test('ids that were percent-encoded become plain text, and what was written under them goes on', async () => {
  const urls = inject('sandbox')
  const { mint, ledger } = controlOf(urls.apinizer)
  const seed = {
    email: 'a@b.example',
    fullName: 'X',
    description: 'Before',
    password: 'p',
    ipList: ['10.0.0.1'],
  }
  await mint('credential', `MyProject/${username}`, {
    ...seed,
    roleNameList: [],
    enabled: true,
    expireDate: null,
  })
  await mint('credential', 'MyProject/cut off', { ...seed, description: 'After' })
  const sqlite = openedAfter(6)
  const bodies = {
    ended: { secret: 'first' },
    open: { description: 'After', secret: 'second' },
    kept: { secret: 'kept' },
  }
  const events = writtenBefore(sqlite, bodies)
  sqlite.close()

  const rules = [
    { ids: ["apinizer:MyProject:o'brien*"], seen: true },
    { ids: [plain.replace('*', '\\*')], seen: true },
    { ids: [`${plain.split('*')[0]}\\*@*`], seen: true },
    { ids: ['apinizer:MyProject:o%27*'.replace('%27', '"')], seen: false },
    { ids: [plain.replace('*', '\\*').replace('ltd', 'inc')], seen: false },
  ]
  const document = configuration(urls) as { callers: Json[] }
  const [admin] = document.callers
  const narrowed = (ids: string[]) => ({
    ...document,
    callers: [{ ...admin, allow: [{ ...admin.allow[0], ids }] }],
  })

  const gateway = await startTestGateway(document, { database: sqlite.name })
  const send = async (method: string, path: string, body?: object, headers: object = {}) => {
    const response = await fetch(gateway.url + path, {
      method,
      headers: { 'x-api-key': keys.admin, 'content-type': 'application/json', ...headers },
      ...(body && { body: JSON.stringify(body) }),
    })
    return { status: response.status, headers: response.headers, body: (await response.json()) as Json }
  }
  const path = `/credentials/${encodeURIComponent(plain)}`
  try {
    // An entity tag that somebody holds is that of the same state: over the id as it was spelled.
    const state = {
      name: 'X',
      description: 'Before',
      email: 'a@b.example',
      enabled: true,
      roles: [],
      allowedIps: ['10.0.0.1'],
      expiresAt: null,
      metadata: {},
    }
    const held = deriveAuditKeys(auditKey).etag(['credential', encoded, state, 7])
    expect((await send('GET', path)).headers.get('etag')).toBe(held)
    for (const [tag, status] of [
      [held, 200],
      [held.replace(/^"./, '"-'), 412],
    ] as const) {
      const planned = await send('PUT', `${path}?dryRun=true`, { secret: 'other' }, { 'if-match': tag })
      expect(planned.status).toBe(status)
    }

    // A key whose change had ended replays, and tells of the resource by its plain name.
    const replayed = await send('PUT', path, bodies.ended, { 'idempotency-key': 'ended' })
    expect([replayed.status, replayed.headers.get('idempotency-replayed')]).toEqual([200, 'true'])
    expect(replayed.body.credential).toMatchObject({ id: plain, name: '50 %' })
    expect((await send('PUT', path, { secret: 'other' }, { 'idempotency-key': 'ended' })).status).toBe(422)

    // One whose change is open goes on with the same change.
    const resumed = await send('PUT', path, bodies.open, { 'idempotency-key': 'open' })
    expect(resumed).toMatchObject({
      status: 200,
      body: { changeId: events[3]?.changeId, credential: { id: plain } },
    })
    const own = (await ledger()).filter(({ id }) => id === `MyProject/${username}`)
    expect(own).toMatchObject([{ body: { username, description: 'After' } }])

    // The same secret has the fingerprint that it had.
    const again = await send('PUT', path, bodies.ended)
    expect(again.body.fields.secret.fingerprint).toBe(events[0]?.fields['secret']?.fingerprint)

    // Old events are shown as they are, new ones have the plain id, and either spelling finds both.
    const found = await send('GET', `/audit?limit=1000&resource=${encodeURIComponent(plain)}`)
    const oldest = found.body.data.toReversed()
    expect(oldest.slice(0, 4)).toEqual(events.slice(0, 4))
    expect(oldest.slice(4).length).toBeGreaterThan(3)
    expect(new Set(oldest.slice(4).map(({ resource }: Json) => resource))).toEqual(new Set([plain]))
    const byOld = await send('GET', `/audit?limit=1000&resource=${encodeURIComponent(encoded)}`)
    expect(byOld.body.data).toEqual(found.body.data)
    const paged: Json[] = []
    for (let cursor: string | null | undefined; cursor !== null;) {
      const more = cursor ? `&cursor=${cursor}` : ''
      const page = await send('GET', `/audit?limit=3&resource=${encodeURIComponent(plain)}${more}`)
      paged.push(...page.body.data)
      cursor = page.body.nextCursor
    }
    expect(paged).toEqual(found.body.data)
    for (const spelled of [plain, encoded]) {
      const changes = await send('GET', `/changes?resource=${encodeURIComponent(spelled)}`)
      expect(changes.body.data.map(({ id, resource }: Json) => [id, resource])).toEqual([
        [again.body.changeId, plain],
        [events[3]?.changeId, plain],
        [events[1]?.changeId, plain],
      ])
    }
    const chain = (await send('GET', '/audit?limit=1000&connection=apinizer')).body.data.toReversed()
    expect(chain.slice(0, events.length)).toEqual(events)
    for (const [index, event] of chain.entries()) {
      expect(event.previous).toBe(chain[index - 1]?.hash ?? GENESIS)
      expect(hashOf(event)).toBe(event.hash)
    }

    // What nobody can name any more is listed, and settled by its change.
    const lost = await send('GET', `/changes/${events[5]?.changeId}`)
    expect(lost).toMatchObject({ status: 200, body: { resource: 'apinizer:MyProject:zero\u200bwidth' } })
    const stateOf = async (index: number) =>
      (await send('GET', `/changes/${events[index]?.changeId}`)).body.state
    await expect.poll(() => stateOf(5)).toBe('needs_attention')
    const byLost = await send('GET', '/changes?resource=apinizer:MyProject:zero%E2%80%8Bwidth')
    expect(byLost.body.data.map(({ id }: Json) => id)).toEqual([events[5]?.changeId])
    const word = { outcome: 'rejected', reason: 'looked' }
    expect((await send('POST', `/changes/${events[5]?.changeId}/resolve`, word)).status).toBe(200)

    const settled = await send('GET', `/changes/${events[5]?.changeId}`)
    expect(settled.body.events.map(({ type, resource }: Json) => [type, resource])).toEqual([
      ['intent', invisible],
      ['outcome', invisible],
      ['settled', 'apinizer:MyProject:zero\u200bwidth'],
      ['resolved', 'apinizer:MyProject:zero\u200bwidth'],
    ])

    // What a crash cut off is read back, and settled under the plain id.
    await expect.poll(() => stateOf(6)).toBe('applied')
    const story = await send('GET', '/audit?resource=apinizer:MyProject:cut%20off')
    expect(story.body.data.map(({ type, resource }: Json) => [type, resource])).toEqual([
      ['settled', 'apinizer:MyProject:cut off'],
      ['intent', cut],
    ])

    // What the emergency has kept is told by the plain id too.
    const late = await send('PUT', '/credentials/apinizer:MyProject:kept%20outcome', bodies.kept, {
      'idempotency-key': 'kept',
    })
    expect([late.status, late.headers.get('idempotency-replayed')]).toEqual([200, 'true'])
    expect(late.body.credential.id).toBe('apinizer:MyProject:kept outcome')
    const told = await send('GET', '/audit?resource=apinizer:MyProject:kept%20outcome')
    expect(told.body.data.map(({ type, resource }: Json) => [type, resource])).toEqual([
      ['outcome', 'apinizer:MyProject:kept outcome'],
      ['intent', kept],
    ])

    // What was counted of refusals before is told by the plain id.
    const refusals = async () => (await send('GET', '/audit?type=refused&actor=reader')).body.data
    await expect
      .poll(refusals, { timeout: 15_000 })
      .toMatchObject([{ resource: plain, refusal: { count: 2 } }])

    // Nothing but the events has an id as it was. The rest of an answer may have a "%".
    const other = new Database(sqlite.name, { readonly: true })
    for (const [table, column] of [
      ['changes', 'resource'],
      ['resources', 'resource'],
      ['idempotency', 'resource'],
      ['idempotency', `answer ->> '$.reply.resource.id'`],
      ['refusals', `first ->> '$.resource'`],
    ]) {
      const all = other.prepare(`SELECT ${column} FROM ${table} WHERE ${column} NOT NULL`).pluck().all()
      if (table !== 'refusals') expect(all.length).toBeGreaterThan(0)
      expect(all.filter((id) => String(id).includes('%'))).toEqual([])
    }
    other.close()
    expect(gateway.logged.filter((line) => line.includes('%20') && !line.includes('"path"'))).toEqual([])
  } finally {
    await gateway.close()
  }

  for (const { ids, seen } of rules) {
    const narrow = await startTestGateway(narrowed(ids), { database: sqlite.name })
    try {
      const page = await fetch(`${narrow.url}/audit?limit=1000`, { headers: { 'x-api-key': keys.admin } })
      const { data } = (await page.json()) as Json
      const spellings = new Set(data.map(({ resource }: Json) => resource))
      expect({ ids, spellings }).toEqual({ ids, spellings: new Set(seen ? [plain, encoded] : []) })
    } finally {
      await narrow.close()
    }
  }
}, 60_000)

test('a key of a token’s subject is that subject’s, and what was refused to a caller’s keys is counted together', async () => {
  const sqlite = openedAfter(7)
  const [alice, admin] = ['jwt:alice', 'admin'].map((key, index) => {
    const draft = draftOf({ actor: { caller: 'people', key, address: null }, changeId: idOf(START, index) })
    const unhashed = {
      ...draft,
      id: idAt((START + index) * 1024),
      connection: 'a',
      seq: index + 1,
      at: new Date(START + index).toISOString(),
      previous: GENESIS,
    }
    return { ...unhashed, hash: hashOf(unhashed) }
  })
  if (!alice || !admin) throw new TypeError('there are two events')
  store(sqlite, [alice, { ...admin, previous: alice.hash }], [])
  const insert = (table: string, ...values: unknown[]) =>
    sqlite.prepare(`INSERT INTO ${table} VALUES (${values.map(() => '?').join(', ')})`).run(...values)
  for (const { changeId, actor } of [alice, admin])
    insert('idempotency', 'people', 'credential', 'a:x', `of ${actor?.key}`, changeId, 'f', null, null)
  const attempt = { actor: alice.actor, problem: 'forbidden', alias: null, kind: null, resource: null }
  const first = JSON.stringify({ ...attempt, requestId: 'r' })
  for (const [key, count] of Object.entries({ 'jwt:alice': 2, 'jwt:bob': 3, 'jwt:quiet': 0 }))
    insert('refusals', 'a', 'people', key, 'forbidden', START, count, count > 0 ? first : null)
  sqlite.close()

  const database = openDatabase(sqlite.name, silent, home)
  const ledger = openLedger(database.db, database.commit)
  const found = (subject: string, key: string) =>
    ledger.reservedKey({ caller: 'people', subject, kind: 'credential', resource: 'a:x', key })?.changeId
  expect(found('jwt:alice', 'of jwt:alice')).toBe(alice.changeId)
  expect(found('', 'of admin')).toBe(admin.changeId)
  expect([found('jwt:bob', 'of jwt:alice'), found('', 'of jwt:alice')]).toEqual([undefined, undefined])
  await ledger.flushRefusals()
  const { refusal } = ledger.events({ connections: ['a'], type: 'refused', limit: 5 }).rows[0] ?? {}
  expect({ ...refusal, subjects: refusal?.subjects?.toSorted() }).toEqual({
    problem: 'forbidden',
    count: 5,
    subjects: ['jwt:alice', 'jwt:bob'],
    subjectCount: 2,
  })
  database.close()
})

import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import Database from 'better-sqlite3'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { openLedger } from '../../src/ledger/ledger.ts'
import { type NodeDatabase, openDatabase } from '../../src/node/database.ts'
import { configuration, keys } from '../harness/configuration.ts'
import { startTestGateway, type TestGateway } from '../harness/gateway.node.ts'
import { home } from '../harness/home.ts'
import { controlOf, type Json } from '../harness/sandbox-calls.ts'
import { silent } from '../harness/silent-log.ts'
import { ledgerContract } from '../ledger/contract.ts'
import { draftOf, type Row } from '../ledger/subject.ts'

let folder = ''
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'ledger-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

const freshFile = (): string => join(folder, `${randomBytes(8).toString('hex')}.db`)

describe('the contract', () => {
  let database: NodeDatabase
  beforeAll(() => {
    database = openDatabase(freshFile(), silent, home)
  })
  afterAll(() => database.close())
  ledgerContract('better-sqlite3', (test) => test(database))
})

/** Locks a database for writing, as another process would. */
function lock(file: string): { release(): void } {
  const other = new Database(file, { timeout: 0 })
  other.exec('BEGIN IMMEDIATE')
  return {
    release() {
      other.exec('ROLLBACK')
      other.close()
    },
  }
}

/** What another process sees of the audit: only what is committed. */
function committed(file: string): Row[] {
  const other = new Database(file, { readonly: true })
  try {
    return other.prepare('SELECT * FROM audit ORDER BY id').all() as Row[]
  } finally {
    other.close()
  }
}

describe('a database file that is locked for writing', () => {
  test('is waited for, and the event loop goes on meanwhile', async () => {
    const file = freshFile()
    const { db, commit, close } = openDatabase(file, silent, home)
    const ledger = openLedger(db, commit)
    const held = lock(file)
    // Only a loop that is free gets to the release.
    setTimeout(() => held.release(), 200)
    const event = await ledger.append({ connection: 'main', draft: draftOf() })
    expect(committed(file).map(({ hash }) => hash)).toEqual([event.hash])
    close()
  })

  test('refuses the write in the end, and nothing of it is left', async () => {
    const file = freshFile()
    const { db, commit, close } = openDatabase(file, silent, home)
    const ledger = openLedger(db, commit)
    await ledger.append({ connection: 'main', draft: draftOf() })
    const held = lock(file)
    const late = Array.from({ length: 3 }, () => ledger.append({ connection: 'main', draft: draftOf() }))
    const results = await Promise.allSettled(late)
    expect(results.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected'])
    expect(ledger.events({ limit: 10 }).rows).toHaveLength(1)
    held.release()
    const next = await ledger.append({ connection: 'main', draft: draftOf() })
    expect(next.seq).toBe(2)
    close()
  })
})

describe('the gateway', () => {
  let gateway: TestGateway
  let provider: Awaited<ReturnType<typeof fakeDiscue>>
  beforeAll(async () => {
    provider = await fakeDiscue()
    const { connections, ...rest } = configuration(inject('sandbox')) as Json
    const discue = { ...connections.discue, baseUrl: provider.url }
    gateway = await startTestGateway({ ...rest, connections: { ...connections, discue } })
  })
  afterAll(async () => {
    await gateway?.close()
    provider?.close()
  })

  /** A Discue that tells when a change arrives, before it answers. */
  async function fakeDiscue() {
    const arrived: string[] = []
    const hooks: { onPut?: () => void } = {}
    const server = createServer(async (incoming, outgoing) => {
      const body = JSON.parse(Buffer.concat(await incoming.toArray()).toString())
      arrived.push(body.id)
      hooks.onPut?.()
      outgoing.setHeader('content-type', 'application/json').end(JSON.stringify({ api_client: body }))
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return {
      url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      /** Ids of the clients that were changed. */
      arrived,
      hooks,
      close() {
        server.close()
        server.closeAllConnections()
      },
    }
  }

  async function call(method: string, path: string, body?: object) {
    const response = await fetch(gateway.url + path, {
      method,
      headers: { 'x-api-key': keys.admin, 'content-type': 'application/json' },
      ...(body && { body: JSON.stringify(body) }),
    })
    return { status: response.status, body: (await response.json()) as Json }
  }
  const freshId = (): string => randomBytes(10).toString('hex')
  const put = (id: string, name = `example.com/${id}`) => call('PUT', `/credentials/discue:${id}`, { name })
  const events = (id: string) =>
    committed(gateway.database)
      .filter(({ resource }) => resource === `discue:${id}`)
      .map(({ type, outcome }) => [type, outcome])
  const storyOf = async (id: string) =>
    (await call('GET', `/audit?resource=discue:${id}`)).body.data
      .toReversed()
      .map(({ type, outcome }: Json) => [type, outcome])

  const reads = ['/health/live', '/audit?limit=1', '/providers', '/connections', '/openapi.json']

  test('commits the intent before the provider is called, and the outcome before the reply', async () => {
    const id = freshId()
    let seen: unknown
    provider.hooks.onPut = () => (seen = events(id))
    const reply = await put(id)
    const afterwards = events(id)
    expect(reply.status).toBe(200)
    expect(seen).toEqual([['intent', null]])
    expect(afterwards).toEqual([
      ['intent', null],
      ['outcome', 'applied'],
    ])
  })

  test('gives no reply as long as the outcome cannot be stored', async () => {
    const id = freshId()
    let held = { release() {} }
    const { promise: isLocked, resolve } = Promise.withResolvers<void>()
    provider.hooks.onPut = () => {
      held = lock(gateway.database)
      resolve()
    }
    let replied = false
    const reply = put(id).finally(() => (replied = true))
    await isLocked
    await pause(150)
    expect([replied, events(id)]).toEqual([false, [['intent', null]]])
    held.release()
    expect((await reply).status).toBe(200)
    expect(events(id)).toHaveLength(2)
  })

  test('calls no provider when the intent cannot be stored, and goes on reading', async () => {
    delete provider.hooks.onPut
    const id = freshId()
    const held = lock(gateway.database)
    const refused = await put(id)
    expect([refused.status, refused.body.type, refused.body.retryable]).toEqual([
      503,
      '/problems/audit-unavailable',
      true,
    ])
    expect(refused.body).not.toHaveProperty('outcome')
    for (const path of [...reads, `/credentials/discue:${id}`])
      expect((await call('GET', path)).status, path).toBe(200)
    held.release()
    expect(provider.arrived).not.toContain(id)
    expect(events(id)).toEqual([])
    await expect.poll(async () => (await put(id)).status).toBe(200)
  })

  test('of a provider that can be read only reads then', async () => {
    const control = controlOf(inject('sandbox').commerceLayer)
    const id = randomBytes(5).toString('hex')
    await control.mint('roles', id, { attributes: { name: 'Before' } })
    const held = lock(gateway.database)
    const refused = await call('PUT', `/roles/commerce-layer:${id}`, { name: 'After' })
    expect([refused.status, refused.body.type]).toEqual([503, '/problems/audit-unavailable'])
    expect((await call('GET', `/roles/commerce-layer:${id}`)).body.name).toBe('Before')
    held.release()
    const methods = (await control.requests())
      .filter(({ path }) => path.includes(id))
      .map(({ method }) => method)
    expect(new Set(methods)).toEqual(new Set(['GET']))
    expect((await control.state('roles', id)).attributes.name).toBe('Before')
  })

  test('says so when a change was made and its outcome cannot be stored', async () => {
    const id = freshId()
    let held = { release() {} }
    provider.hooks.onPut = () => (held = lock(gateway.database))
    const reply = await put(id)
    expect([reply.status, reply.body.type, reply.body.outcome]).toEqual([
      500,
      '/problems/outcome-not-recorded',
      'applied',
    ])
    expect(reply.body.instance).toBe(`/changes/${reply.body.changeId}`)
    expect(provider.arrived.filter((one) => one === id)).toHaveLength(1)

    // Writes are off, reads are not.
    delete provider.hooks.onPut
    const other = freshId()
    const refused = await put(other)
    expect([refused.status, refused.body.type]).toEqual([503, '/problems/audit-unavailable'])
    expect(provider.arrived).not.toContain(other)
    for (const path of reads) expect((await call('GET', path)).status, path).toBe(200)
    expect(await storyOf(id)).toEqual([['intent', null]])
    held.release()

    await expect.poll(async () => (await put(other)).status).toBe(200)
    expect(await storyOf(id)).toEqual([
      ['intent', null],
      ['outcome', 'applied'],
    ])
  })
})

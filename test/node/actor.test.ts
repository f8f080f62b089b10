import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, inject, test, vi } from 'vitest'
import { registry } from '../../adapters/index.ts'
import { createActor } from '../../src/change/actor.ts'
import { readConfig } from '../../src/config/read.ts'
import { openLedger } from '../../src/ledger/ledger.ts'
import { type Ledger } from '../../src/ledger/types.ts'
import { deriveAuditKeys } from '../../src/lib/keyed-digests.ts'
import { openLog } from '../../src/lib/log.ts'
import { type NodeDatabase, openDatabase } from '../../src/node/database.ts'
import { Budget } from '../../src/upstream/budget.ts'
import { openBudgets } from '../../src/upstream/budgets.ts'
import type { Answer, Send } from '../../src/upstream/send.ts'
import { configuration, environment } from '../harness/configuration.ts'
import { auditKey } from '../harness/gateway.node.ts'
import { home } from '../harness/home.ts'
import { silent } from '../harness/silent-log.ts'
import { draftOf } from '../ledger/subject.ts'

const folder = mkdtempSync(join(tmpdir(), 'actor-'))
let database: NodeDatabase
let ledger: Ledger
beforeAll(() => {
  database = openDatabase(join(folder, 'gateway.db'), silent, home)
  ledger = openLedger(database.db, database.commit)
})
afterEach(() => void vi.useRealTimers())
afterAll(() => {
  database.close()
  rmSync(folder, { recursive: true })
})

const config = readConfig(JSON.stringify(configuration(inject('sandbox'))), environment, registry)
if (!config.ok) throw new Error(JSON.stringify(config.faults))
const known = config.value.connections.get('commerce-layer')
if (!known) throw new Error('no connection')

let made = 0
/** An actor of a connection like Commerce Layer’s with a limit of five writes a minute. */
function newActor(name: string, send: Send, budgets = openBudgets()) {
  const connection = {
    ...(known as NonNullable<typeof known>),
    name,
    limits: { per: 'credential' as const, writes: [{ requests: 5, seconds: 60 }], reads: [], tokens: [] },
  }
  return createActor(connection, {
    registry,
    ledger,
    emergency: undefined,
    isFull: () => false,
    keys: deriveAuditKeys(auditKey),
    send,
    budgets,
    requestsAtOnce: 4,
    log: openLog('error', () => {}),
  })
}

/** A role’s change that was cut off after its intent. */
async function cutOff(connection: string) {
  const resource = `${connection}:role${(made += 1)}`
  const fields = { name: { action: 'set' as const, to: 'After' } }
  const intent = await ledger.append({ connection, draft: draftOf({ kind: 'role', resource, fields }) })
  return { changeId: intent.changeId, kind: intent.kind, resource }
}

const stateOf = ({ changeId }: { changeId: string | null }) => ledger.change(changeId ?? '')?.state

test('knows of the writes that may have left, at the time of their end, and of what was cut off', async () => {
  vi.useFakeTimers({ toFake: ['Date'] })
  function restored(): number[] {
    const budget = new Budget([])
    const restore = vi.spyOn(budget, 'restore')
    newActor('restored', vi.fn<Send>(), () => () => budget)
    return restore.mock.calls.flatMap(([ages]) => [...ages])
  }
  const pass = (ms: number) => vi.setSystemTime(Date.now() + ms)
  const connection = 'restored'
  const sent = await cutOff(connection)
  const refused = await cutOff(connection)
  await cutOff(connection)
  // Refused by a gate of the gateway’s own; the other waited long for its turn.
  await ledger.append({ connection, draft: draftOf({ ...refused, type: 'outcome', outcome: 'not_sent' }) })
  expect(restored()).toEqual([0, 0])
  pass(15_000)
  await ledger.append({ connection, draft: draftOf({ ...sent, type: 'outcome', outcome: 'applied' }) })
  pass(20_000)
  // What was cut off may have gone on until its deadline of 25 seconds.
  expect(restored()).toEqual([20_000, 10_000])
  pass(45_000)
  expect(restored()).toEqual([55_000])
  pass(10_000)
  expect(restored()).toEqual([])
})

const answer = (status: number, body: unknown, headers = {}): Answer => ({
  received: true,
  response: { status, headers, body },
})

/** A provider that signs everybody in, and otherwise answers what it is told to. */
function provider(reply: Answer) {
  const state = { reply, reads: 0 }
  const send: Send = async ({ method }) => {
    if (method !== 'GET') return answer(200, { access_token: 'token', expires_in: 7200 })
    state.reads += 1
    return state.reply
  }
  return { state, send }
}

test('leaves open what the provider or the gateway itself had no room to look at', async () => {
  const change = await cutOff('recovered')
  const { state, send } = provider(answer(429, null, { 'retry-after': '30' }))
  const actor = newActor('recovered', send)
  await actor.recover()
  // Held back by the gateway now, on the provider’s word.
  await actor.recover()
  expect([stateOf(change), state.reads]).toEqual(['in_flight', 1])
  const id = change.resource.split(':')[1]
  state.reply = answer(200, { data: { id, type: 'roles', attributes: { name: 'After' } } })
  await newActor('recovered', send).recover()
  expect(stateOf(change)).toBe('applied')
})

test('gives to a person what the provider has answered and does not prove', async () => {
  const change = await cutOff('unproven')
  await newActor('unproven', provider(answer(404, { errors: [] })).send).recover()
  expect(stateOf(change)).toBe('needs_attention')
})

test('gives to a person what a provider that is down cannot prove, asked or held back', async () => {
  const changes = [await cutOff('down')]
  while (changes.length < 8) changes.push(await cutOff('down'))
  await newActor('down', provider({ received: false, sent: true, detail: 'silence' }).send).recover()
  expect(changes.map(stateOf)).toEqual(changes.map(() => 'needs_attention'))
})

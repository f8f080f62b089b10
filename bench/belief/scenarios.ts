import { setTimeout as pause } from 'node:timers/promises'
import type { Sandbox } from '../../sandbox/server.ts'
import { SILENCE } from '../../test/harness/fault-kinds.ts'
import { type Operation, operationsOf, providersOf, type Target } from '../../test/harness/operations.ts'
import type { Json } from '../../test/harness/sandbox-calls.ts'
import { pool } from '../../test/harness/waiting.ts'
import type { Contender, Recalled, Said } from './contenders.ts'
import { type Kind, kindsFor, QUESTIONS } from './faults.ts'
import { type Intent, intentOf, type Members, membersOf, wiring } from './wire.ts'

/**
 * `plain`: one change. `newer`: another one follows, and then whoever was told no success repeats the first. `refused` and
 * `no-op`: what follows is refused, or changes nothing.
 */
export type Scenario = 'plain' | 'newer' | 'refused' | 'no-op'

/** What was said, and when. Milliseconds since the epoch, as the sandbox's ledger has it. */
export interface Timed extends Said {
  asked: number
  told: number
}

/** A change under a fault, and what followed. The truth about it is the sandbox's. */
export interface Case {
  contender: string
  scenario: Scenario
  kind: Kind
  always: boolean
  intent: Intent
  said: Timed
  /** The change that came after it. */
  next?: { intent: Intent; said: Timed }
  /** What the contender says of it when everything is over. */
  recalled?: Recalled
  /** Every write to the resource that the provider took, in its order. */
  ledger: Json[]
  before: Members
  after: Members
}

export interface Effort {
  /** How many of its cases a contender goes through: 0.5 is every second one, drawn by lot; 2 is each of them twice. */
  rounds(contender: Contender, scenario: Scenario): number
  width: number
  /** For how long what is unknown may be settled after the last change. Milliseconds. */
  patienceMs: number
}

interface Task {
  /** Such tasks come last: they hold back those beside them. */
  isBurden: boolean
  run(): Promise<void>
}

/** Goes through everything in any order, so that no provider is taken to be down, and waits until all has landed. */
export async function campaign(
  sandbox: Sandbox,
  contenders: readonly Contender[],
  { rounds, width, patienceMs }: Effort,
  tell: (progress: string) => void = () => {},
): Promise<Case[]> {
  const providers = providersOf(sandbox.urls)
  const wireOf = await wiring(sandbox)
  const cases: Case[] = []
  let last = 0
  /** Even, so that a flag that was off is always asked to be on. */
  const next = () => (last += 2)
  const want = (operation: Operation, target: Target, body: object) =>
    intentOf(operation, target, wireOf(operation, target), body)

  async function one(
    contender: Contender,
    operation: Operation,
    kind: Kind,
    always: boolean,
    scenario: Scenario,
  ): Promise<void> {
    const target = await operation.mint()
    const intent = want(operation, target, (kind.body ?? operation.body)(next()))
    const { control } = operation
    const { wire } = intent
    const state = async () => membersOf(await control.state(wire.type, wire.id))
    const before = await state()

    const made: { id: number }[] = []
    for (const { at, fault, times = 1 } of kind.orders(intent, before)) {
      const match = { method: at === 'read' ? 'GET' : operation.method, path: target.upstream }
      made.push(await control.fault(fault, { match, times: always ? null : times }))
    }
    const said = await timed(contender, intent)
    for (const { id } of made) await control.send('DELETE', `/faults/${id}`).catch(() => {})

    const found: Case = {
      contender: contender.name,
      scenario,
      kind,
      always,
      intent,
      said,
      ledger: [],
      before,
      after: before,
    }
    cases.push(found)
    if (scenario === 'plain' || (scenario !== 'newer' && said.belief !== 'unknown')) return

    const refusal =
      scenario === 'refused' &&
      (await control.fault(
        { status: 422 },
        { match: { method: operation.method, path: target.upstream }, times: null },
      ))
    const body = scenario === 'no-op' ? unchanged(await state()) : operation.body(next())
    const newer = want(operation, target, body)
    found.next = { intent: newer, said: await timed(contender, newer) }
    if (refusal) await control.send('DELETE', `/faults/${refusal.id}`)
    // Whoever knows that it succeeded has no reason to ask again. What it says now is of no account: the state is.
    if (scenario === 'newer' && said.belief !== 'success') await contender.change(intent)
  }

  const tasks = contenders.flatMap((contender) =>
    operationsOf(providers)
      .filter(({ name }) => contender.takes(name))
      .flatMap((operation) =>
        kindsFor(operation).flatMap((kind) =>
          [false, true].flatMap((always) =>
            scenariosOf(contender, operation, kind, always).flatMap((scenario) =>
              drawn<Task>(rounds(contender, scenario), {
                isBurden: kind.isBurden ?? false,
                run: () => one(contender, operation, kind, always, scenario),
              }),
            ),
          ),
        ),
      ),
  )
  let done = 0
  for (const isBurden of [false, true]) {
    const group = tasks.filter((task) => task.isBurden === isBurden)
    await pool(
      width,
      inAnyOrder(group).map(({ run }) => async () => {
        await run()
        done += 1
        if (done % 2000 === 0) tell(`${done} of ${tasks.length}`)
      }),
    )
  }
  tell(`${tasks.length} changes are made; waiting for what is under way and unknown`)
  await pause(SILENCE)
  await settle(contenders, cases, patienceMs)
  await lookUp(cases)
  return cases
}

async function timed(contender: Contender, intent: Intent): Promise<Timed> {
  const asked = Date.now()
  const said = await contender.change(intent)
  return { ...said, asked, told: Date.now() }
}

/** What the provider holds already, of the one field that gateway and providers call the same. */
const unchanged = ({ reference, description }: Members): object =>
  reference === undefined ? { description } : { reference }

function scenariosOf(contender: Contender, { name }: Operation, kind: Kind, always: boolean): Scenario[] {
  const asks = always && QUESTIONS.has(kind.name)
  // Where nothing can be read, no client knows what would change nothing.
  const isNoOp = asks && contender.compares && name !== 'discue client'
  return ['plain', 'newer', ...(asks ? (['refused'] as const) : []), ...(isNoOp ? (['no-op'] as const) : [])]
}

/** As often as `rounds` says, its fraction by lot. */
const drawn = <T>(rounds: number, task: T): T[] =>
  Array.from({ length: Math.floor(rounds + Math.random()) }, () => task)

const inAnyOrder = <T>(tasks: readonly T[]): T[] =>
  tasks
    .map((task) => ({ task, place: Math.random() }))
    .toSorted((a, b) => a.place - b.place)
    .map(({ task }) => task)

/** Asks what became of the unanswered ones, again and again until it is known or the time is over. */
async function settle(contenders: readonly Contender[], cases: Case[], patienceMs: number): Promise<void> {
  const end = performance.now() + patienceMs
  const open = () =>
    cases.filter(
      ({ said, recalled }) => said.belief === 'unknown' && (recalled === undefined || recalled === 'open'),
    )
  for (let asked = false; open().length > 0 && !(asked && performance.now() >= end); asked = true) {
    if (asked) await pause(2000)
    await pool(
      4,
      open().map((one) => async () => {
        const contender = contenders.find(({ name }) => name === one.contender)
        one.recalled = (await contender?.recall?.(one.intent, one.said)) ?? 'lost'
      }),
    )
  }
}

/** The sandbox's record of every case. */
async function lookUp(cases: Case[]): Promise<void> {
  const controls = new Map(cases.map(({ intent }) => [intent.wire.provider, intent.operation.control]))
  const entries = new Map<string, Json[]>()
  for (const [provider, control] of controls) {
    const { entries: all, dropped } = await control.send('GET', '/ledger')
    if (dropped > 0) throw new Error('a ledger is incomplete')
    for (const [id, own] of Map.groupBy(all as Json[], (entry) => `${provider} ${entry.id}`))
      entries.set(id, own)
  }
  await pool(
    8,
    cases.map((one) => async () => {
      const { wire, operation } = one.intent
      one.ledger = entries.get(`${wire.provider} ${wire.id}`) ?? []
      one.after = membersOf(await operation.control.state(wire.type, wire.id))
    }),
  )
}

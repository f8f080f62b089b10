import { useGateway } from '#gateway'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { sha256 } from '../harness/configuration.ts'
import {
  type Answer,
  call,
  eventsOf,
  freshId,
  get,
  mintApinizer,
  mintCommerceLayer,
  providers,
  put,
} from '../harness/gateway-calls.ts'
import type { Json } from '../harness/sandbox-calls.ts'

// Any changes of one resource, in any order and with any end, resumed under their keys and settled by hand.

useGateway()

const fates = ['applied', 'refused', 'not sent', 'lost before', 'lost after', 'half', 'the same'] as const
type Fate = (typeof fates)[number]
type Step =
  | { what: 'change'; fields: ('new' | 'as it is' | 'absent')[]; fate: Fate }
  | { what: 'resume'; which: number; fate: Fate }
  | { what: 'resolve'; which: number }

const fate = fc.constantFrom(...fates)
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      what: fc.constant('change' as const),
      fields: fc.array(
        fc.constantFrom('new' as const, 'new' as const, 'as it is' as const, 'absent' as const),
        {
          minLength: 3,
          maxLength: 3,
        },
      ),
      fate,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ what: fc.constant('resume' as const), which: fc.nat({ max: 9 }), fate }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ what: fc.constant('resolve' as const), which: fc.nat({ max: 9 }) }),
  },
)

/** A resource with three fields, and how its provider can be made to fail. */
interface Subject {
  path: string
  id: string
  fields: readonly string[]
  /** What is in force, by the provider's own word. A secret is told as its digest. */
  inForce(): Promise<Record<string, string | null>>
  /** A value that no other number gives. */
  value(field: string, n: number): string
  /** What the next write of these fields meets. */
  arm(fate: Fate, fields: string[]): Promise<() => Promise<void>>
  /** What the provider last stored under the change of that number; undefined where it never did. */
  storedBy(n: number): Promise<Record<string, string> | undefined>
}

const armWith = async (
  control: ReturnType<typeof providers>['discue'],
  faults: [method: string, fault: object, times: number][],
  path: string,
) => {
  const made: Json[] = []
  for (const [method, fault, times] of faults)
    made.push(await control.fault(fault, { match: { method, path }, times }))
  return async () => {
    for (const { id } of made) await control.send('DELETE', `/faults/${id}`).catch(() => {})
  }
}

async function role(): Promise<Subject> {
  const wires: Record<string, string> = {
    name: 'name',
    reference: 'reference',
    referenceOrigin: 'reference_origin',
  }
  const fields = Object.keys(wires)
  const control = providers().commerceLayer
  const key = await mintCommerceLayer('roles', { name: 'v0', reference: 'v0', reference_origin: 'v0' })
  const inWords = ({ attributes }: Json) =>
    Object.fromEntries(fields.map((field) => [field, attributes[wires[field] ?? '']]))
  return {
    path: `/roles/commerce-layer:${key}`,
    id: `commerce-layer:${key}`,
    fields,
    value: (_, n) => `v${n}`,
    inForce: async () => inWords(await control.state('roles', key)),
    arm(fate, named) {
      // The read before the write passes, the one that would settle it does not.
      const blind: [string, object, number][] = [
        ['GET', {}, 1],
        ['GET', { status: 403 }, 1],
      ]
      const faults: Record<Fate, [string, object, number][]> = {
        applied: [],
        'the same': [],
        refused: [['PATCH', { status: 422 }, 1]],
        'not sent': [['PATCH', { status: 523 }, 3]],
        'lost before': [['PATCH', { reset: 'before' }, 1], ...blind],
        'lost after': [['PATCH', { reset: 'after' }, 1], ...blind],
        half: [['PATCH', { keep: [wires[named[0] ?? ''] ?? 'name'] }, 1]],
      }
      return armWith(control, faults[fate], key)
    },
    async storedBy(n) {
      const entries = (await control.ledger()).filter(({ id }) => id === key)
      const stored = entries.findLast(({ body }) =>
        Object.values(body.data?.attributes ?? {}).includes(`v${n}`),
      )
      return stored && inWords(stored.after)
    },
  }
}

async function user(): Promise<Subject> {
  const { id, project, state } = await mintApinizer({
    password: 'v0-password',
    fullName: 'v0',
    description: 'v0',
  })
  const control = providers().apinizer
  const fields = ['secret', 'name', 'description']
  const secretOf = (n: number) => `v${n}-password`
  const inWords = ({ passwordSha256, fullName, description }: Json) => ({
    secret: passwordSha256,
    name: fullName,
    description,
  })
  return {
    path: `/credentials/${id}`,
    id,
    fields,
    value: (field, n) => (field === 'secret' ? secretOf(n) : `v${n}`),
    inForce: async () => inWords(await state()),
    arm(fate, named) {
      const method = named.length > 1 ? 'PUT' : 'PATCH'
      const kept = named.includes('name') ? 'fullName' : 'description'
      const faults: Record<Fate, [string, object, number][]> = {
        applied: [],
        'the same': [],
        refused: [[method, { status: 422 }, 1]],
        'not sent': [[method, { status: 523 }, 3]],
        'lost before': [[method, { reset: 'before' }, 2]],
        'lost after': [[method, { reset: 'after' }, 2]],
        half: [[method, { keep: [kept] }, 1]],
      }
      return armWith(control, faults[fate], project)
    },
    async storedBy(n) {
      const entries = (await control.ledger()).filter(({ id: at }) => at.startsWith(`${project}/`))
      const stored = entries.findLast(({ body }) => body.passwordSha256 === sha256(secretOf(n)))
      return stored && inWords(stored.after)
    },
  }
}

interface Made {
  n: number
  changeId: string
  body: Record<string, string>
  /** Fields of the body that were to change. */
  altered: string[]
  key: string
}

const OPEN = ['in_flight', 'unknown', 'partial', 'needs_attention']

/** Takes the steps one after the other, and looks after each. */
async function faultsOf(make: () => Promise<Subject>, steps: Step[]): Promise<string[]> {
  const subject = await make()
  const { path, id, fields } = subject
  const shown = (field: string, value: string): string => (field === 'secret' ? sha256(value) : value)
  const made: Made[] = []
  const faults: string[] = []
  const log: string[] = []
  const initial = await subject.inForce()
  /** By field, the number of the change that it is in force by. */
  const writer: Record<string, number> = Object.fromEntries(fields.map((field) => [field, 0]))
  const numberOf = (field: string, value: string | null): number =>
    made.findLast(({ body, altered }) => altered.includes(field) && shown(field, body[field] ?? '') === value)
      ?.n ?? 0

  async function send(
    body: Record<string, string>,
    key: string,
    fate: Fate,
    altered: string[],
  ): Promise<Answer> {
    const disarm = await subject.arm(fate, altered)
    const reply = await put(path, body, { headers: { 'idempotency-key': key } })
    await disarm()
    return reply
  }

  let n = 0
  for (const step of steps) {
    const before = await subject.inForce()
    let resumed: Made | undefined
    if (step.what === 'change') {
      n += 1
      const wanted = (field: string, index: number) =>
        field === 'secret' ? 'new' : step.fate === 'the same' ? 'as it is' : step.fields[index]
      const picked = fields.flatMap((field, index) => {
        const how = wanted(field, index)
        if (how === 'absent') return []
        return [[field, how === 'new' ? subject.value(field, n) : (before[field] ?? '')] as const]
      })
      if (picked.length === 0) continue
      const body = Object.fromEntries(picked)
      const named = Object.keys(body).filter((field) => body[field] === subject.value(field, n))
      const fate = step.fate === 'half' && named.length < 2 ? 'applied' : step.fate
      const sameAsNow = named.length === 0
      const key = freshId()
      const reply = await send(body, key, fate, named)
      log.push(`${n} ${JSON.stringify(body)} ${fate}: ${reply.status} ${reply.body.outcome}`)
      if (reply.body.changeId && !sameAsNow)
        made.push({ n, changeId: reply.body.changeId, body, altered: named, key })
    } else {
      const one = made[step.which % Math.max(1, made.length)]
      if (!one) continue
      const { state } = (await get(`/changes/${one.changeId}`)).body
      if (step.what === 'resume') {
        // Its key is free: the same request would be a new change.
        if (state === 'not_sent') continue
        resumed = one
        const fate = step.fate === 'half' ? 'applied' : step.fate
        const reply = await send(one.body, one.key, fate, one.altered)
        log.push(`resume ${one.n} ${step.fate}: ${reply.status} ${reply.body.outcome ?? reply.body.type}`)
      } else {
        if (!['unknown', 'needs_attention', 'in_flight'].includes(state)) continue
        const stored = await subject.storedBy(one.n)
        const isWhole = Object.entries(one.body).every(
          ([field, value]) => stored?.[field] === shown(field, value),
        )
        // A person finds out what has happened; of what is partial neither word is true.
        if (stored && !isWhole) continue
        const outcome = stored ? 'applied' : 'rejected'
        const reply = await call('POST', `/changes/${one.changeId}/resolve`, { outcome, reason: 'looked' })
        log.push(`resolve ${one.n} ${outcome}: ${reply.status}`)
      }
    }

    const after = await subject.inForce()
    for (const field of fields) {
      const [was, is] = [writer[field] ?? 0, numberOf(field, after[field] ?? null)]
      if (resumed && after[field] !== before[field] && is < was)
        faults.push(`resuming ${resumed.n} brought ${field} of ${is} back over that of ${was}`)
      writer[field] = is
    }
    // First what is open: a change that is settled meanwhile is in one of the two.
    const [connection] = id.split(':')
    const { body } = await get(`/changes?connection=${connection}&resource=${id}`)
    const open = new Set(
      body.data.flatMap((change: Json) => (OPEN.includes(change.state) ? [change.id] : [])),
    )
    const stored = new Map<string, Record<string, string> | undefined>()
    for (const { changeId, n: number } of made) stored.set(changeId, await subject.storedBy(number))
    const record = recordOf(await eventsOf(id), fields, stored)
    for (const field of fields) {
      const known = record.values[field] ?? initial[field]
      const isTold = [...record.intents].some(
        ([changeId, { names }]) => open.has(changeId) && names.includes(field),
      )
      if (known !== after[field] && !isTold)
        faults.push(`${field} is ${after[field]} and by the record ${known}, and no open change says so`)
    }
    if (faults.length > 0) return [...log, ...faults]
  }
  return []
}

/** What the audit calls in force: of each field what the newest change, by its intent, is known to have set. */
function recordOf(
  events: Json[],
  fields: readonly string[],
  /** What stands in no event: secrets, and what was carried over. */
  stored: ReadonlyMap<string, Record<string, string> | undefined>,
) {
  const intents = new Map<string, { seq: number; names: string[]; fields: Json }>()
  const values: Record<string, string | null | undefined> = {}
  const setBy: Record<string, number> = {}
  for (const { type, changeId, seq, outcome, upstream, unchanged, fields: told } of events) {
    if (type === 'intent') {
      const names = [...Object.keys(told), ...(unchanged?.carried ?? [])]
      intents.set(changeId, { seq, names, fields: told })
      continue
    }
    const intent = intents.get(changeId)
    if (!intent || !['applied', 'partial'].includes(outcome)) continue
    const notTaken: string[] | undefined = upstream?.notTaken
    for (const field of fields) {
      if (!intent.names.includes(field) || (setBy[field] ?? 0) > intent.seq) continue
      // Of a deployment or a secret that is partial nothing is known.
      if (outcome === 'partial' && (!notTaken || field === 'secret')) continue
      values[field] = notTaken?.includes(field)
        ? told[field].told
        : (intent.fields[field]?.to ?? stored.get(changeId)?.[field])
      setBy[field] = intent.seq
    }
  }
  return { values, intents }
}

test.each([
  ['a provider that can be read', role],
  ['a provider whose secrets cannot', user],
])(
  'what is in force at %s is what the record says, or an open change’s doing',
  async (_, make) => {
    const seed = Date.now() % 2 ** 31
    const histories = fc.sample(fc.array(step, { minLength: 8, maxLength: 12 }), { numRuns: 8, seed })
    const wrong: string[][] = []
    for (let from = 0; from < histories.length; from += 8) {
      const faults = await Promise.all(histories.slice(from, from + 8).map((steps) => faultsOf(make, steps)))
      wrong.push(...faults.filter((found) => found.length > 0))
    }
    expect(wrong, `seed ${seed}`).toEqual([])
  },
  180_000,
)

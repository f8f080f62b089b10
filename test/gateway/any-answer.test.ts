import { useGateway } from '#gateway'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { eventsOf, mintCommerceLayer, providers, put } from '../harness/gateway-calls.ts'
import type { Json } from '../harness/sandbox-calls.ts'

// Whatever a provider answers to a write and to the reads after it, and whatever it really does.

useGateway()

const wires = { name: 'name', reference: 'reference', referenceOrigin: 'reference_origin' } as const
type Field = keyof typeof wires
const fields = Object.keys(wires) as Field[]

const value = { asked: 'asked', old: 'old', other: 'other' }
type Value = keyof typeof value

interface Fate {
  asked: boolean
  /** What is in force afterwards. */
  truth: Value
  /** What the answer to the write tells. */
  told: Value | 'truth' | 'absent'
}
interface Case {
  fates: Record<Field, Fate>
  /** Reads after the write. One of them may be stale: it comes out of a cache, or from a replica that is behind. */
  first: 'fresh' | 'stale' | 'failing'
  second: 'fresh' | 'stale' | 'failing'
  /** An attempt before this one gave no answer, and was not applied. */
  unanswered: boolean
}

const fate: fc.Arbitrary<Fate> = fc.record({
  asked: fc.boolean(),
  truth: fc.constantFrom('asked', 'asked', 'old', 'other'),
  told: fc.constantFrom('truth', 'truth', 'asked', 'old', 'other', 'absent'),
})
const anyCase: fc.Arbitrary<Case> = fc
  .record({
    fates: fc.record({ name: fate, reference: fate, referenceOrigin: fate }),
    first: fc.constantFrom('fresh', 'fresh', 'stale', 'failing'),
    second: fc.constantFrom('fresh', 'fresh', 'stale', 'failing'),
    // Seldom: many in a row would have the provider left alone.
    unanswered: fc.nat({ max: 7 }).map((n) => n === 0),
  })
  .filter(({ fates, first, second }) => {
    // Who is told nothing but old values, over and over, cannot know better.
    const isBlind = first !== 'fresh' && second !== 'fresh'
    return fields.some((field) => fates[field].asked) && !(isBlind && first === 'stale')
  })

const isDifferent = (told: string | undefined): boolean => told !== undefined && told !== value.asked

/** Makes the change, and says what is wrong with what became of it. */
async function faultsOf({ fates, first, second, unanswered }: Case): Promise<string[]> {
  const old = Object.fromEntries(fields.map((field) => [wires[field], value.old]))
  const key = await mintCommerceLayer('roles', old)
  const asked = fields.filter((field) => fates[field].asked)
  const toldOf = (field: Field): string | undefined => {
    const { told, truth } = fates[field]
    return told === 'absent' ? undefined : value[told === 'truth' ? truth : told]
  }
  const named = (list: Field[], make: (field: Field) => string | undefined) =>
    Object.fromEntries(list.map((field) => [wires[field], make(field)]))
  const control = providers().commerceLayer
  const fault = (method: string, what: object, times: number) =>
    control.fault(what, { match: { method, path: key }, times })
  if (unanswered) await fault('PATCH', { reset: 'before' }, 1)
  await fault(
    'PATCH',
    {
      store: named(asked, (field) => value[fates[field].truth]),
      tell: named(
        asked.filter((field) => toldOf(field) !== undefined),
        toldOf,
      ),
      omit: asked.filter((field) => toldOf(field) === undefined).map((field) => wires[field]),
    },
    1,
  )
  // Before the write, and where it had no answer once after it.
  await fault('GET', {}, unanswered ? 2 : 1)
  const reads = { fresh: {}, stale: { tell: old }, failing: { status: 403 } }
  await fault('GET', reads[first], 1)
  await fault('GET', reads[second], 1)

  const body = Object.fromEntries(asked.map((field) => [field, value.asked]))
  const reply = await put(`/roles/commerce-layer:${key}`, body)
  const state = (await control.state('roles', key)).attributes as Json
  const outcome: string = reply.body.outcome
  const inForce = asked.filter((field) => state[wires[field]] === value.asked)
  const contradicted = asked.filter((field) => isDifferent(toldOf(field)))
  const untold = asked.filter((field) => toldOf(field) === undefined)
  const faults: string[] = []
  // A role without a name is no answer, so that reading alone decides.
  const isRead = untold.includes('name')
  if (outcome === 'applied') {
    if (!isRead && contradicted.length > 0) faults.push(`the answer contradicts ${contradicted.join()}`)
    // What was read last, of what the answer leaves out.
    const readable = first === 'fresh' || (first === 'stale' && second === 'fresh')
    const missing = untold.filter((field) => readable && !inForce.includes(field))
    if (missing.length > 0) faults.push(`${missing.join()} is not there`)
    if (reply.status !== 200) faults.push(`the status is ${reply.status}`)
  }
  if (outcome === 'rejected' && inForce.length > 0) faults.push(`${inForce.join()} is in force`)
  if (outcome === 'rejected' && unanswered) faults.push('an attempt had no answer')
  if (!['applied', 'rejected', 'partial', 'unknown'].includes(outcome)) faults.push('no such outcome')
  if (outcome === 'partial' && !isRead && second !== 'failing' && first === 'fresh') {
    if (inForce.length === 0) faults.push('nothing is in force')
  }
  // All is well, and that can be seen: nothing less may be said.
  const isPlain = asked.every((field) => fates[field].truth === 'asked' && toldOf(field) === value.asked)
  if (isPlain && outcome !== 'applied') faults.push('it was applied, and told so')
  const told = (await eventsOf(`commerce-layer:${key}`)).findLast(({ type }) => type === 'outcome')
  if (told.outcome !== outcome) faults.push(`the audit says ${told.outcome}`)
  const writes = (await control.requests()).filter(
    ({ method, path }) => method === 'PATCH' && path.includes(key),
  ).length
  if (!isRead && writes !== (unanswered ? 2 : 1)) faults.push(`${writes} writes`)
  return faults.map((text) => `${outcome}, and ${text}`)
}

/** Together, because a second look takes its time. */
const AT_ONCE = 24

test('never is a contradicted field applied, nor one in force rejected', async () => {
  const seed = Date.now() % 2 ** 31
  const cases = fc.sample(anyCase, { numRuns: 4 * AT_ONCE, seed })
  const wrong: unknown[] = []
  for (let from = 0; from < cases.length; from += AT_ONCE) {
    const some = cases.slice(from, from + AT_ONCE)
    const faults = await Promise.all(some.map(faultsOf))
    wrong.push(...some.flatMap((one, n) => (faults[n]?.length ? [{ faults: faults[n], case: one }] : [])))
  }
  expect(wrong, `seed ${seed}`).toEqual([])
}, 120_000)

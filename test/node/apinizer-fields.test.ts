import { randomBytes } from 'node:crypto'
import { useGateway } from '#gateway'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { JsonObject } from '../../src/lib/json.ts'
import { type Capability, toInstant } from '../../src/model/fields.ts'
import { valuesOf } from '../adapters/values.ts'
import { sha256 } from '../harness/configuration.ts'
import { eventsOf, providers, put } from '../harness/gateway-calls.ts'
import type { Json } from '../harness/sandbox-calls.ts'

useGateway()

/** The fields that a caller can change beside the secret, and what the provider calls them. */
const fields = {
  name: { mutability: 'readWrite', upstream: 'fullName' },
  description: { mutability: 'readWrite', upstream: 'description', nullable: true },
  email: { mutability: 'readWrite', upstream: 'email' },
  enabled: { mutability: 'readWrite', upstream: 'enabled' },
  roles: { mutability: 'readWrite', upstream: 'roleNameList' },
  allowedIps: { mutability: 'readWrite', upstream: 'ipList' },
  expiresAt: { mutability: 'readWrite', upstream: 'expireDate', nullable: true },
} satisfies Record<string, Capability>
type Field = keyof typeof fields
const names = Object.keys(fields) as Field[]

const roles = fc.subarray(['API_USER', 'DEVELOPER', 'READER', 'ADMIN_USER'])
const instant = fc
  .date({ min: new Date('1970-01-01'), max: new Date('9999-12-31'), noInvalidDate: true })
  .map((date) => date.toISOString())
const text = fc.string({ unit: 'grapheme', maxLength: 40 }).filter((value) => !value.includes('\0'))
const filled = text.filter((value) => value.trim() !== '')

const metadataEntry = fc.record({
  key: filled,
  value: fc.option(text, { nil: null }),
  secret: fc.constant(false),
  includeInJwt: fc.boolean(),
  includeInTokenResponse: fc.boolean(),
  jwtClaimName: fc.constantFrom(null, 'team', 'cost_center'),
})

/** What Apinizer may hold; its own rules are looser than those for callers. */
const state = fc.record({
  email: filled,
  fullName: filled,
  description: fc.option(text, { nil: null }),
  password: filled,
  roleNameList: roles,
  enabled: fc.boolean(),
  ipList: fc.array(fc.oneof(fc.ipV4(), fc.ipV6(), fc.constant('10.0.0'), fc.constant('10.0.0.0/8'))),
  expireDate: fc.option(instant, { nil: null }),
  metadata: fc.uniqueArray(metadataEntry, { maxLength: 4, selector: ({ key }) => key }),
})

/** Any of the fields with any value that a caller may give it. */
const values = fc.record(
  Object.fromEntries(
    names.map((name) => [name, name === 'roles' ? roles : valuesOf('credential', name, fields[name])]),
  ) as Record<Field, fc.Arbitrary<Json>>,
  { requiredKeys: [] },
)

/** What the provider holds, and a change of it: some fields get other values, some are sent as they are. */
const cases = fc
  .tuple(state, values, fc.subarray<Field>(['name', 'description', 'enabled', 'roles', 'expiresAt']))
  .map(([held, sent, same]) => {
    const kept = same.map((name) => [name, held[fields[name].upstream as keyof typeof held]])
    return { held, body: { ...sent, ...Object.fromEntries(kept) } as JsonObject }
  })

const secretEntry = fc
  .tuple(metadataEntry, filled)
  .map(([entry, value]) => ({ ...entry, key: 'withheld', value, secret: true }))

/** A credential in a project of its own, as the provider itself holds it. */
async function mint(values: object) {
  const { apinizer } = providers()
  const project = `P${randomBytes(8).toString('hex')}`
  const key = `${project}/api-user`
  await apinizer.mint('credential', key, values)
  const writes = async () =>
    (await apinizer.requests())
      .filter(({ path, method }) => path.includes(project) && method !== 'GET')
      .map(({ method }) => method as string)
  const id = `apinizer:${project}:api-user`
  return {
    id,
    path: `/credentials/${id}`,
    state: (): Promise<Json> => apinizer.state('credential', key),
    writes,
  }
}

/** What the provider must hold after a change: everything as before but what was named. */
function expected(before: Json, body: JsonObject, secret: string): Json {
  const named = names.flatMap((name) => {
    const value = body[name]
    if (value === undefined) return []
    return [
      [fields[name].upstream, name === 'expiresAt' && value !== null ? toInstant(String(value)) : value],
    ]
  })
  return { ...before, ...Object.fromEntries(named), passwordSha256: sha256(secret) }
}

/** Whether two states are the same to a caller: lists of roles and addresses have no order. */
const inOrder = (held: Json): Json => ({
  ...held,
  roleNameList: held.roleNameList.toSorted(),
  ipList: held.ipList.toSorted(),
})

const bounded = { numRuns: 60, interruptAfterTimeLimit: 20_000, markInterruptAsFailure: true }

describe('whatever an Apinizer credential holds and whatever is changed of it', () => {
  test('with a secret, the named fields and the password change, and nothing else', async () => {
    await fc.assert(
      fc.asyncProperty(cases, filled, async ({ held, body }, secret) => {
        const credential = await mint(held)
        const before = await credential.state()
        const reply = await put(credential.path, { ...body, secret })
        expect(reply.body).toMatchObject({ outcome: 'applied', changed: true })
        expect(inOrder(await credential.state())).toEqual(inOrder(expected(before, body, secret)))

        const [write, ...more] = await credential.writes()
        expect(more).toEqual([])
        const others = Object.keys(reply.body.fields).filter((name) => name !== 'secret')
        expect(write).toBe(others.length === 0 ? 'PATCH' : 'PUT')
        for (const name of others) expect(body).toHaveProperty(name)
      }),
      bounded,
    )
  })

  test('without a secret, nothing changes, and nothing is written', async () => {
    await fc.assert(
      fc.asyncProperty(cases, async ({ held, body }) => {
        const credential = await mint(held)
        const before = await credential.state()
        const reply = await put(credential.path, body)
        expect(await credential.state()).toEqual(before)
        expect(await credential.writes()).toEqual([])
        if (reply.status === 200) {
          // Everything that was sent is so already.
          expect(reply.body).toMatchObject({ outcome: 'applied', changed: false, fields: {} })
          expect(inOrder(expected(before, body, held.password))).toEqual(inOrder(before))
        } else {
          const slug = Object.keys(body).length === 0 ? 'validation-failed' : 'secret-required-by-provider'
          expect([reply.status, reply.body.type]).toEqual([422, `/problems/${slug}`])
          expect(await eventsOf(credential.id)).toEqual([])
        }
      }),
      bounded,
    )
  })

  test('where an entry of metadata is withheld, only the password can be changed', async () => {
    await fc.assert(
      fc.asyncProperty(cases, secretEntry, filled, async ({ held, body }, entry, secret) => {
        const credential = await mint({ ...held, metadata: [...held.metadata, entry] })
        const before = await credential.state()
        const reply = await put(credential.path, { ...body, secret })
        if (reply.status === 200) {
          expect(await credential.writes()).toEqual(['PATCH'])
          expect(Object.keys(reply.body.fields)).toEqual(['secret'])
          expect(await credential.state()).toEqual({ ...before, passwordSha256: sha256(secret) })
        } else {
          expect([reply.status, reply.body.type]).toEqual([422, '/problems/secret-required-by-provider'])
          expect(await credential.writes()).toEqual([])
          expect(await credential.state()).toEqual(before)
        }
      }),
      { ...bounded, numRuns: 30 },
    )
  })
})

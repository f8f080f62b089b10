import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Caller, isVisible, touchesConnection } from '../../src/access/rules.ts'

const callerOf = (glob: string): Caller => ({
  name: 'any',
  keyId: 'any',
  allow: [{ actions: ['read'], kinds: ['credential'], ids: [glob], fields: ['*'] }],
  limit: undefined,
})
const matches = (glob: string, id: string) => isVisible(callerOf(glob), 'credential', id)

/** By trying every length of every run. */
function expected([piece, ...rest]: string[], id: string): boolean {
  if (piece === undefined) return id === ''
  if (piece !== '*') {
    const literal = piece.at(-1) as string
    return id.startsWith(literal) && expected(rest, id.slice(1))
  }
  return Array.from({ length: id.length + 1 }, (_, at) => id.slice(at)).some((left) => expected(rest, left))
}

const pieces = fc.array(fc.constantFrom('a', 'b', ':', '*', '\\*'), { minLength: 1, maxLength: 8 })
const ids = fc.array(fc.constantFrom('a', 'b', ':', '*'), { maxLength: 8 }).map((parts) => parts.join(''))

test('a star is any run, an escaped one is a star, and all else stands for itself', () => {
  fc.assert(
    fc.property(pieces, ids, (glob, id) => {
      expect(matches(glob.join(''), id)).toBe(expected(glob, id))
    }),
    { numRuns: 5000 },
  )
})

test('a rule touches a connection if it matches an id there', () => {
  fc.assert(
    fc.property(pieces, ids, (glob, rest) => {
      const touches = touchesConnection(callerOf(glob.join('')), 'a')
      if (matches(glob.join(''), `a:${rest}`)) expect(touches).toBe(true)
      // Without a star there is one id that it can match.
      if (!glob.includes('*')) expect(touches).toBe(glob.join('').startsWith('a:'))
    }),
    { numRuns: 5000 },
  )
  for (const [glob, touches] of [
    ['*', true],
    ['a*', true],
    ['a:\\*', true],
    ['a\\*', false],
    ['ab*', false],
    ['b:*', false],
  ] as const) {
    expect([glob, touchesConnection(callerOf(glob), 'a')]).toEqual([glob, touches])
  }
})

test('many stars take no longer than the text is long', () => {
  const started = performance.now()
  expect(matches(`${'a*'.repeat(400)}b`, 'a'.repeat(1000))).toBe(false)
  expect(matches(`${'*a'.repeat(400)}*`, 'a'.repeat(1000))).toBe(true)
  expect(performance.now() - started).toBeLessThan(100)
})

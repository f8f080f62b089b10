import { expect, test } from 'vitest'
import { registry } from '../../adapters/index.ts'
import type { Json } from '../../src/lib/json.ts'
import { type Kind } from '../../src/model/enums.ts'
import { type AnyCapabilities, isTaken } from '../../src/model/fields.ts'

// Which spellings of a value count as that value, at every field that has any, and what is next to them and does not.

type Pair = [asked: Json, told: Json]
interface Golden {
  same: Pair[]
  other: Pair[]
}

const text: Golden = {
  same: [
    [' Warehouse sync\t', 'Warehouse sync'],
    ['Warehouse sync', 'Warehouse sync'],
  ],
  other: [
    ['Warehouse sync', 'Warehouse  sync'],
    ['Warehouse sync', 'warehouse sync'],
    ['Warehouse sync', ' Warehouse sync'],
    ['Warehouse sync', null],
  ],
}
const clearable: Golden = {
  same: [...text.same, [null, ''], ['', null], ['  ', '']],
  other: [...text.other, [null, 'Warehouse sync']],
}

const golden: Record<string, Golden> = {
  'commerce-layer credential name': text,
  'commerce-layer credential reference': clearable,
  'commerce-layer credential referenceOrigin': clearable,
  'commerce-layer credential redirectUri': clearable,
  'commerce-layer role name': text,
  'commerce-layer role reference': clearable,
  'commerce-layer role referenceOrigin': clearable,
  'commerce-layer permission reference': clearable,
  'commerce-layer permission referenceOrigin': clearable,
  'discue credential name': text,
  'apinizer credential name': text,
  'apinizer credential description': clearable,
  'apinizer credential email': {
    same: [['Ops@Example.COM', 'ops@example.com']],
    other: [
      ['ops@example.com', 'ops@example.org'],
      ['ops@example.com', 'op.s@example.com'],
      ['kim@example.com', '\u212Aim@example.com'],
    ],
  },
  'apinizer credential allowedIps': {
    same: [
      [
        ['10.0.0.1', '2001:db8::1'],
        ['2001:0DB8:0::1', '10.0.0.1/32'],
      ],
      [['10.0.0.7/24'], ['10.0.0.0/24']],
      [['::ffff:10.0.0.1'], ['10.0.0.1']],
    ],
    other: [
      [['10.0.0.1'], ['10.0.0.2']],
      [['10.0.0.1'], ['10.0.0.1', '10.0.0.2']],
      [['10.0.0.1', '10.0.0.2'], ['10.0.0.1']],
      [['10.0.0.0/24'], ['10.0.0.0/23']],
      [['10.0.0.1'], []],
      [['0.0.0.0/0'], ['10.9.9.9/']],
      [['8.0.0.1'], ['010.0.0.1']],
      [[], ['0.0.0.0/0']],
    ],
  },
  'apinizer credential expiresAt': {
    same: [['2031-01-31T23:59:59.987Z', '2031-01-31T23:59:59.000Z']],
    other: [
      ['2031-01-31T23:59:59.000Z', '2031-01-31T23:59:59.987Z'],
      ['2031-01-31T23:59:59.987Z', '2031-02-01T00:00:00.000Z'],
      ['2031-01-31T23:59:59.987Z', null],
      [null, '2031-01-31T23:59:59.000Z'],
    ],
  },
}

const fields = Object.entries(registry).flatMap(([provider, adapter]) =>
  Object.entries(adapter.kinds).flatMap(([kind, spec]) =>
    Object.entries(spec.fields as AnyCapabilities).flatMap(([field, capability]) =>
      capability?.equivalence
        ? [{ at: `${provider} ${kind} ${field}`, kind: kind as Kind, field, capability }]
        : [],
    ),
  ),
)

test('every field that may be spelled otherwise has golden cases, and nothing else has', () => {
  expect(fields.map(({ at }) => at).toSorted()).toEqual(Object.keys(golden).toSorted())
})

test.each(fields)('$at', ({ at, kind, field, capability }) => {
  const { same, other } = golden[at] ?? { same: [], other: [] }
  expect([same.length, other.length]).not.toContain(0)
  for (const [asked, told] of same)
    expect(isTaken(kind, field, capability, asked, told), JSON.stringify([asked, told])).toBe(true)
  for (const [asked, told] of other)
    expect(isTaken(kind, field, capability, asked, told), JSON.stringify([asked, told])).toBe(false)
})

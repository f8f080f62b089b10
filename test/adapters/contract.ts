import { inspect } from 'node:util'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { isObject, type Json, type JsonObject } from '../../src/lib/json.ts'
import { Secret } from '../../src/lib/secret.ts'
import type {
  Adapter,
  Auth,
  Current,
  KindSpec,
  Ref,
  Reported,
  UpstreamRequest,
  UpstreamResponse,
} from '../../src/model/adapter.ts'
import type { Parsed } from '../../src/model/upstream-refusal.ts'
import { type Kind, kinds } from '../../src/model/enums.ts'
import { type AnyValues, sameValue, type Values } from '../../src/model/fields.ts'
import { HIDDEN } from '../../src/model/redaction.ts'
import { encodePart, resolveSegment } from '../../src/model/resource-id.ts'
import { Unreadable } from '../../src/model/unreadable.ts'
import { buildUrl } from '../../src/upstream/send.ts'
import { lawful } from './lawful.ts'
import { accepted, bodiesOf, otherFields, valuesOf, writableFields } from './values.ts'

/** An answer of the provider that means success. */
export interface Answer {
  body: Json
  /** Members that the success hangs on: when one is missing or of another type, the answer proves nothing. */
  vital: readonly string[]
  /** Members of fields that the provider always has: when one is missing or of another type, the field is unreadable. */
  demanded?: Readonly<Record<string, string>>
  /** The member that says whose answer it is. */
  identity?: string
}

/** What the suite has to know about one kind of a provider. */
export interface KindSamples {
  /** The parts of a key, by name. */
  ref: Ref
  /** The fields without which the provider takes no update. */
  needs: JsonObject
  read?: Answer
  written: Answer
  /** Bodies of refusals in which the provider's own words stand wherever it has words of its own. */
  refusals(words: string): readonly Json[]
}

export interface Samples {
  kinds: { [K in Kind]?: KindSamples }
  /** The token endpoint, where the provider has one. */
  token?: { issued: Answer; refusals(words: string): readonly Json[] }
}

/** What every adapter has to hold, whatever its provider is like. The laws themselves are in `lawful.ts`. */
export function adapterContract(name: string, adapter: Adapter, samples: Samples): void {
  const { kinds: specs, auth, baseUrl } = lawful(adapter)

  describe(name, () => {
    test('has samples for exactly the kinds that it has', () => {
      expect(Object.keys(samples.kinds).toSorted()).toEqual(Object.keys(specs).toSorted())
    })

    describe.each(kinds.filter((kind) => specs[kind]))('%s', (kind) => {
      const spec = specs[kind] as KindSpec<Kind>
      const sample = samples.kinds[kind]
      if (!sample) throw new TypeError(`${name} has no samples for its ${kind}s`)
      // Outside the laws: a breach is a test's failure, not the suite's.
      const current = currentOf(adapter.kinds[kind] as KindSpec<Kind>, sample)
      const subject: Subject = { kind, spec, ...sample, current }
      purity(subject)
      plans(subject)
      addresses(subject, baseUrl.default ?? 'https://provider.example')
      answers(subject)
      secrets(subject)
    })

    describe('sign-in', () => signIns(auth, samples.token))
  })
}

interface Subject extends KindSamples {
  kind: Kind
  spec: KindSpec<Kind>
  /** What the sample of a read says; undefined where the provider cannot be read. */
  current: Current<Kind> | undefined
}

const respond = (status: number, body: unknown): UpstreamResponse => ({ status, headers: {}, body })

function currentOf({ read }: KindSpec<Kind>, sample: KindSamples): Current<Kind> | undefined {
  const result = read?.parse(sample.ref, respond(200, sample.read?.body))
  return result?.ok ? result.value : undefined
}

function purity({ kind, spec, ref, needs, current, read, written, refusals }: Subject) {
  // Every other test calls the same functions under the same laws; this one gives a breach its name.
  test('works on nothing but what it is given, and leaves that as it was', () => {
    const desired = accepted(kind, spec.fields, needs) as Values<Kind>
    for (const part of Object.values(ref)) expect(spec.checkKey(part)).toBeUndefined()
    for (const state of [undefined, current]) spec.plan(ref, desired, state)
    for (const body of [written.body, undefined, ...refusals('no')]) spec.parse(ref, respond(200, body))
    spec.read?.request(ref)
    for (const body of [read?.body, ...refusals('no')]) spec.read?.parse(ref, respond(200, body))
  })
}

function plans(subject: Subject) {
  const { kind, spec, ref, needs, current } = subject
  const writable = writableFields(spec.fields)
  const planFrom = (state: Current<Kind> | undefined, desired: AnyValues) =>
    spec.plan(ref, desired as Values<Kind>, state)
  const plan = (desired: AnyValues) => planFrom(current, desired)
  const planned = (body: JsonObject) => plan(accepted(kind, spec.fields, { ...needs, ...body }))

  test('plans one update of the resource, with nothing left out of the body', () => {
    const request = requestOf(planned({}))
    expect(['PUT', 'PATCH']).toContain(request.method)
    expect(request.body).toBeDefined()
  })

  test.each(writable)('plans another request for another value of %s', (field, capability) => {
    const value = valuesOf(kind, field, capability)
    fc.assert(
      fc.property(value, value, (one, other) => {
        fc.pre(!sameValue(kind, field, one, other))
        const requests = [one, other].map((to) => exposed(requestOf(planned({ [field]: to }))))
        expect(requests[0]).not.toEqual(requests[1])
      }),
      { numRuns: 50 },
    )
  })

  test.each(writable)('plans another request without %s, or none', (field, capability) => {
    fc.assert(
      fc.property(valuesOf(kind, field, capability), (to) => {
        const present = current?.values as AnyValues | undefined
        fc.pre(!sameValue(kind, field, present?.[field], to))
        const body = accepted(kind, spec.fields, { ...needs, [field]: to })
        const { [field]: _, ...rest } = body
        const without = plan(rest)
        if (without.ok) expect(exposed(without.value)).not.toEqual(exposed(requestOf(plan(body))))
      }),
      { numRuns: 50 },
    )
  })

  const readable = writable.filter(([, { mutability }]) => current && mutability === 'readWrite')
  test.each(readable)('says whether it sends %s back as it was read', (field, capability) => {
    const before = current as Current<Kind>
    fc.assert(
      fc.property(bodiesOf(kind, spec.fields), valuesOf(kind, field, capability), (body, read) => {
        const { [field]: _, ...rest } = accepted(kind, spec.fields, { ...body, ...needs })
        fc.pre(!sameValue(kind, field, (before.values as AnyValues)[field], read) && !(field in needs))
        const other = { ...before, values: { ...before.values, [field]: read } as Values<Kind> }
        const [one, two] = [before, other].map((state) => requestOf(planFrom(state, rest)))
        const isSent = JSON.stringify(one?.body) !== JSON.stringify(two?.body)
        expect(one?.carries?.includes(field) ?? false).toBe(isSent)
      }),
      { numRuns: 50 },
    )
  })

  test.each(otherFields(kind, spec.fields))('takes nothing over from %s', (field) => {
    const anything = valuesOf(kind, field, { mutability: 'readWrite', upstream: field, nullable: true })
    fc.assert(
      fc.property(bodiesOf(kind, spec.fields), anything, (body, value) => {
        const desired = accepted(kind, spec.fields, { ...allOf(subject), ...body, ...needs })
        expect(exposed(requestOf(plan({ ...desired, [field]: value })))).toEqual(
          exposed(requestOf(plan(desired))),
        )
      }),
      { numRuns: 30 },
    )
  })

  test('plans or refuses any fields, whatever is known of the resource', () => {
    const states = fc.constantFrom(undefined, ...(current ? [current, ...partsOf(current)] : []))
    fc.assert(
      fc.property(bodiesOf(kind, spec.fields), states, (body, state) => {
        expect(planFrom(state, accepted(kind, spec.fields, body))).toHaveProperty('ok')
      }),
      { numRuns: 300 },
    )
  })

  test('plans any fields together with what the provider needs', () => {
    fc.assert(
      fc.property(bodiesOf(kind, spec.fields), (body) => {
        expect(planned(body).ok).toBe(true)
      }),
    )
  })

  test('plans values that a caller may not see', () => {
    const hidden = (value: unknown) =>
      value instanceof Secret ? value : Array.isArray(value) ? [HIDDEN] : HIDDEN
    const hide = (values: object) =>
      Object.fromEntries(Object.entries(values).map(([field, value]) => [field, hidden(value)]))
    fc.assert(
      fc.property(bodiesOf(kind, spec.fields), (body) => {
        const desired = hide(accepted(kind, spec.fields, { ...needs, ...body })) as AnyValues
        const state = current && {
          values: hide(current.values) as Values<Kind>,
          ...(current.carry && { carry: hide(current.carry) as Record<string, Json> }),
        }
        expect(planFrom(state, desired).ok).toBe(true)
      }),
    )
  })
}

/** One value for every writable field. */
const allOf = ({ kind, spec }: Subject): JsonObject =>
  Object.fromEntries(
    writableFields(spec.fields).map(([field, capability]) => [
      field,
      fc.sample(valuesOf(kind, field, capability), { numRuns: 1, seed: 1 })[0] ?? null,
    ]),
  )

/** The state with each of its values missing in turn. */
const partsOf = ({ values, ...rest }: Current<Kind>): Current<Kind>[] =>
  Object.keys(values).map((field) => {
    const { [field]: _, ...others } = values as AnyValues
    return { ...rest, values: others as Values<Kind> }
  })

function requestOf(result: Parsed<UpstreamRequest>): UpstreamRequest {
  if (!result.ok) throw new Error(`refused: ${result.refusal.detail}`)
  return result.value
}

/** A request as it would be sent, secrets opened. */
function exposed(request: UpstreamRequest): UpstreamRequest {
  const open = (value: unknown): unknown => {
    if (value instanceof Secret) return { exposed: value.expose() }
    if (Array.isArray(value)) return value.map(open)
    if (!isObject(value)) return value
    return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, open(member)]))
  }
  return open(request) as UpstreamRequest
}

/** Parts of a key that name no resource, but the place where one stands; the last ones after normalization (NFKC). */
const placeParts = words`
  . .. %2e %2E%2e .%2E %2e.
  %EF%BC%8E %EF%BC%8E%EF%BC%8E %E2%80%A5 .%E2%80%A4`.concat('')

/**
 * Text in a key that some system on the way could take for structure: separators; control characters; escapes;
 * malformed, overlong and surrogate UTF-8; characters that normalization (NFKC) turns into separators.
 */
const structuralText = words`
  / /b /../b %2F %2f..%2f %2Fb \ \b ..%5C %5c ? ?b=c %3F # #b %23 ;%2F %3A %3ab
  %00 %0D%0A %0d %0a %0aHost:b %09 %1b %7F %C2%85
  % %2g %zz %u002e %25 %252e%252e %252F %25b
  %FF %80 %C0%AE %c0%af %E0%80%AF %F0%80%80%AF %ED%A0%80 %F5%80%80%80
  %EF%BC%8F %EF%BC%BC %EF%BC%9F %EF%BC%83 %EF%BC%9A %E2%84%80`.concat('\0', '\n', '\r\n', '\t')

function words(text: TemplateStringsArray): string[] {
  return String.raw(text).trim().split(/\s+/)
}

const quoted = (text: string): [string, string] => [JSON.stringify(text), text]

function addresses({ spec, ref, needs, kind, current }: Subject, defaultBase: string) {
  const bases = [defaultBase, 'https://provider.example:8443/a%20base']
  const desired = accepted(kind, spec.fields, needs) as Values<Kind>
  const requestsFor = (to: Ref): UpstreamRequest[] => [
    ...(spec.read ? [spec.read.request(to)] : []),
    requestOf(spec.plan(to, desired, current)),
  ]
  const refOf = (parts: readonly string[]) =>
    Object.fromEntries(spec.key.map((name, index) => [name, parts[index] ?? '']))
  /** The way from an id in a path to a ref, as the gateway goes it. */
  const refOfId = (id: string): Ref | undefined => {
    const read = resolveSegment(id, new Map())
    if (!read?.ok || read.value.parts.length !== spec.key.length) return undefined
    return read.value.parts.some((part) => spec.checkKey(part) !== undefined)
      ? undefined
      : refOf(read.value.parts)
  }
  const good = spec.key.map((name) => encodePart(ref[name] ?? ''))

  /** Host, number of segments and query stand in the template; the path says the ref and nothing else. */
  function expectHome(to: Ref) {
    for (const base of bases) {
      for (const request of requestsFor(to)) {
        const url = buildUrl(base, request)
        if (url) expectAddressed(url, base, request)
      }
    }
  }

  test('reaches the address of a good key', () => {
    const to = refOfId(['connection', ...good].join(':'))
    expect(to).toEqual(ref)
    for (const request of requestsFor(ref)) {
      const url = buildUrl(defaultBase, request)
      if (!url) throw new Error('the key does not fit the address')
      expectAddressed(url, defaultBase, request)
    }
  })

  const refOfPart = (index: number, part: string) =>
    refOfId(['connection', ...good.with(index, part)].join(':'))

  test.each(placeParts.map(quoted))('refuses %s as a part of the key', (_, part) => {
    for (const index of spec.key.keys()) expect(refOfPart(index, part)).toBeUndefined()
  })

  test.each(structuralText.map(quoted))('refuses %s anywhere in a part of the key', (_, text) => {
    for (const [index, part] of good.entries()) {
      for (const hostile of [text, part + text, text + part, part + text + part]) {
        expect(refOfPart(index, hostile)).toBeUndefined()
      }
    }
  })

  test('refuses a key with a part too many or too few', () => {
    expect(refOfId(['connection', ...good, 'more'].join(':'))).toBeUndefined()
    expect(refOfId(['connection', ...good.slice(1)].join(':'))).toBeUndefined()
  })

  // Text that is dense in what attacks are made of, and text that is anything.
  const piece = fc.constantFrom(
    ...placeParts,
    ...structuralText,
    ...good,
    ...words`%20 %C3%BC @ + & = ~ ' ( *`,
  )
  const dense = fc.array(piece, { minLength: 1, maxLength: 4 }).map((pieces) => pieces.join(''))
  const anything = fc.string({ unit: 'binary', maxLength: 300 })
  const parts = (part: fc.Arbitrary<string>) =>
    fc.array(part, { minLength: spec.key.length, maxLength: spec.key.length })

  test('lets no id, however it is spelled, lead to another address', () => {
    const spelled = parts(fc.oneof(dense, anything, anything.map(encodePart)))
    fc.assert(
      fc.property(spelled, (some) => {
        const to = refOfId(['connection', ...some].join(':'))
        if (to) expectHome(to)
      }),
      { numRuns: 500 },
    )
  })

  test('lets no ref lead to another address, not even one that was never checked', () => {
    fc.assert(
      fc.property(parts(fc.oneof(dense, anything).filter((part) => part !== '')), (some) => {
        expectHome(refOf(some))
      }),
      { numRuns: 500 },
    )
  })
}

function expectAddressed(url: URL, base: string, { template, ref }: UpstreamRequest) {
  const home = new URL(base)
  const [path = '', query] = template.split('?')
  expect(url.origin).toBe(home.origin)
  expect(url.username + url.password + url.hash).toBe('')
  expect(url.search).toBe(query === undefined ? '' : `?${query}`)
  const basePath = home.pathname === '/' ? '' : home.pathname
  expect(url.pathname.startsWith(`${basePath}/`)).toBe(true)
  const segments = url.pathname.slice(basePath.length).split('/')
  expect(segments.map(decodeURIComponent)).toEqual(
    path.split('/').map((segment) => segment.replace(/^\{(\w+)\}$/, (_, name: string) => ref[name] ?? '')),
  )
}

/** Inclusive. */
const range = (first: number, last: number) =>
  Array.from({ length: last - first + 1 }, (_, index) => first + index)
/** Those that somebody has given a meaning to, proxies and edges included, and the ends of the classes. */
const statuses = [
  ...range(200, 208),
  226,
  299,
  ...range(300, 308),
  399,
  ...range(400, 431),
  451,
  499,
  ...range(500, 511),
  ...range(520, 530),
  599,
]

/** What proxies, gateways, error pages and broken servers answer. */
const foolishBodies: readonly unknown[] = [
  undefined,
  ...[null, true, 0, -1, 200, 1e308].flatMap((value) => [value, [value], { data: value, status: value }]),
  ...['', 'OK', 'SUCCESS', 'x'.repeat(1 << 20)].flatMap((value) => [value, [value], { message: value }]),
  '<html><body>Bad Gateway</body></html>',
  [],
  {},
  { '': {} },
  { ok: true },
  { data: [], errors: {}, api_client: [], resultList: {}, deploymentResult: [] },
  { data: {}, errors: [null], api_client: {}, resultList: [null], deploymentResult: {} },
  { data: { data: { data: { id: 'x', attributes: [] } } } },
  JSON.parse('{"__proto__":{"status":"SUCCESS","data":{},"api_client":{}},"constructor":{"prototype":{}}}'),
  nested((inner) => ({ data: inner })),
  nested((inner) => [inner]),
  nested((inner) => ({ resultList: [{ detailList: [inner] }] })),
]

function nested(around: (inner: unknown) => unknown): unknown {
  return Array.from({ length: 100 }).reduce((inner) => around(inner), null)
}

/** Words that mean something to JavaScript, to HTML, or too much to anybody. */
const foolishWords = [
  '',
  'constructor',
  '__proto__',
  'toString',
  'hasOwnProperty',
  '$&',
  '\0',
  'x'.repeat(1 << 16),
]

function answers({ spec, ref, current, read, written, refusals }: Subject) {
  const cases = [
    {
      title: 'the answer to a write',
      answer: written,
      succeeds: (status: number, body: unknown) =>
        spec.parse(ref, respond(status, body)).outcome === 'applied',
      valuesIn: (response: UpstreamResponse) => {
        const reported = spec.parse(ref, response)
        return (reported.outcome === 'applied' && reported.values) || {}
      },
    },
    ...(spec.read && read
      ? [
          {
            title: 'the answer to a read',
            answer: read,
            succeeds: (status: number, body: unknown) =>
              spec.read?.parse(ref, respond(status, body)).ok === true,
            valuesIn: (response: UpstreamResponse) => {
              const parsed = spec.read?.parse(ref, response)
              return parsed?.ok ? parsed.value.values : {}
            },
          },
        ]
      : []),
  ]

  describe.each(cases)('$title', ({ answer, succeeds, valuesIn }) => {
    test('is a success as it is documented', () => {
      expect(succeeds(200, answer.body)).toBe(true)
    })

    test('is never a success under a status that is none', () => {
      expect(range(300, 599).filter((status) => succeeds(status, answer.body))).toEqual([])
    })

    test('is never a success with a foolish body', () => {
      const successes = statuses.flatMap((status) =>
        foolishBodies.filter((body) => succeeds(status, body)).map((body) => ({ status, body })),
      )
      expect(successes).toEqual([])
    })

    test('is never a success with any JSON', () => {
      fc.assert(
        fc.property(fc.constantFrom(...statuses), fc.jsonValue({ maxDepth: 4 }), (status, body) => {
          expect(succeeds(status, body)).toBe(false)
        }),
        { numRuns: 500 },
      )
    })

    test.each(answer.vital)('is no success without %s, or with another type of it', (path) => {
      expect(succeeds(200, changed(answer.body, path, undefined))).toBe(false)
      const type = typeName(valueAt(answer.body, path))
      for (const other of [null, 0, 'x', true, [], {}].filter((value) => typeName(value) !== type)) {
        const body = changed(answer.body, path, other)
        expect({ with: other, succeeds: succeeds(200, body) }).toEqual({ with: other, succeeds: false })
      }
    })

    test.each(Object.entries(answer.demanded ?? {}))(
      'is a success without %s, or with another type of it, and %s is unreadable',
      (path, field) => {
        const type = typeName(valueAt(answer.body, path))
        const others = [undefined, null, 0, 'x', true, [], {}].filter((value) => typeName(value) !== type)
        for (const other of others) {
          const values = valuesIn(respond(200, changed(answer.body, path, other)))
          const unreadable = Object.entries(values).filter(([, value]) => value instanceof Unreadable)
          expect(unreadable.map(([name]) => name)).toEqual([field])
        }
      },
    )

    if (answer.identity !== undefined) {
      const { identity } = answer
      test('is no success when it speaks of another resource', () => {
        for (const other of ['another', '', `${String(valueAt(answer.body, identity))} `]) {
          expect(succeeds(200, changed(answer.body, identity, other))).toBe(false)
        }
      })
    }

    test('can be read or refused with any single member replaced', () => {
      fc.assert(
        fc.property(fc.constantFrom(...pathsOf(answer.body)), fc.jsonValue(), (path, value) => {
          expect([true, false]).toContain(succeeds(200, changed(answer.body, path, value as Json)))
        }),
        { numRuns: 500 },
      )
    })

    test('can be read or refused with the right words in the wrong places', () => {
      fc.assert(
        fc.property(fc.constantFrom(200, 400, 401, 422), jumbled(answer.body), (status, body) => {
          expect([true, false]).toContain(succeeds(status, body))
        }),
        { numRuns: 500 },
      )
    })
  })

  test('takes every 4xx for a refusal', () => {
    for (const status of statuses.filter((some) => some >= 400 && some < 500)) {
      for (const body of [...foolishBodies, ...foolishWords.flatMap((words) => refusals(words))]) {
        expect(spec.parse(ref, respond(status, body)).outcome).toBe('rejected')
        expect(spec.read?.parse(ref, respond(status, body)).ok ?? false).toBe(false)
      }
    }
  })

  test('takes no 2xx for a refusal when the body does not say so', () => {
    for (const status of statuses.filter((some) => some < 300)) {
      for (const body of foolishBodies) {
        expect(spec.parse(ref, respond(status, body)).outcome).toBe('unknown')
      }
      expect(spec.parse(ref, respond(status, written.body)).outcome).not.toBe('rejected')
    }
  })

  if (spec.read) {
    test('reads every field that the provider tells', () => {
      const told = Object.entries(spec.fields).filter(([, field]) => field?.mutability !== 'writeOnly')
      expect(Object.keys(current?.values ?? {}).toSorted()).toEqual(told.map(([field]) => field).toSorted())
    })
  }
}

/** The value with another member at the path, or without it. */
function changed(value: Json, path: string, to: Json | undefined): Json {
  const [name = '', ...rest] = path.split('.')
  const step = (inner: Json) => (rest.length > 0 ? changed(inner, rest.join('.'), to) : to)
  if (typeof value !== 'object' || value === null || !(name in value)) {
    throw new TypeError(`the sample has no ${path}`)
  }
  const members = Object.entries(value).flatMap(([key, member]: [string, Json]): [string, Json][] => {
    const next = key === name ? step(member) : member
    return next === undefined ? [] : [[key, next]]
  })
  return Array.isArray(value) ? members.map(([, member]) => member) : Object.fromEntries(members)
}

const valueAt = (value: Json, path: string): unknown =>
  path.split('.').reduce<unknown>((inner, name) => (inner as Record<string, unknown>)[name], value)

const typeName = (value: unknown): string =>
  value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value

const pathsOf = (value: Json): string[] =>
  typeof value === 'object' && value !== null
    ? Object.entries(value).flatMap(([name, member]: [string, Json]) => [
        name,
        ...pathsOf(member).map((path) => `${name}.${path}`),
      ])
    : []

/** JSON made of the names and values of a sample, in any arrangement. */
function jumbled(sample: Json): fc.Arbitrary<Json> {
  const paths = pathsOf(sample)
  const names = [...new Set(paths.flatMap((path) => path.split('.')))]
  const values = paths.map((path) => valueAt(sample, path) as Json)
  return fc.letrec<{ value: Json }>((tie) => ({
    value: fc.oneof(
      { maxDepth: 3 },
      fc.constantFrom(...values),
      fc.dictionary(fc.constantFrom(...names), tie('value'), { maxKeys: 4 }),
      fc.array(tie('value'), { maxLength: 2 }),
    ),
  })).value
}

const CANARY = 'canary-5f0c1d7be2'

/** Everything that can be seen of a result without asking a `Secret` for its text. */
const seen = (result: unknown): string =>
  JSON.stringify(result) + inspect(result, { depth: Infinity, showHidden: true, maxStringLength: Infinity })

/** The sample with secrets put into every object, but for those that the model shows as they are. */
function laced(value: Json): Json {
  if (Array.isArray(value)) return value.map(laced)
  if (!isObject(value)) return value
  const secret = {
    client_secret: CANARY,
    password: CANARY,
    access_token: CANARY,
    secret: CANARY,
    key: CANARY,
  }
  return {
    ...Object.fromEntries(
      Object.entries(value as JsonObject).map(([name, member]) => [
        name,
        name === 'metadata' || name === 'restrictions' ? member : laced(member),
      ]),
    ),
    ...secret,
  }
}

function secrets({ kind, spec, ref, needs, current, read, written, refusals }: Subject) {
  test('keeps a secret in its wrapper, and that in the body alone', () => {
    const secret = new Secret(CANARY)
    const isField = 'secret' in spec.fields
    const states = fc.constantFrom(undefined, current)
    fc.assert(
      fc.property(bodiesOf(kind, spec.fields), states, (body, state) => {
        const desired = { ...accepted(kind, spec.fields, { ...needs, ...body }), secret }
        const result = spec.plan(ref, desired as Values<Kind>, state)
        expect(seen(result)).not.toContain(CANARY)
        const held = result.ok ? secretsIn(result.value.body) : []
        expect(held).toEqual(result.ok && isField ? [CANARY] : [])
      }),
    )
  })

  test('tells nothing of an answer but the fields of the model', () => {
    const results = (status: number, readBody: unknown, writtenBody: unknown) => [
      spec.parse(ref, respond(status, writtenBody)),
      ...(spec.read ? [spec.read.parse(ref, respond(status, readBody))] : []),
    ]
    const lacedRead = laced(read?.body ?? null)
    const lacedWritten = laced(written.body)
    expect(results(200, lacedRead, lacedWritten).filter(succeeded)).toHaveLength(spec.read ? 2 : 1)
    for (const status of statuses) {
      expect(seen(results(status, lacedRead, lacedWritten))).not.toContain(CANARY)
      for (const body of refusals(`the value ${CANARY} is not valid`)) {
        expect(seen(results(status, body, body))).not.toContain(CANARY)
      }
    }
  })
}

const succeeded = (result: Reported<Kind> | Parsed<Current<Kind>>): boolean =>
  'outcome' in result ? result.outcome === 'applied' : result.ok

const secretsIn = (value: unknown): string[] => {
  if (value instanceof Secret) return [value.expose()]
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(secretsIn) : []
}

function signIns(auth: readonly Auth[], token: Samples['token']) {
  test('is a header, or a token endpoint with samples', () => {
    expect(auth.length).toBeGreaterThan(0)
    expect(auth.some((way) => way.scheme === 'client-credentials')).toBe(token !== undefined)
  })

  for (const way of auth) {
    if (way.scheme !== 'client-credentials' || !token) continue
    const { issued, refusals } = token
    const succeeds = (status: number, body: unknown) => way.parse(respond(status, body)).ok

    test('takes a token from the answer as it is documented', () => {
      expect(succeeds(200, issued.body)).toBe(true)
    })

    test('takes no token from a foolish answer', () => {
      const successes = statuses.flatMap((status) =>
        foolishBodies.filter((body) => succeeds(status, body)).map((body) => ({ status, body })),
      )
      expect(successes).toEqual([])
      fc.assert(
        fc.property(fc.jsonValue(), (body) => {
          expect(succeeds(200, body)).toBe(false)
        }),
      )
      const spoiled = issued.vital.flatMap((path) =>
        [undefined, null, true, [], {}].map((other) => changed(issued.body, path, other)),
      )
      spoiled.push(changed(issued.body, 'access_token', ''))
      expect(spoiled.filter((body) => succeeds(200, body))).toEqual([])
    })

    test('takes no token from a refusal', () => {
      expect(range(300, 599).filter((status) => succeeds(status, issued.body))).toEqual([])
      for (const status of statuses) {
        for (const body of refusals('invalid_client')) expect(succeeds(status, body)).toBe(false)
      }
    })

    test('keeps the token in its wrapper', () => {
      const result = way.parse(respond(200, laced(issued.body)))
      expect(result.ok && result.value.accessToken.expose()).toBe(CANARY)
      expect(seen(result)).not.toContain(CANARY)
      for (const status of statuses) {
        for (const body of [laced(issued.body), ...refusals(`the client ${CANARY} is not known`)]) {
          expect(seen(way.parse(respond(status, body)))).not.toContain(CANARY)
        }
      }
    })
  }
}

import * as fc from 'fast-check'
import { keys } from '../harness/configuration.ts'
import type { Draft, Members } from './draft.ts'

/** Ways in which a request goes wrong, by name. Each is drawn whole, so that a failure can be told and repeated. */
type Break = (draft: Draft) => Draft
type Breaks = Record<string, fc.Arbitrary<Break>>

const pick = <T>(choices: readonly T[], make: (choice: T) => Break): fc.Arbitrary<Break> =>
  fc.constantFrom(...choices).map(make)

const withHeader =
  (name: string, value: string): Break =>
  (draft) => ({ ...draft, headers: [...draft.headers, [name, value]] })

const without = (headers: Draft['headers'], name: string): Draft['headers'] =>
  headers.filter(([one]) => one.toLowerCase() !== name)

const withBody =
  (body: Draft['body'] & object): Break =>
  (draft) => ({
    ...draft,
    body,
    headers: [...without(draft.headers, 'content-type'), ['Content-Type', 'application/json']],
  })

const deep = (levels: number, open: string, close: string): string =>
  open.repeat(levels) + close.repeat(levels)

/** Values as they stand in a JSON text; some are none. */
const values = [
  'null',
  'true',
  '0',
  '-0',
  '-1',
  '1.5',
  '7200',
  '1e400',
  '-1e400',
  '1e-400',
  '12345678901234567890',
  '9007199254740993',
  `1${'0'.repeat(400)}`,
  '0x10',
  '01',
  'NaN',
  'Infinity',
  'undefined',
  '"',
  '""',
  '" "',
  "'a'",
  '"@CANARY@"',
  '"a@CANARY@.example"',
  '"\\u0000@CANARY@"',
  '"\\ud800@CANARY@"',
  '"\\udfff"',
  '"\u0001"',
  '"\\u202e@CANARY@"',
  '"\u{1f511}"',
  '"..%2f@CANARY@"',
  '"[hidden]"',
  '"[secret]"',
  '"0000-00-00T00:00:00Z"',
  '"9999-12-31T23:59:60Z"',
  '"2027-02-30T00:00:00+25:00"',
  '"javascript:@CANARY@"',
  '[]',
  '[null]',
  '["@CANARY@"]',
  '["a","a"]',
  '[[]]',
  '{}',
  '{"a":1,"a":"@CANARY@"}',
  '{"__proto__":{"a":1}}',
  '{"constructor":{"prototype":1}}',
  '{"toString":"@CANARY@"}',
  '{"@CANARY@ ":null}',
  deep(33, '[', ']'),
  deep(40, '{"a":', '}').replace('}', '1}'),
  deep(5000, '[', ']'),
  `[${Array.from({ length: 1001 }, (_, n) => n).join()}]`,
  `{${Array.from({ length: 1001 }, (_, n) => `"m${n}":${n}`).join()}}`,
  `"${'x'.repeat(32_769)}"`,
  `"${'é'.repeat(20_000)}"`,
]
const names = [
  '"__proto__"',
  '"constructor"',
  '"prototype"',
  '"toString"',
  '"hasOwnProperty"',
  '""',
  '"@CANARY@ name"',
  '"\\u0000"',
  '"\\ud800"',
  '"name"',
  '"NAME"',
  '"secret"',
  '"id"',
  '"etag"',
  '"metadata"',
  '"a/b~c"',
  '"\\u006eame"',
  'name',
  `"${'n'.repeat(40_000)}"`,
]

const ofMembers = (change: (members: Members, at: number) => Members): fc.Arbitrary<Break> =>
  fc.nat().map((index): Break => (draft) => {
    if (!draft.body || !('members' in draft.body)) return draft
    const { members } = draft.body
    return { ...draft, body: { members: change(members, members.length === 0 ? 0 : index % members.length) } }
  })

const bodies: Breaks = {
  'a value of another kind': fc
    .tuple(
      fc.constantFrom(...values),
      ofMembers((members) => members),
    )
    .chain(([value]) =>
      ofMembers((members, at) =>
        members.map(([name, old], index): [string, string] => [name, index === at ? value : old]),
      ),
    ),
  'a member that is missing': ofMembers((members, at) => members.filter((_, index) => index !== at)),
  'a member twice': ofMembers((members, at) => [...members, ...members.slice(at, at + 1)]),
  'a member too many': fc
    .tuple(fc.constantFrom(...names), fc.constantFrom(...values))
    .chain((member) => ofMembers((members) => [...members, member])),
  'any JSON as a value': fc
    .json()
    .chain((json) => ofMembers((members) => [...members, ['"metadata"', json]])),
  'no object': pick(
    [
      '',
      ' ',
      'null',
      '[]',
      '"@CANARY@"',
      '1',
      '{',
      '{}',
      '{"name":"@CANARY@"',
      '{"name":"@CANARY@"}}',
      '{"a":1,}',
      '{/**/}',
      "{'name':1}",
      '\uFEFF{}',
      '{"name":tru',
      '@CANARY@',
    ],
    (text) => withBody({ text }),
  ),
  'any JSON': fc.json().map((text) => withBody({ text })),
  'bytes that are no UTF-8': pick(
    ['{"name":"\xff"}', '{"name":"\xc0\xaf"}', '{"name":"\xed\xa0\x80"}', '\xff\xfe{\0}\0'],
    (bytes) => withBody({ bytes }),
  ),
  'any bytes': fc
    .uint8Array({ maxLength: 200 })
    .map((bytes) => withBody({ bytes: Buffer.from(bytes).toString('latin1') })),
  'too many bytes': fc
    .constantFrom(65_536, 65_537, 70_000, 200_000)
    .map((size) => withBody({ text: `{"name":"@CANARY@",${' '.repeat(size)}"a":1}` })),
  'no body': fc.constant<Break>(({ body: _, ...draft }) => draft),
  'a body where none belongs': fc.constant(withBody({ text: '{"name":"@CANARY@"}' })),
  'another media type': pick(
    [
      '',
      'text/plain',
      'application/json; charset=utf-16',
      'application/json;charset="UTF-8"',
      'APPLICATION/JSON',
      'application/merge-patch+json',
      'application/x-www-form-urlencoded',
      'multipart/form-data; boundary=x',
      'application/json, text/plain',
      'application/@CANARY@',
      ';',
      '*/*',
    ],
    (type): Break =>
      (draft) => ({ ...draft, headers: [...without(draft.headers, 'content-type'), ['Content-Type', type]] }),
  ),
  'no media type': fc.constant<Break>((draft) => ({
    ...draft,
    headers: without(draft.headers, 'content-type'),
  })),
  'two media types': fc.constant(withHeader('Content-Type', 'text/plain')),
  'gzip without a word': fc.constant<Break>((draft) => ({ ...draft, gzip: true })),
  gzip: fc.constant<Break>((draft) => withHeader('Content-Encoding', 'gzip')({ ...draft, gzip: true })),
  'an encoding that is none': pick(['gzip', 'identity', 'br, gzip', 'IDENTITY', '@CANARY@', ''], (encoding) =>
    withHeader('Content-Encoding', encoding),
  ),
  chunks: fc.constant<Break>((draft) => ({ ...draft, framing: 'chunked' })),
}

const requestLines: Breaks = {
  'another method': pick(
    ['GET', 'HEAD', 'PUT', 'POST', 'DELETE', 'PATCH', 'OPTIONS', 'PROPFIND', 'PURGE', 'MKCOL', 'REPORT'],
    (method): Break =>
      (draft) => ({ ...draft, method }),
  ),
  'an unknown query parameter': pick(
    [
      '@CANARY@=1',
      'x=@CANARY@',
      '=',
      '&&',
      '__proto__=1',
      'dryRun[]=true',
      'DRYRUN=true',
      '%00=%00',
      '?',
      'a;b=c',
    ],
    (one): Break =>
      (draft) => ({ ...draft, target: `${draft.target}${draft.target.includes('?') ? '&' : '?'}${one}` }),
  ),
  'a query parameter twice': fc.constant<Break>((draft) => {
    const [, query = 'dryRun=true'] = draft.target.split('?')
    return { ...draft, target: `${draft.target}${draft.target.includes('?') ? '&' : `?${query}&`}${query}` }
  }),
  'a path that is none': pick(
    [
      '%',
      '%zz',
      '%2',
      '%00',
      '%0d%0a',
      '%ff',
      '%c0%ae',
      '%ed%a0%80',
      '%2f..%2f',
      '%5c',
      '/..',
      '/../..',
      '/.',
      '//',
      '/',
      ':',
      '::',
      ':a',
      ';a=b',
      '%3a',
      '%25',
      '%252e',
      '*',
      '@CANARY@',
      'x'.repeat(3000),
    ],
    (more): Break =>
      (draft) => {
        const [path = '', ...query] = draft.target.split(/(?=\?)/)
        return { ...draft, target: `${path}${more}${query.join('')}` }
      },
  ),
  'a path before the path': pick(
    ['/', '//', '/.', '/..', '/x', '/@CANARY@', '/%2e%2e', '//evil.example'],
    (before): Break =>
      (draft) => ({ ...draft, target: before + draft.target }),
  ),
  'a path in capitals': fc.constant<Break>((draft) => ({ ...draft, target: draft.target.toUpperCase() })),
}

/** Headers that clients and proxies send to anything. */
const known = [
  'X-Request-Id',
  'traceparent',
  'Accept',
  'Range',
  'Cookie',
  'Origin',
  'Forwarded',
  'X-Forwarded-For',
  'X-Forwarded-Proto',
  'Via',
  'Cf-Connecting-IP',
]

const badHeaderValues = [
  '',
  '@CANARY@ "',
  '"@CANARY@',
  '@CANARY@, @CANARY@',
  'W/"@CANARY@"',
  '*',
  '"a", "@CANARY@ b", *',
  '%@CANARY@%',
  '@CANARY@%00',
  '%0d%0aX: @CANARY@',
  '@CANARY@%ed%a0%80',
  '\xe9@CANARY@,',
  '\xff',
  '"\xff"',
  '00-0-0-0',
  `@CANARY@ ${'x'.repeat(600)}`,
  '%C3%A9'.repeat(501),
  '"',
  '""',
  ',',
]
const headers: Breaks = {
  'a bad header value': fc
    .tuple(fc.constantFrom(...known), fc.constantFrom(...badHeaderValues))
    .map(([name, value]) => withHeader(name, value)),
  'a header twice': fc.constantFrom(...known).map(
    (name): Break =>
      (draft) =>
        withHeader(name, '"b"')(withHeader(name, '"a"')(draft)),
  ),
  'names in odd case': fc.constant<Break>((draft) => ({
    ...draft,
    headers: draft.headers.map(([name, value]) => [
      name.replace(/[a-z]/gi, (c, at: number) => (at % 2 ? c.toUpperCase() : c.toLowerCase())),
      value,
    ]),
  })),
  'another method in a header': fc
    .tuple(
      fc.constantFrom('X-HTTP-Method-Override', 'X-Method-Override', 'X-HTTP-Method'),
      fc.constantFrom('PUT', 'DELETE', 'GET', '@CANARY@'),
    )
    .map(([name, value]) => withHeader(name, value)),
  'both ways of signing in': fc.constant<Break>((draft) =>
    withHeader('X-API-Key', keys.admin)(withHeader('Authorization', `Bearer ${keys.admin}`)(draft)),
  ),
  'a long header': pick([4000, 8000], (size) => withHeader('X-Filler', 'x'.repeat(size))),
  'an early end': fc.constant<Break>((draft) => ({
    ...withHeader('Connection', 'close')(draft),
    copies: 1,
  })),
}

/** One of the parameters that the operation has in this place. */
function parameterOf({ parameters }: Draft, place: string, index: number): string | undefined {
  const names = parameters.filter((one) => one.in === place).map(({ name }) => name)
  return names[index % Math.max(1, names.length)]
}

/** What the operation reads, with values that it refuses. */
const documented: Breaks = {
  'a parameter in the headers with a bad value': fc
    .tuple(fc.nat(), fc.constantFrom(...badHeaderValues))
    .map(([index, value]): Break => (draft) => {
      const name = parameterOf(draft, 'header', index)
      return name === undefined ? draft : withHeader(name, value)(draft)
    }),
  'a parameter of the query with a bad value': fc
    .tuple(
      fc.nat(),
      fc.constantFrom(
        '',
        '@CANARY@',
        '@CANARY@%00',
        '0',
        '-1',
        '1e3',
        '99999',
        'true',
        '%ff',
        '%',
        '%zz',
        '%ed%a0%80',
        '9999-99-99T00:00:00Z',
        '-271821-04-20T00:00:00Z',
        'x'.repeat(3000),
      ),
    )
    .map(([index, value]): Break => (draft) => {
      const [name, more] = [parameterOf(draft, 'query', index), draft.target.includes('?') ? '&' : '?']
      return name === undefined ? draft : { ...draft, target: `${draft.target}${more}${name}=${value}` }
    }),
}

/** What only a bare socket can send. */
const raw: Breaks = {
  'headers that are too large': pick([17_000, 40_000, 100_000], (size) =>
    withHeader('X-Filler', 'x'.repeat(size)),
  ),
  'a target that is too long': pick([17_000, 40_000], (size): Break => (draft) => ({
    ...draft,
    target: `${draft.target}?${'x'.repeat(size)}`,
  })),
  'a great many headers': fc.constant<Break>((draft) => ({
    ...draft,
    headers: [...draft.headers, ...Array.from({ length: 2500 }, (): [string, string] => ['a', ''])],
  })),
  'a header line that is none': pick(
    [
      'X-Y: a\0@CANARY@',
      'X-Y: a\x01',
      'X-Y: a\x7f',
      'X-Y: a\r b',
      'X-Y: a\nX-Z: b',
      'X-Y : a',
      ' X-Y: a',
      ': a',
      'X-Y',
      'X Y: a',
      'X-\xe9: a',
      'X-Y: a\r\n folded',
      'X-Y: a\r\n\tfolded @CANARY@',
      '@CANARY@',
    ],
    (line) => withHeader('', line),
  ),
  'a method that is none': pick(
    ['put', 'FOO', '', 'G@T', 'CONNECT', 'TRACE', 'LINK', 'TRACK', '@CANARY@', 'PUT '],
    (method): Break =>
      (draft) => ({ ...draft, method }),
  ),
  'a target of another form': fc
    .constantFrom<(target: string) => string>(
      (target) => `http://gateway.example${target}`,
      (target) => `https://evil.example:1${target}`,
      (target) => `HTTP://@CANARY@${target}`,
      () => '*',
      () => 'gateway.example:443',
      () => '',
      (target) => target.slice(1),
      (target) => `${target} @CANARY@`,
      (target) => `${target}\t`,
      (target) => `${target}\xe9`,
      (target) => `${target}#@CANARY@`,
      (target) => target.replace('/', '\\'),
      (target) => `${target}?"<>^\`{|}`,
    )
    .map((change): Break => (draft) => ({ ...draft, target: change(draft.target) })),
  'another version': pick(['1.0', '0.9', '1.2', '2.0', '1', 'x'], (version): Break => (draft) => ({
    ...draft,
    version,
  })),
  'a Host that is none': pick<Draft['headers']>(
    [
      [],
      [['Host', '']],
      [['Host', 'a b']],
      [['Host', '@CANARY@/x?']],
      [['Host', 'a@b']],
      [['Host', '[::1']],
      [['Host', 'a:99999']],
      [['Host', 'GATEWAY.example:80']],
      [
        ['Host', 'a'],
        ['Host', 'b'],
      ],
      [['Host', '\xe9']],
    ],
    (hosts): Break =>
      (draft) => ({ ...draft, headers: [...hosts, ...without(draft.headers, 'host')] }),
  ),
  'an expectation': pick(['100-continue', '@CANARY@', ''], (value) => withHeader('Expect', value)),
  'an upgrade': pick(
    ['websocket', 'h2c', '@CANARY@'],
    (protocol) => (draft: Draft) =>
      withHeader('Upgrade', protocol)(withHeader('Connection', 'Upgrade')(draft)),
  ),
  'two framings': fc.constant<Break>((draft) => ({
    ...draft,
    framing: {
      headers: [
        ['Content-Length', '3'],
        ['Transfer-Encoding', 'chunked'],
      ],
      before: '3\r\n',
      after: '\r\n0\r\n\r\n',
    },
  })),
  TLS: fc.constant<Break>((draft) => ({ ...draft, method: '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' })),
}

/** Requests that never end by themselves, as it may be: the client ends its side. */
const unended: Breaks = {
  'a body that is longer than it says': fc.constant<Break>((draft) => ({
    ...withBody({ text: '{"name":"@CANARY@"}' })(draft),
    framing: { headers: [['Content-Length', '3']] },
  })),
  'a length that is none': pick(
    [
      '-1',
      'abc',
      '1e1',
      '0x10',
      '',
      ' ',
      '99999999999999999999',
      '1, 1',
      '5\r\nContent-Length: 6',
      '@CANARY@',
      '+3',
    ],
    (length): Break =>
      (draft) => ({ ...draft, framing: { headers: [['Content-Length', length]] } }),
  ),
  'a body that is shorter than it says': pick(
    ['100', '65536', '65537', '9999999999'],
    (length): Break =>
      (draft) => ({
        ...withBody({ text: '{"name":"@CANARY@"}' })(draft),
        framing: { headers: [['Content-Length', length]] },
      }),
  ),
  'a transfer coding': pick(
    ['gzip, chunked', 'chunked, chunked', 'identity', 'chunked, gzip', '@CANARY@', 'Chunked'],
    (coding): Break =>
      (draft) => ({ ...draft, framing: { headers: [['Transfer-Encoding', coding]], before: '0\r\n\r\n' } }),
  ),
  'chunks that are none': pick(
    [
      'zz\r\n',
      '-1\r\n',
      'ffffffffffffffff\r\n',
      '3;@CANARY@=1\r\n',
      '3\n',
      `3;${'x'.repeat(20_000)}\r\n`,
      '5\r\n{}\r\n0\r\n',
      '2\r\n{}XX0\r\n\r\n',
      `2\r\n{}\r\n0\r\nTrailer: @CANARY@\r\n\r\n`,
      '2\r\n{}\r\n0\r\nbad trailer\r\n\r\n',
    ],
    (before): Break =>
      ({ body: _, ...draft }) => ({
        ...draft,
        framing: { headers: [['Transfer-Encoding', 'chunked']], before },
      }),
  ),
  'no HTTP at all': fc.uint8Array({ minLength: 1, maxLength: 100 }).map((bytes): Break => (draft) => ({
    ...draft,
    method: Buffer.from(bytes).toString('latin1'),
  })),
}

/** Breaks after which another request may follow on the same connection, answered in order. */
const pipelined: Breaks = {
  // A server that was told that the connection ends here need not read on.
  'twice without waiting': fc.constant<Break>((draft) => ({
    ...draft,
    headers: without(draft.headers, 'connection'),
    copies: draft.raw ? 1 : 2,
  })),
}

const drawn = (weight: number, breaks: Breaks, more: Partial<Draft> = {}) => ({
  weight,
  arbitrary: fc.oneof(
    ...Object.entries(breaks).map(([name, arbitrary]) =>
      arbitrary.map((change): Break => (draft) => {
        const broken = change(draft)
        return { ...broken, ...more, mutations: [...broken.mutations, name] }
      }),
    ),
  ),
})

/** One break of the request. `bare` adds those for which the client must own its socket. */
export const anyBreak = (bare: boolean): fc.Arbitrary<Break> =>
  fc.oneof(
    drawn(6, bodies),
    drawn(4, documented),
    drawn(4, requestLines),
    drawn(3, headers),
    ...(bare
      ? [
          drawn(4, raw, { raw: true, copies: 1 }),
          drawn(1, unended, { raw: true, halfClose: true, copies: 1 }),
          drawn(1, pipelined),
        ]
      : []),
  )

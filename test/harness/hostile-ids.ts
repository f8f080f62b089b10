import { connect } from 'node:net'
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Sandbox, startSandbox } from '../../sandbox/server.ts'
import { encodePart } from '../../src/model/resource-id.ts'
import { keys } from './configuration.ts'
import { type Control, controlOf, type Json } from './sandbox-calls.ts'

/** A gateway in front of a sandbox of its own. */
export interface HostileTarget {
  start(urls: Sandbox['urls']): Promise<{ url: string; close(): Promise<unknown> }>
  /** Whether the runtime hands on the URL that it made of a target, in which dots are resolved, and not the target. */
  resolvesDots: boolean
}

// A sandbox of its own: whatever it sees comes from here, so that "no upstream call" can be taken literally.
export function hostileIds({ start, resolvesDots }: HostileTarget): void {
  let sandbox: Sandbox
  let gateway: { url: string; close(): Promise<unknown> }
  let controls: Record<'commerceLayer' | 'discue' | 'apinizer', Control>

  beforeAll(async () => {
    sandbox = await startSandbox({ limits: 'off' })
    gateway = await start(sandbox.urls)
    const { commerceLayer, discue, apinizer } = sandbox.urls
    controls = {
      commerceLayer: controlOf(commerceLayer),
      discue: controlOf(discue),
      apinizer: controlOf(apinizer),
    }
  })
  afterAll(async () => {
    await gateway.close()
    await sandbox.close()
  })

  interface RawAnswer {
    status: number
    headers: Headers
    body: string
  }

  /** One request over a bare socket, byte by byte as it stands here: `fetch` would put the target in order first. */
  function send(method: string, target: string, body?: object): Promise<RawAnswer> {
    const content = body === undefined ? '' : JSON.stringify(body)
    const head = [
      `${method} ${target} HTTP/1.1`,
      'Host: gateway.example',
      `X-API-Key: ${keys.admin}`,
      'Content-Type: application/json',
      `Content-Length: ${Buffer.byteLength(content)}`,
      'Connection: close',
    ]
    const { port, hostname } = new URL(gateway.url)
    return new Promise((resolve, reject) => {
      const socket = connect(Number(port), hostname)
      const chunks: Buffer[] = []
      socket.setTimeout(15_000, () => socket.destroy(new Error(`no answer to ${JSON.stringify(target)}`)))
      socket.on('data', (chunk) => chunks.push(chunk))
      socket.once('close', () => resolve(readAnswer(Buffer.concat(chunks).toString())))
      // A refused request may be cut while the rest of it is still on its way: what was answered counts.
      socket.once('error', (error) => (chunks.length === 0 ? reject(error) : undefined))
      socket.write(
        Buffer.concat([Buffer.from(`${head.join('\r\n')}\r\n\r\n`, 'latin1'), Buffer.from(content)]),
      )
    })
  }

  function readAnswer(text: string): RawAnswer {
    const [head = '', body = ''] = text.split(/\r\n\r\n(.*)/s)
    const [statusLine = '', ...lines] = head.split('\r\n')
    const headers = new Headers(lines.map((line) => line.split(/: (.*)/s).slice(0, 2) as [string, string]))
    return { status: Number(statusLine.split(' ')[1]), headers, body }
  }

  /** Everything that the providers have seen since the last time, as `METHOD path`. Tokens are fetched when they are. */
  async function seenUpstream(): Promise<string[]> {
    const all = await Promise.all(
      Object.values(controls).map(async (control) => {
        const { entries } = await control.send('GET', `/requests?after=${seenBefore.get(control) ?? 0}`)
        if (entries.length > 0) seenBefore.set(control, entries.at(-1).seq)
        return entries.map(({ method, path }: Json) => `${method} ${path}`)
      }),
    )
    return all.flat().filter((request) => request !== 'POST /oauth/token')
  }
  const seenBefore = new Map<Control, number>()

  /** A place where a part of an id can stand; `real` makes it the id of a resource that exists. */
  interface Place {
    real: string
    id(part: string): string
    body: object
  }
  const places: Record<string, Place> = {
    'an alias': { real: 'seed-credential', id: (part) => part, body: { reference: 'x' } },
    'a connection name': {
      real: 'commerce-layer',
      id: (part) => `${part}:xYZkjABcde`,
      body: { reference: 'x' },
    },
    'a Commerce Layer id': {
      real: 'xYZkjABcde',
      id: (part) => `commerce-layer:${part}`,
      body: { reference: 'x' },
    },
    'a Discue id': {
      real: '5bc2be68-7498-4853-aa64-4be0ca62934e',
      id: (part) => `discue:${part}`,
      body: { name: 'example.com/x' },
    },
    'an Apinizer project': {
      real: 'MyProject',
      id: (part) => `apinizer:${part}:api-user`,
      body: { secret: 'x', name: 'X' },
    },
    'an Apinizer user name': {
      real: 'api-user',
      id: (part) => `apinizer:MyProject:${part}`,
      body: { secret: 'x' },
    },
  }

  function words(text: TemplateStringsArray): string[] {
    return String.raw(text).trim().split(/\s+/)
  }

  /** Refused wherever it stands in a part. */
  const structural = [
    // Separators, bare and escaped, and what a second decoding would make of them.
    ...words`/ \ ?x # //
    %2F %2f %5C %5c %3F %3f %23 %3A %3a
    %25 %252F %252f %255C %253A %252e %25%32%66 %2500`,
    // Characters that compatibility normalization (NFKC) turns into separators, alone or within a longer text.
    ...words`%EF%BC%8F %EF%BC%BC %EF%BC%9F %EF%BC%83 %EF%BC%85 %EF%BC%9A
    %EF%B9%95 %EF%B9%A8 %EF%B9%AA %EF%B9%9F %EF%B9%96 %E2%84%80 %E2%84%85 %E2%81%87 %E2%A9%B4`,
    // Format characters and separators of lines, which nobody sees, and what is not in NFC.
    ...words`%EF%BB%BF %E2%80%8B %E2%80%8D %E2%80%AE %E2%81%A6 %C2%AD %F3%A0%80%81 %E2%80%A8 %E2%80%A9 a%CC%81 %E2%84%AB %EF%A4%80`,
    // Control characters.
    ...words`%00 %01 %08 %09 %0A %0a %0B %0C %0D %0D%0A %0d%0a %1B %1F %7F %C2%80 %C2%85 %C2%9F
    %0d%0aX-Injected:b %00.json`,
    // Escapes and UTF-8 that are malformed, overlong, out of range, or half of a surrogate pair.
    ...words`% %g1 %zz %%% %u002e %FF %80 %C3 %C0%AE %c0%af %C1%9C %E0%80%AF %F0%80%80%AF %F8%80%80%80%AF
    %ED%A0%80 %ED%B0%80 %ED%A0%BD%ED%B8%80 %F4%90%80%80 %F5%80%80%80`,
    // Bytes that must not stand in a request at all.
    '\0',
    '\r',
    '\n',
    '\r\n',
    '\t',
    '\v',
    '\f',
    ' x',
    '\x1b',
    '\x7f',
    '\x80',
    '\xff',
    '\xc0\xae',
    '\xef\xbb\xbf',
  ]

  /** Refused as a whole part, because it names no resource but the place where one stands. */
  const dots = words`. .. %2e %2E %2e%2e %2E%2E .%2e %2e. .%2E
  %EF%BC%8E %EF%BC%8E%EF%BC%8E .%EF%BC%8E %E2%80%A4 %E2%80%A4%E2%80%A4 .%E2%80%A4 %E2%80%A5 %EF%B9%92 %EF%B9%92%2e`

  /** Refused as a whole part: ways to other routes, other resources, or out of bounds. */
  const wholes = [
    ...words`../ ./ ..%2f ..%5c ..\ %2e%2e/ %2e%2e%2f .%2e/ ..;/ ..%3b/ ..%00/ ..%0d/ ....// ..%ff/
    ../audit ../providers ./seed-credential ../credentials/seed-credential
    %2e%2e/credentials/seed-credential .%2E/credentials/seed-credential x/../seed-credential
    ..\credentials\seed-credential ..%2fcredentials%2fseed-credential ..%255caudit
    x/../commerce-layer:xYZkjABcde ../../_sandbox/reset ..%2f..%2f_sandbox%2freset
    http://evil.example/ //evil.example/ \\evil.example\ @evil.example/ :@evil.example`,
    '',
    ':',
    '::',
    '%',
    '%2',
    'a'.repeat(256),
    'a'.repeat(4096),
    'a'.repeat(20_000),
    '%41'.repeat(300),
    '%C3%BC'.repeat(256),
  ]

  /** Further parts that the grammars of aliases, connection names and opaque ids refuse; an Apinizer name may be so. */
  const beyondOpaque = words`; ;jsessionid=1 %3B + @ ~ ! * ' ( & = , %22 %3C %7B %7D {id} $& %24%26 %7C %60 %5E
  %C3%BC %F0%9F%98%80 %E2%88%95 %C4%B0 a%20b`

  /** Refused at an end of a part. */
  const spaces = words`%20 %C2%A0 %E3%80%80`

  /** The answer is a refusal: a problem document of ours, or the bare 400 or 431 of Node's parser. */
  function expectRefused({ status, headers, body }: RawAnswer, what: string): void {
    expect(status, what).toBeGreaterThanOrEqual(400)
    expect(status, what).toBeLessThan(500)
    if (headers.has('x-request-id')) {
      expect(headers.get('content-type'), what).toBe('application/problem+json')
      expect(JSON.parse(body), what).toMatchObject({ status, type: expect.stringMatching(/^\/problems\//) })
    } else {
      expect([400, 431], what).toContain(status)
    }
  }

  /** A colon may be encoded. */
  const spellings = (id: string): string[] => [...new Set([id, id.replaceAll(':', '%3A')])]

  /** Whether the runtime sees the target as it was sent. */
  const arrives = (target: string): boolean =>
    !resolvesDots || URL.parse(target, 'http://gateway.example')?.pathname === target.split('?')[0]

  /** GET and PUT with each of the parts: all refused, and no provider has seen anything. */
  async function expectAllRefused({ id, body }: Place, parts: string[]): Promise<void> {
    const targets = parts
      .flatMap((part) => spellings(id(part)))
      .map((spelled) => `/credentials/${spelled}`)
      .filter(arrives)
    const answers = targets.flatMap((target) =>
      ['GET', 'PUT'].map(async (method) => {
        const answer = await send(method, target, method === 'PUT' ? body : undefined)
        return { answer, what: `${method} ${JSON.stringify(target).slice(0, 200)}` }
      }),
    )
    const refused = await Promise.all(answers)
    const seen = await seenUpstream()
    for (const { answer, what } of refused) expectRefused(answer, what)
    expect(seen).toEqual([])
  }

  const quoted = (text: string): [string, string] => {
    const shown = JSON.stringify(text)
    return [shown.length > 60 ? `${shown.slice(0, 40)}… (${text.length} characters)` : shown, text]
  }

  describe.each(Object.entries(places))('in %s', (name, place) => {
    const { real } = place
    const apinizer = name.includes('Apinizer')

    test.each(structural.map(quoted))(
      '%s is refused in the middle, at the end and on a way up',
      async (_, text) => {
        const middle = real.slice(0, 3) + text + real.slice(3)
        await expectAllRefused(place, [middle, real + text, `${real}${text}..${text}${real}`])
      },
    )

    test.each([...dots, ...wholes].map(quoted))('%s is refused', async (_, part) => {
      await expectAllRefused(place, [part])
    })

    test.each(spaces.map(quoted))('%s is refused at an end', async (_, space) => {
      await expectAllRefused(place, [space, space + real, real + space])
    })

    if (!apinizer) {
      test.each(beyondOpaque.map(quoted))('%s is refused', async (_, text) => {
        await expectAllRefused(place, [text, real + text])
      })
    }
  })

  test('there are more than two hundred hostile ids in every place, in each spelling', () => {
    for (const { id, real } of Object.values(places)) {
      const parts = [
        ...structural.flatMap((text) => [real.slice(0, 3) + text + real.slice(3), real + text]),
        ...dots,
        ...wholes,
      ]
      const literal = parts.map((part) => `/credentials/${id(part)}`)
      expect(literal.filter(arrives).length).toBeGreaterThan(200)
      expect(literal.map((target) => target.replaceAll(':', '%3A')).filter(arrives).length).toBeGreaterThan(
        200,
      )
    }
  })

  test('an id of more than 1,024 bytes is refused, and one of 1,024 is not', async () => {
    // 200 characters of three bytes each, because the provider's own bound of 255 is in characters.
    const project = encodeURIComponent('名'.repeat(200))
    const id = (part: string) => `apinizer:${project}:${part}`
    const rest = 1024 - 'apinizer::'.length - 3 * 200
    const longest = encodeURIComponent('ü'.repeat(rest / 2))
    await expectAllRefused({ real: '', id, body: { secret: 'x' } }, [
      `${longest}x`,
      longest.replace('%C3%BC', '%E5%90%8D'),
    ])
    for (const spelled of spellings(id(longest))) {
      expect((await send('GET', `/credentials/${spelled}`)).status).toBe(404)
      expect(await seenUpstream()).toEqual([`GET /apiops/projects/${project}/credentials/`])
    }
  })

  test('a key with a part too many or too few is refused', async () => {
    const commerceLayer = places['a Commerce Layer id'] as Place
    await expectAllRefused(commerceLayer, ['xYZkjABcde:', ':xYZkjABcde', 'xYZkjABcde:xYZkjABcde'])
    for (const id of ['apinizer', 'apinizer:MyProject', 'apinizer:MyProject:api-user:more', 'discue']) {
      await expectAllRefused({ real: '', id: (part) => part, body: { secret: 'x' } }, [id, `${id}:`])
    }
  })

  test('an address that leads past the route is refused', async () => {
    const targets = [
      '/x/../credentials/seed-credential',
      '/credentials/./seed-credential',
      '/%63redentials/../credentials/seed-credential',
      '/./credentials/seed-credential',
      '\\credentials\\seed-credential',
      '/credentials\\seed-credential',
      '//credentials/seed-credential',
      'credentials/seed-credential',
      '*',
    ]
    for (const target of targets.filter(arrives)) expectRefused(await send('GET', target), target)
    expect(await seenUpstream()).toEqual([])
  })

  describe('an Apinizer name may be unusual, and stands in the path as the one segment that it is', () => {
    test.each(beyondOpaque.map(quoted))('%s', async (_, text) => {
      // A bare character that URLs escape may be refused as well as be escaped.
      const part = decodeURIComponent(text)
      const segment = encodePart(part)
      const spelled = /["{}|^`<>]/.test(text) ? segment : text

      const project = await send('GET', `/credentials/apinizer:${spelled}:api-user`)
      expectRefused(project, 'there is no such project')
      expect(await seenUpstream()).toEqual([`GET /apiops/projects/${segment}/credentials/`])

      await controls.apinizer.mint('credential', `MyProject/${part}`, { email: 'a@b.example' })
      const own = `/apiops/projects/MyProject/credentials/`
      const rotated = await send('PUT', `/credentials/apinizer:MyProject:${spelled}`, { secret: 'rotated' })
      expect(rotated.status).toBe(200)
      expect(JSON.parse(rotated.body).credential.id).toBe(`apinizer:MyProject:${part}`)
      expect(await seenUpstream()).toEqual([`GET ${own}`, `PATCH ${own}${segment}/`])

      const changed = await send('PUT', `/credentials/apinizer:MyProject:${spelled}`, {
        secret: 's',
        name: `Name ${text}`,
      })
      expect(changed.status).toBe(200)
      // The provider's answer does not tell the name, so it is read.
      expect(await seenUpstream()).toEqual([`GET ${own}`, `PUT ${own}`, `GET ${own}`])
      expect((await controls.apinizer.ledger()).at(-1)).toMatchObject({
        id: `MyProject/${part}`,
        body: { username: part, fullName: `Name ${text}` },
      })
    })
  })

  test.each(['constructor', 'toString', 'hasOwnProperty', '__proto__', 'valueOf'])(
    '%s is an Apinizer name like any other',
    async (name) => {
      await controls.apinizer.mint('credential', `${name}/${name}`, {})
      const reply = await send('PUT', `/credentials/apinizer:${name}:${name}`, { secret: 'rotated' })
      const own = `/apiops/projects/${name}/credentials/`
      expect(await seenUpstream()).toEqual([`GET ${own}`, `PATCH ${own}${name}/`])
      expect(reply.status).toBe(200)
      expect(JSON.parse(reply.body).credential.id).toBe(`apinizer:${name}:${name}`)
    },
  )

  describe('a legal id comes back as plain text', () => {
    beforeAll(() => controls.apinizer.mint('credential', 'MyProject/user@example.com', {}))

    test.each([
      ['apinizer:MyProject:other%20user', 'apinizer:MyProject:other user'],
      ['apinizer%3AMyProject%3aother%20user', 'apinizer:MyProject:other user'],
      ['apinizer:MyProject:%6fther%20user', 'apinizer:MyProject:other user'],
      ['apinizer:%4d%79Project:%61pi-user', 'apinizer:MyProject:api-user'],
      ['apinizer:MyProject:api%2duser', 'apinizer:MyProject:api-user'],
      ['apinizer:MyProject:api%2Duser', 'apinizer:MyProject:api-user'],
      ['apinizer:MyProject:user@example.com', 'apinizer:MyProject:user@example.com'],
      ['apinizer:MyProject:user%40example%2ecom', 'apinizer:MyProject:user@example.com'],
      ['commerce-layer:%78YZkj%41Bcde', 'commerce-layer:xYZkjABcde'],
      ['seed-credential', 'commerce-layer:xYZkjABcde'],
      ['%73eed-credential', 'commerce-layer:xYZkjABcde'],
      ['commerce%2Dlayer:xYZkjABcde', 'commerce-layer:xYZkjABcde'],
      ['discue:V1StGXR8%5fZ5jdHi6B%2dmyT', 'discue:V1StGXR8_Z5jdHi6B-myT'],
    ])('%s', async (spelled, canonical) => {
      const read = await send('GET', `/credentials/${spelled}`)
      expect(read.status).toBe(200)
      expect(JSON.parse(read.body).id).toBe(canonical)
      await seenUpstream()
    })

    test('in the audit too', async () => {
      const spelled = '/credentials/apinizer:%4dyProject:other%20user'
      const reply = await send('PUT', spelled, { secret: 'rotated', description: 'spelled' })
      const { credential, changeId } = JSON.parse(reply.body)
      expect(credential.id).toBe('apinizer:MyProject:other user')
      expect(await seenUpstream()).toEqual([
        'GET /apiops/projects/MyProject/credentials/',
        'PUT /apiops/projects/MyProject/credentials/',
        'GET /apiops/projects/MyProject/credentials/',
      ])
      expect((await controls.apinizer.ledger()).at(-1).body.username).toBe('other user')
      const events = JSON.parse((await send('GET', `/audit?change=${changeId}`)).body).data
      expect(events.map(({ resource }: Json) => resource)).toEqual([credential.id, credential.id])
    })

    test('an empty query is none', async () => {
      expect((await send('GET', '/credentials/discue:V1StGXR8_Z5jdHi6B-myT?')).status).toBe(200)
    })
  })

  describe('whatever the parts of an id are', () => {
    // Text that is dense in what attacks are made of, and text that is anything; each spelled in several ways.
    const fragment = fc.constantFrom(
      '.',
      '..',
      '/',
      '\\',
      '%',
      ':',
      '?',
      '#',
      ';',
      ' ',
      '\0',
      '\n',
      'ü',
      '．',
      '／',
      'a',
    )
    const part = fc.oneof(
      fc.array(fragment, { minLength: 1, maxLength: 4 }).map((fragments) => fragments.join('')),
      fc.string({ unit: 'binary', minLength: 1, maxLength: 40 }),
      fc.string({ unit: 'grapheme', minLength: 1, maxLength: 300 }),
      fc.stringMatching(/^[A-Za-z0-9_-]{1,70}$/),
    )
    const spelling = fc.constantFrom<(text: string) => string>(
      encodePart,
      (text) => encodePart(text).replace(/%../g, (escape) => escape.toLowerCase()),
      (text) => Buffer.from(text).reduce((all, byte) => `${all}%${byte.toString(16).padStart(2, '0')}`, ''),
    )

    /** Refused without any upstream call, or sent to exactly the paths that the provider's templates give for the parts. */
    async function expectAtHome(method: string, id: string, body: object, expected: string[]): Promise<void> {
      const answer = await send(method, `/credentials/${id}`, body)
      const seen = await seenUpstream()
      if (answer.status !== 200) expectRefused(answer, id)
      expect(seen).toEqual(answer.status === 200 ? expected : expected.slice(0, seen.length))
    }

    test('a Commerce Layer id is refused, or the last segment of the path', async () => {
      await fc.assert(
        fc.asyncProperty(part, spelling, async (id, spell) => {
          await expectAtHome('PUT', `commerce-layer:${spell(id)}`, { reference: 'x' }, [
            `GET /api/api_credentials/${encodePart(id)}?include=role`,
          ])
        }),
        { numRuns: 150 },
      )
    })

    test('a Discue id is refused, or the last segment of the path', async () => {
      await fc.assert(
        fc.asyncProperty(part, spelling, async (id, spell) => {
          await expectAtHome('PUT', `discue:${spell(id)}`, { name: 'example.com/any' }, [
            `PUT /v1/api_clients/${encodePart(id)}`,
          ])
        }),
        { numRuns: 150 },
      )
    })

    test('an Apinizer project and user name are refused, or one segment each', async () => {
      await fc.assert(
        fc.asyncProperty(part, part, spelling, async (project, username, spell) => {
          if (!project.includes('/')) await controls.apinizer.mint('credential', `${project}/${username}`, {})
          const own = `/apiops/projects/${encodePart(project)}/credentials/`
          const id = `apinizer:${spell(project)}:${spell(username)}`
          await expectAtHome('PUT', id, { secret: 'any' }, [
            `GET ${own}`,
            `PATCH ${own}${encodePart(username)}/`,
          ])
        }),
        { numRuns: 150 },
      )
    })
  })
}

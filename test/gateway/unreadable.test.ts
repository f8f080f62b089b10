import { useGateway } from '#gateway'
import { describe, expect, test } from 'vitest'
import { keys } from '../harness/configuration.ts'
import {
  type Answer,
  eventsOf,
  freshId,
  get,
  mintApinizer,
  mintCommerceLayer,
  providers,
  put,
} from '../harness/gateway-calls.ts'
import type { Json } from '../harness/sandbox-calls.ts'

// What a provider tells of fields and of resources that nobody asked for decides nothing; and what is sent back to it is sent as it was
// spelled. Its answers are rewritten as text, because no emulator would write them by itself.

useGateway()

const deep = (levels: number): string => `${'['.repeat(levels)}${']'.repeat(levels)}`

/** JSON that stands where a value was; `bytes` where it is not UTF-8. */
const ways: Record<string, string> = {
  null: 'null',
  true: 'true',
  false: 'false',
  zero: '0',
  'minus zero': '-0',
  'an integer beyond 2^53': '12345678901234567890',
  'a negative one': '-9007199254740993',
  'a number beyond all': '1e400',
  'a number that is too small': '1e-400',
  'a float': '1.50',
  'a float with an exponent': '1E+2',
  'an empty text': '""',
  'a text': '"text"',
  'a text of a number': '"7200"',
  'a text of a flag': '"true"',
  'a high surrogate alone': '"\\ud800"',
  'a low surrogate alone': '"x\\udfffy"',
  'a text that is no UTF-8': '"\xff\xfe"',
  'a long text': `"${'x'.repeat(10_000)}"`,
  'an empty object': '{}',
  'an object': '{"a":1}',
  'an object with a number beyond 2^53': '{"a":{"b":[12345678901234567890]}}',
  'an object with a name that is not well-formed': '{"\\ud800":1}',
  'a nested object': `{"a":${deep(200)}}`,
  'an empty list': '[]',
  'a list with null': '[null]',
  'a list of numbers': '[1]',
  'a list that is not of one type': '["x",null]',
  'a list with a surrogate': '["\\udc00"]',
  'a list in a list': '[["x"]]',
  'depths without end': deep(20_000),
  'a date with six digits': '"2030-12-31T23:59:59.000000Z"',
  'a date with nanoseconds': '"2030-12-31T23:59:59.123456789Z"',
  'a date without an offset': '"2030-12-31T23:59:59"',
  'a date beyond 9999': '"9999-12-31T23:59:59-01:00"',
  'a moment in milliseconds': '1924991999000',
}

const isText = (json: string) => json.startsWith('"') && !/\\u|\xff/.test(json)
const isDate = (json: string) => /^"\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)"$/.test(json)
const isList = (json: string) => json === '[]'
const isFlag = (json: string) => json === 'true' || json === 'false'
const orNull = (is: (json: string) => boolean) => (json: string) => json === 'null' || is(json)
const isExactObject = (json: string) => json === '{}' || json === '{"a":1}'
const isExactInteger = (json: string) => ['0', '-0', '1e-400', '1E+2', '1924991999000'].includes(json)

interface Told {
  /** Of the model. */
  name: string
  /** What the field may be; by the provider's own description, and not by what the gateway makes of it. */
  isUsable(json: string): boolean
  /** What can be sent back to it though it cannot be shown. */
  isSendable?(json: string): boolean
  own?: unknown
}

/** `"member":value` in a text, as it stands there. */
function spelledIn(text: string, member: string): string | undefined {
  const start = text.indexOf(`"${member}":`)
  if (start === -1) return undefined
  const from = start + member.length + 3
  let depth = 0
  let quoted = false
  for (let at = from; at < text.length; at++) {
    const character = text[at] as string
    if (quoted) {
      if (character === '\\') at += 1
      else if (character === '"') quoted = false
    } else if (character === '"') quoted = true
    else if ('[{'.includes(character)) depth += 1
    else if (']},'.includes(character)) {
      if (depth === 0) return text.slice(from, at)
      if (character !== ',') depth -= 1
    }
  }
  return undefined
}

const problem = ({ status, body }: Answer): unknown => [status, body.type]

describe('Apinizer', () => {
  const { apinizer } = providers()
  const fields: Record<string, Told> = {
    email: { name: 'email', isUsable: isText, own: 'own@example.com' },
    fullName: { name: 'name', isUsable: isText, own: 'Own' },
    description: { name: 'description', isUsable: orNull(isText), own: 'own' },
    roleNameList: { name: 'roles', isUsable: isList, own: ['DEVELOPER'] },
    enabled: { name: 'enabled', isUsable: isFlag, own: true },
    ipList: { name: 'allowedIps', isUsable: isList, own: ['10.1.1.1'] },
    expireDate: {
      name: 'expiresAt',
      isUsable: orNull((json) => isDate(json) && !/\.\d{3}\d*[1-9]|^"9999/.test(json)),
      isSendable: orNull(isDate),
      own: '2031-01-01T00:00:00.000Z',
    },
    metadata: {
      name: 'metadata',
      isUsable: (json) => json === '[]' || json === 'null',
    },
  }
  const minted = {
    roleNameList: ['API_USER'],
    ipList: ['10.0.0.1'],
    metadata: [{ key: 'team', value: 'billing' }],
  }
  const spelled = {
    roleNameList: '["API_USER"]',
    ipList: '["10.0.0.1"]',
    metadata:
      '[{"key":"team","value":"billing","secret":false,"includeInJwt":false,"includeInTokenResponse":false,"jwtClaimName":null}]',
  }

  /** One credential whose list tells `json` in place of `member`. */
  async function subject(member: string, json: string) {
    const { id, project } = await mintApinizer(minted)
    const fault = {
      tell: { [member]: `@@${member}` },
      rewrite: [{ find: `"@@${member}"`, replace: json, bytes: /\xff/.test(json) }],
    }
    await apinizer.fault(fault, { match: { method: 'GET', path: project }, times: null })
    await apinizer.fault({ record: true }, { match: { path: project }, times: null })
    const writes = async () =>
      (await apinizer.requests()).filter(
        ({ method, path }: Json) => method !== 'GET' && path.includes(project),
      )
    return { path: `/credentials/${id}`, id, writes }
  }

  test.each(Object.entries(fields))(
    'one’s own %s in any form',
    async (member, { name, isUsable, isSendable = isUsable, own }) => {
      // An empty one of these is taken from nobody, however it came to be there.
      const possible = Object.entries(ways).filter(
        ([, json]) => json !== '""' || !['email', 'fullName'].includes(member),
      )
      await Promise.all(
        possible.map(async ([way, json]) => {
          const { path, writes } = await subject(member, json)
          const what = `${member} is ${way}`
          const read = await get(path)
          expect({ what, status: read.status }).toEqual({ what, status: 200 })
          const told = isUsable(json) ? undefined : [name]
          expect({ what, unreadable: read.body.unreadable }).toEqual({ what, unreadable: told })
          if (told) expect({ what, value: read.body[name] }).toEqual({ what, value: null })
          expect(read.body).toMatchObject(
            name === 'email' ? { name: 'API User' } : { email: 'user@example.com' },
          )

          // What touches nothing else needs nothing else.
          const secret = await put(path, { secret: 'another' })
          expect({ what, status: secret.status }).toEqual({ what, status: 200 })
          expect((await writes()).map(({ method, text }: Json) => [method, text])).toEqual([
            ['PATCH', '{"password":"[masked]"}'],
          ])

          const other = name === 'email' ? 'name' : 'email'
          const change = { secret: 'third', [other]: other === 'name' ? 'Other' : 'other@example.com' }
          const whole = await put(path, change)
          const [, sent] = await writes()
          if (isSendable(json)) {
            expect({ what, status: whole.status }).toEqual({ what, status: 200 })
            const untouched = { ...spelled, [member]: json }
            for (const [upstream, value] of Object.entries(untouched)) {
              // What is no metadata is not sent as none.
              const expected = upstream === 'metadata' && value === 'null' ? undefined : value
              const found = spelledIn(sent.text, upstream)
              expect({ what, [upstream]: found }).toEqual({ what, [upstream]: expected })
            }
          } else {
            expect({ what, status: [422, 502].includes(whole.status) }).toEqual({ what, status: true })
            expect({ what, errors: whole.body.errors }).toMatchObject({
              what,
              errors: [{ pointer: `#/${name}` }],
            })
            expect(sent).toBeUndefined()
            if (own === undefined) return
            const completed = await put(path, { ...change, [name]: own })
            // What is told afterwards is what was told before.
            expect({ what, status: completed.status }).toEqual({ what, status: 200 })
            expect(completed.body.widens).toBe(['roles', 'enabled', 'allowedIps', 'expiresAt'].includes(name))
            expect(JSON.parse((await writes())[1].text)).toMatchObject({ [member]: own })
          }
        }),
      )
    },
    60_000,
  )

  test('another row of the list in any form', async () => {
    const rows = Object.entries(ways).flatMap(([way, json]) => [
      [`a row that is ${way}`, json],
      [`a user name that is ${way}`, `{"username":${json},"email":"x@example.com"}`],
      [`a description that is ${way}`, `{"username":"somebody","description":${json}}`],
      [`two members, one of them ${way}`, `{"username":"other","username":${json},"__proto__":${json}}`],
    ])
    await Promise.all(
      rows.map(async ([what, row = '']) => {
        const { id, project } = await mintApinizer(minted)
        const fault = {
          rewrite: [{ find: '"resultList":[', replace: `"resultList":[${row},`, bytes: /\xff/.test(row) }],
        }
        await apinizer.fault(fault, { match: { method: 'GET', path: project }, times: null })
        const path = `/credentials/${id}`
        expect({ what, status: (await get(path)).status }).toEqual({ what, status: 200 })
        const secret = await put(path, { secret: 'another' })
        const whole = await put(path, { secret: 'third', name: 'Other' })
        expect({ what, statuses: [secret.status, whole.status] }).toEqual({ what, statuses: [200, 200] })
      }),
    )
  }, 60_000)

  test.each([
    ['enabled', 'null', { enabled: false }],
    ['roleNameList', '"API_USER"', { roles: [] }],
    ['ipList', '{}', { allowedIps: ['10.0.0.1'] }],
    ['expireDate', '"soon"', { expiresAt: '2026-12-01T00:00:00Z' }],
  ])('nobody knows whether less is given than %s gave', async (member, json, body) => {
    const { path, id } = await subject(member, json)
    const plan = await put(`${path}?dryRun=true`, { secret: 's', ...body })
    const reply = await put(path, { secret: 's', ...body })
    expect([reply.status, plan.body.plan.widens, reply.body.widens]).toEqual([200, true, true])
    expect((await eventsOf(id))[0].widens).toBe(true)
  })

  test('metadata is sent back with the digits and the members that it has', async () => {
    const { path, writes, id } = await subject(
      'metadata',
      '[{"key":"n","value":12345678901234567890,"secret":false},{"key":"f","value":1.50,"__proto__":{"x":0.10},"more":1E+2}]',
    )
    const read = await get(path)
    expect([read.body.metadata, read.body.unreadable]).toEqual([null, ['metadata']])
    expect((await put(path, { secret: 's', name: 'Other' })).status).toBe(200)
    const [sent] = await writes()
    expect(spelledIn(sent.text, 'metadata')).toBe(
      '[{"key":"n","value":12345678901234567890,"secret":false},{"key":"f","value":1.50,"__proto__":{"x":0.10},"more":1E+2}]',
    )
    expect((await eventsOf(id)).at(-1).outcome).toBe('applied')
  })

  test('a date in six digits is shown in three and sent back in six', async () => {
    const { path, writes } = await subject('expireDate', '"2030-12-31T23:59:59.000000Z"')
    expect((await get(path)).body.expiresAt).toBe('2030-12-31T23:59:59.000Z')
    expect(
      (await put(path, { secret: 's', name: 'Other', expiresAt: '2031-01-01T01:59:59.0000+02:00' })).status,
    ).toBe(200)
    const [sent] = await writes()
    expect(spelledIn(sent.text, 'expireDate')).toBe('"2030-12-31T23:59:59.000000Z"')
  })
})

describe('Commerce Layer', () => {
  const { commerceLayer } = providers()
  const integer = orNull(isExactInteger)
  const optional = orNull(isText)
  const shared: Record<string, Told> = {
    reference: { name: 'reference', isUsable: optional },
    reference_origin: { name: 'referenceOrigin', isUsable: optional },
    metadata: { name: 'metadata', isUsable: orNull(isExactObject) },
  }
  const kinds: Record<
    string,
    { type: 'api_credentials' | 'roles' | 'permissions'; members: Record<string, Told> }
  > = {
    credential: {
      type: 'api_credentials',
      members: {
        ...shared,
        name: { name: 'name', isUsable: isText },
        expires_in: { name: 'tokenLifetime', isUsable: integer },
        redirect_uri: { name: 'redirectUri', isUsable: optional },
        mode: { name: 'mode', isUsable: optional },
        kind: { name: 'kind', isUsable: isText },
        confidential: { name: 'confidential', isUsable: isFlag },
        scopes: { name: 'scopes', isUsable: optional },
        created_at: { name: 'createdAt', isUsable: isText },
      },
    },
    role: {
      type: 'roles',
      members: {
        ...shared,
        name: { name: 'name', isUsable: isText },
        kind: { name: 'kind', isUsable: isText },
      },
    },
    permission: {
      type: 'permissions',
      members: {
        ...shared,
        can_read: { name: 'canRead', isUsable: isFlag },
        subject: { name: 'subject', isUsable: isText },
      },
    },
  }
  const all = Object.entries(kinds).flatMap(([kind, { type, members }]) =>
    Object.entries(members).map(([member, told]) => ({ kind, type, member, ...told })),
  )

  async function subject(
    type: 'api_credentials' | 'roles' | 'permissions',
    kind: string,
    member: string,
    json: string,
  ) {
    const key = await mintCommerceLayer(type)
    const fault = {
      record: true,
      tell: { [member]: `@@${member}` },
      rewrite: [{ find: `"@@${member}"`, replace: json, bytes: /\xff/.test(json) }],
    }
    await commerceLayer.fault(fault, { match: { path: key }, times: null })
    const writes = async () =>
      (await commerceLayer.requests()).filter(
        ({ method, path }: Json) => method === 'PATCH' && path.includes(key),
      )
    return { path: `/${kind}s/commerce-layer:${key}`, id: `commerce-layer:${key}`, writes }
  }

  test.each(all)(
    '$member of a $kind in any form',
    async ({ kind, type, member, name, isUsable }) => {
      await Promise.all(
        Object.entries(ways).map(async ([way, json]) => {
          const { path, writes } = await subject(type, kind, member, json)
          const what = `${member} is ${way}`
          const read = await get(path)
          const unreadable = isUsable(json) ? undefined : [name]
          expect({ what, status: read.status, unreadable: read.body.unreadable }).toEqual({
            what,
            status: 200,
            unreadable,
          })
          if (unreadable) expect({ what, value: read.body[name] }).toEqual({ what, value: null })
          const field = name === 'reference' ? 'referenceOrigin' : 'reference'
          const changed = await put(path, { [field]: 'changed' })
          expect({ what, status: changed.status, unreadable: changed.body[kind]?.unreadable }).toEqual({
            what,
            status: 200,
            unreadable,
          })
          const [{ text }] = (await writes()) as [Json]
          expect(JSON.parse(text).data.attributes).toEqual({
            [field === 'reference' ? 'reference' : 'reference_origin']: 'changed',
          })
        }),
      )
    },
    60_000,
  )

  test('merged metadata keeps the spelling of what nobody asked for', async () => {
    const { path, id, writes } = await subject(
      'roles',
      'role',
      'metadata',
      '{"big":12345678901234567890,"rate":1.50,"more":[0.10,{"e":1E+2}],"__proto__":{"z":-0},"old":1}',
    )
    const read = await get(path)
    expect([read.body.metadata, read.body.unreadable]).toEqual([null, ['metadata']])
    const plan = await put(`${path}?dryRun=true`, { metadata: { team: 'ops', old: null } })
    expect(plan.body.plan.request.body.data.attributes.metadata.big).toBe('[unreadable]')
    const reply = await put(path, { metadata: { team: 'ops', old: null } })
    expect(reply.status).toBe(200)
    const [{ text }] = (await writes()) as [Json]
    expect(spelledIn(text, 'metadata')).toBe(
      '{"big":12345678901234567890,"rate":1.50,"more":[0.10,{"e":1E+2}],"__proto__":{"z":-0},"team":"ops"}',
    )
    const { fields } = (await eventsOf(id))[0]
    expect(fields.metadata).not.toHaveProperty('from')
    expect(fields.metadata.to).toMatchObject({ big: '[unreadable]', team: 'ops' })
    expect(JSON.stringify([reply.body, plan.body])).not.toContain('123456789012345')
  })

  test('metadata that cannot be merged into is refused by its name, and set whole where that is asked for', async () => {
    const { path, writes } = await subject('roles', 'role', 'metadata', '"text"')
    const refused = await put(path, { metadata: { team: 'ops' } })
    expect([...(problem(refused) as unknown[]), refused.body.errors[0].pointer]).toEqual([
      422,
      '/problems/incomplete-representation',
      '#/metadata',
    ])
    expect(await writes()).toEqual([])
    const whole = { name: 'Whole', reference: null, referenceOrigin: null, metadata: { team: 'ops' } }
    expect((await put(`${path}?mode=replace`, whole)).status).toBe(200)
  })

  test('its source is a part of the tag', async () => {
    const key = await mintCommerceLayer('roles')
    const path = `/roles/commerce-layer:${key}`
    const telling = (replace: string, times: number) =>
      commerceLayer.fault(
        { tell: { reference: '@@' }, rewrite: [{ find: '"@@"', replace }] },
        { match: { method: 'GET', path: key }, times },
      )
    await telling('12345678901234567890', 2)
    await telling('12345678901234567891', 2)
    const tags: string[] = []
    for (let n = 0; n < 3; n++) tags.push((await get(path)).headers.get('etag') ?? '')
    expect([tags[1] === tags[0], tags[2] === tags[0]]).toEqual([true, false])
    expect((await put(path, { name: 'Late' }, { headers: { 'if-match': tags[0] as string } })).status).toBe(
      412,
    )
  })

  test('is never equal to what is asked for, and is not named to who may not read it', async () => {
    const { path, writes } = await subject('roles', 'role', 'reference', '{}')
    expect((await put(path, { reference: null })).body.changed).toBe(true)
    expect(await writes()).toHaveLength(1)
    const blind = await put(path, { name: 'Unseen' }, { key: keys.blind })
    expect([blind.status, blind.body.role.reference, blind.body.role.unreadable]).toEqual([
      200,
      '[hidden]',
      undefined,
    ])
    const named = { 'idempotency-key': freshId() }
    const first = await put(path, { name: 'Replayed' }, { headers: named })
    const replayed = await put(path, { name: 'Replayed' }, { headers: named })
    expect(first.body.role.unreadable).toEqual(['reference'])
    expect(replayed.body).toEqual(first.body)
  })

  test('a role that is not there is a fault of the role that the change names', async () => {
    const key = await mintCommerceLayer('api_credentials', { kind: 'integration' })
    await commerceLayer.fault({ status: 404 }, { match: { method: 'PATCH', path: key }, times: 2 })
    const reply = await put(`/credentials/commerce-layer:${key}`, { roles: ['ABCRtyUpBx'] })
    expect([...(problem(reply) as unknown[]), reply.body.errors[0].pointer]).toEqual([
      422,
      '/problems/upstream-validation-failed',
      '#/roles',
    ])
    expect(problem(await put(`/credentials/commerce-layer:${key}`, { name: 'Gone' }))).toEqual([
      404,
      '/problems/not-found',
    ])
  })
})

describe('a caller’s instant', () => {
  test.each([
    ['2031-01-01T00:00:00.000000000Z', '2031-01-01T00:00:00.000Z'],
    ['2031-01-01T02:00:00.1200000+02:00', '2031-01-01T00:00:00.120Z'],
    ['9999-12-31T23:59:59.999Z', '9999-12-31T23:59:59.999Z'],
  ])('%s is %s', async (expiresAt, instant) => {
    const { id } = await mintApinizer()
    const reply = await put(`/credentials/${id}`, { secret: 's', expiresAt })
    expect([reply.status, reply.body.fields.expiresAt?.to]).toEqual([200, instant])
  })

  test.each([
    '2031-01-01T00:00:00.0001Z',
    '9999-12-31T23:59:59-01:00',
    '0000-01-01T00:00:00+01:00',
    'soon',
    '2031-02-30T00:00:00Z',
  ])('%s is refused with a pointer', async (expiresAt) => {
    const { id } = await mintApinizer()
    const reply = await put(`/credentials/${id}`, { secret: 's', expiresAt })
    expect([reply.status, reply.body.errors[0].pointer]).toEqual([422, '#/expiresAt'])
  })
})

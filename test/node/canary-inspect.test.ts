import { inspect } from 'node:util'
import { serialize } from 'node:v8'
import { Semaphore } from 'async-mutex'
import { expect, inject, test } from 'vitest'
import { registry } from '../../adapters/index.ts'
import { readBody } from '../../src/change/merge.ts'
import { readConfig } from '../../src/config/read.ts'
import { Deadline } from '../../src/lib/deadline.ts'
import { deriveAuditKeys } from '../../src/lib/keyed-digests.ts'
import { Secret } from '../../src/lib/secret.ts'
import { limitConcurrency } from '../../src/upstream/concurrency-gate.ts'
import { createExchange } from '../../src/upstream/exchange.ts'
import { createSend } from '../../src/upstream/send.ts'
import { createTokens } from '../../src/upstream/sign-in.ts'
import { type Canary, canaryText, canaryToken, searchFor } from '../harness/canary-search.ts'
import { configuration, environment } from '../harness/configuration.ts'

// Whatever holds a secret may be printed, logged, thrown or sent on by mistake; that shows nothing.

const canaries = { secret: canaryText(), bytes: crypto.getRandomValues(new Uint8Array(32)) } satisfies Record<
  string,
  Canary
>
const env = Object.fromEntries(Object.keys(environment).map((name) => [name, canaryToken()]))
const search = searchFor({ ...canaries, ...env })

const config = readConfig(JSON.stringify(configuration(inject('sandbox'))), env, registry)
if (!config.ok) throw new Error(JSON.stringify(config.faults))
const connection = config.value.connections.get('commerce-layer')
const withToken = config.value.connections.get('apinizer')
const adapter = registry['commerce-layer']
const credential = registry['apinizer']?.kinds.credential
if (!connection || !withToken || !adapter || !credential) throw new Error('a part is missing')

const secret = new Secret(canaries.secret)
const body = readBody('credential', credential.fields, { secret: canaries.secret, name: 'After' }, 'merge')
const misread = readBody('credential', credential.fields, { secret: [canaries.secret] } as never, 'merge')
const send = createSend(fetch, () => false)
const traceparent = `00-${'1'.repeat(32)}-${'2'.repeat(16)}-01`
const inTurn = limitConcurrency(send, new Semaphore(1))
const tokens = createTokens(connection, inTurn)
const request = {
  method: 'PUT' as const,
  baseUrl: 'http://127.0.0.1:65529',
  template: '/x',
  ref: {},
  headers: {},
  body: { password: secret },
  credentials: { authorization: secret },
  traceparent,
  timeoutMs: 1000,
}
const carrying = (): Error => Object.assign(new Error('failed', { cause: secret }), { secret, request })

const holders: [string, () => unknown][] = [
  ['a secret', () => secret],
  ['a list, a map and a set of secrets', () => [[secret], new Map([['secret', secret]]), new Set([secret])]],
  ['the configuration', () => config.value],
  ['a body that was read', () => body],
  ['a body that was refused', () => misread],
  ['the keys of the audit', () => deriveAuditKeys({ id: 1, bytes: canaries.bytes })],
  ['a request to a provider', () => request],
  ['an error that carries both', carrying],
  ['several errors at once', () => new AggregateError([carrying()], 'several')],
  ['tokens that are fixed', () => createTokens(withToken, inTurn).signIn(new Deadline(1000), traceparent)],
  ['tokens that were refused', () => tokens.signIn(new Deadline(5000), traceparent)],
  ['the tokens of an account', () => tokens],
  ['the way to a provider', () => createExchange(connection, adapter, tokens, inTurn)],
  ['an answer that did not come', () => send(request)],
  [
    'credentials that fit into no header',
    () =>
      send({
        ...request,
        credentials: { authorization: new Secret(`${env['APINIZER_TOKEN']}\n${env['APINIZER_TOKEN']}`) },
      }),
  ],
  ['an id that fits into no address', () => send({ ...request, template: '/{id}', ref: { id: '..' } })],
]

/** What would have been thrown is shown as well. */
function attempted(show: () => unknown): string | Uint8Array {
  try {
    const shown = show()
    return shown instanceof Uint8Array ? shown : String(shown)
  } catch (error) {
    return `${String(error)} ${inspect(error, { depth: Infinity })} ${error instanceof Error ? error.stack : ''}`
  }
}

const everything = {
  depth: Infinity,
  showHidden: true,
  getters: true,
  maxArrayLength: null,
  maxStringLength: null,
}
const shows: Record<string, (value: unknown) => unknown> = {
  inspect: (value) => inspect(value),
  'inspect, everything': (value) => inspect(value, everything),
  'inspect, without its custom form': (value) => inspect(value, { ...everything, customInspect: false }),
  'JSON.stringify': (value) => JSON.stringify(value),
  'String and a template': (value) => `${String(value)}`,
  'the stack of an error': (value) => (value instanceof Error ? value.stack : new Error(String(value)).stack),
  'own members': (value) => inspect(Object.getOwnPropertyDescriptors(value), everything),
  structuredClone: (value) => inspect(structuredClone(value), everything),
  'structuredClone, in JSON': (value) => JSON.stringify(structuredClone(value)),
  serialize: (value) => serialize(value),
  'a spread': (value) => JSON.stringify({ ...(value as object) }),
  'a primitive': (value) => (value as { valueOf(): unknown }).valueOf(),
}

test.each(Object.entries(shows))('%s would show what is not held as a secret', (_, show) => {
  const text = canaries.secret
  expect(search(attempted(() => show(Object.assign(new String(text), { text }))))).not.toEqual([])
})

test.each(holders)('nothing shows what is in %s', async (_, holder) => {
  const value = await holder()
  const leaks = Object.entries(shows).flatMap(([how, show]) =>
    search(attempted(() => show(value))).map((leak) => `${how}: ${leak}`),
  )
  expect(leaks).toEqual([])
})

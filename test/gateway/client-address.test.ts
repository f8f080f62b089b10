import { reconfigure, runtime, useGateway } from '#gateway'
import { describe, expect, inject, test } from 'vitest'
import { readRange } from '../../src/lib/client-address.ts'
import { configuration } from '../harness/configuration.ts'
import { eventsOf, mintDiscue, put } from '../harness/gateway-calls.ts'
import type { Json } from '../harness/sandbox-calls.ts'

useGateway()

/** The peer of all requests: that of the socket, or what Cloudflare's edge says. */
const PEER = '127.0.0.1'
const fromPeer: Record<string, string> = runtime === 'workerd' ? { 'cf-connecting-ip': PEER } : {}

async function trust(...trustedProxies: string[]): Promise<void> {
  const document = configuration(inject('sandbox'), `${inject('issuers')}/${runtime}`) as Json
  await reconfigure({ ...document, trustedProxies })
}

/** The address that the audit has of a change that came with the headers. */
async function addressWith(headers: Record<string, string>): Promise<string> {
  const key = await mintDiscue()
  const reply = await put(
    `/credentials/discue:${key}`,
    { name: `a.${key}` },
    { headers: { ...fromPeer, ...headers } },
  )
  expect(reply.status).toBe(200)
  const [intent] = await eventsOf(`discue:${key}`)
  return intent.actor.address
}

const isPeer = (address: string): boolean => ['127.0.0.1', '::ffff:127.0.0.1'].includes(address)

test('without trusted proxies nobody’s word is taken', async () => {
  await trust()
  for (const headers of [{ 'x-forwarded-for': '203.0.113.9' }, { forwarded: 'for=203.0.113.9' }])
    expect(isPeer(await addressWith(headers))).toBe(true)
  await trust('10.0.0.0/8')
  expect(isPeer(await addressWith({ 'x-forwarded-for': '203.0.113.9' }))).toBe(true)
})

describe('behind trusted proxies', () => {
  const cases: [string, Record<string, string>, string][] = [
    ['one hop', { 'x-forwarded-for': '203.0.113.9' }, '203.0.113.9'],
    [
      'what a client made up stays on the left',
      { 'x-forwarded-for': '1.1.1.1, 203.0.113.9, 10.1.2.3' },
      '203.0.113.9',
    ],
    ['only proxies', { 'x-forwarded-for': '10.9.9.9, 10.1.2.3' }, '10.9.9.9'],
    ['a port', { 'x-forwarded-for': '203.0.113.9:4711' }, '203.0.113.9'],
    ['IPv6', { 'x-forwarded-for': '2001:db8::9' }, '2001:db8::9'],
    ['IPv6 with a port', { 'x-forwarded-for': '[2001:db8::9]:4711' }, '2001:db8::9'],
    ['a mapped address', { 'x-forwarded-for': '::ffff:203.0.113.9' }, '203.0.113.9'],
    ['a mapped proxy', { 'x-forwarded-for': '203.0.113.9, ::ffff:10.1.2.3' }, '203.0.113.9'],
    ['a word', { 'x-forwarded-for': '203.0.113.9, unknown, 10.1.2.3' }, '10.1.2.3'],
    ['nothing', { 'x-forwarded-for': '' }, PEER],
    ['rubbish', { 'x-forwarded-for': '203.0.113.9, 300.1.1.1' }, PEER],
    ['an octal number', { 'x-forwarded-for': '203.0.113.9, 010.0.0.1' }, PEER],
    ['Forwarded', { forwarded: 'for=203.0.113.9;proto=https;by=10.0.0.1' }, '203.0.113.9'],
    ['Forwarded, quoted', { forwarded: 'proto=http; For="[2001:db8::9]:4711"' }, '2001:db8::9'],
    ['Forwarded, several', { forwarded: 'for=1.1.1.1, for=203.0.113.9, for=10.1.2.3' }, '203.0.113.9'],
    [
      'Forwarded, with another hop inside of a quoted host',
      { forwarded: 'host="a;for=1.1.1.1;b";for=203.0.113.9' },
      '203.0.113.9',
    ],
    [
      'Forwarded, with a comma in quotes',
      { forwarded: 'for=203.0.113.9;host="a,for=1.1.1.1"' },
      '203.0.113.9',
    ],
    ['Forwarded, obfuscated', { forwarded: 'for=203.0.113.9, for=_hidden, for=10.1.2.3' }, '10.1.2.3'],
    ['Forwarded, unknown', { forwarded: 'for=unknown' }, PEER],
    ['both, agreeing', { forwarded: 'for=203.0.113.9', 'x-forwarded-for': '203.0.113.9' }, '203.0.113.9'],
    ['both, not agreeing', { forwarded: 'for=1.1.1.1', 'x-forwarded-for': '203.0.113.9' }, PEER],
  ]
  test.each(cases)('%s', async (_, headers, address) => {
    if (_ === cases[0]?.[0]) await trust(PEER, '10.0.0.0/8', '2001:db8:1::/48')
    expect(await addressWith(headers)).toBe(address)
  })
})

test.each(['10.0.0.0/33', '10.0.0', 'example.com', '', '10.0.0.1/', '::1/200', '010.0.0.1', '1.2.3.4/8/8'])(
  'a proxy called %j is a fault of the configuration',
  (text) => {
    expect(readRange(text)).toBeUndefined()
  },
)

test('a range of mapped addresses is one of IPv4 addresses', () => {
  const [address, bits] = readRange('::ffff:10.0.0.0/104') ?? []
  expect([address?.toString(), bits]).toEqual(['10.0.0.0', 8])
})

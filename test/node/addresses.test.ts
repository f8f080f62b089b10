import { createServer } from 'node:net'
import { networkInterfaces } from 'node:os'
import { describe, expect, test } from 'vitest'
import { registry } from '../../adapters/index.ts'
import { readConfig } from '../../src/config/read.ts'
import { isPrivateHost, mayReach } from '../../src/lib/address-guard.ts'
import { Secret } from '../../src/lib/secret.ts'
import { listen, outgoing, resolver, startProvider, startSender } from './loopback.ts'

/** Every range that is not the public Internet, by its first and last address or by one that is known. */
const refused = {
  'this network': ['0.0.0.0', '0.255.255.255'],
  private: ['10.0.0.0', '10.255.255.255', '172.16.0.1', '172.31.255.255', '192.168.0.1', '192.168.255.255'],
  'carrier-grade NAT': ['100.64.0.1', '100.100.100.200', '100.127.255.255'],
  loopback: ['127.0.0.1', '127.255.255.254', '::1'],
  'link-local': ['169.254.0.1', '169.254.169.254', 'fe80::1', 'febf::1', 'fe80::1%eth0'],
  'protocol assignments': ['192.0.0.1', '192.0.0.170'],
  documentation: ['192.0.2.1', '198.51.100.1', '203.0.113.1', '2001:db8::1', '3fff::1'],
  benchmarks: ['198.18.0.1', '198.19.255.255', '2001:2::1'],
  multicast: ['224.0.0.1', '239.255.255.255', 'ff02::1'],
  reserved: ['240.0.0.1', '255.255.255.254'],
  broadcast: ['255.255.255.255'],
  unspecified: ['::'],
  'unique local': ['fc00::1', 'fdff::1'],
  'metadata of clouds': ['fd00:ec2::254', 'fd20:ce::254', 'fd00:c1::a9fe:a9fe', 'fd00:42::42'],
  'site-local': ['fec0::1'],
  discard: ['100::1'],
  mapped: ['::ffff:127.0.0.1', '::ffff:10.0.0.1', '::ffff:a9fe:a9fe', '::ffff:0.0.0.0'],
  'compatible, translated': ['::127.0.0.1', '::10.0.0.1', '::ffff:0:10.0.0.1'],
  NAT64: ['64:ff9b::10.0.0.1', '64:ff9b::7f00:1', '64:ff9b::a9fe:a9fe', '64:ff9b:1::8.8.8.8'],
  '6to4': ['2002:a00:1::1', '2002:7f00:1::', '2002:808:808::1'],
  Teredo: ['2001::1', '2001:0:7f00:1::1'],
  'never given out': ['4000::1', '8000::1', 'e000::1', '5f00::1'],
  'no address': ['', 'localhost', '1.2.3.4.5', 'fe80', '10.0.0.1/8'],
}

const admitted = {
  IPv4: [
    '1.1.1.1',
    '9.255.255.255',
    '11.0.0.0',
    '100.63.255.255',
    '100.128.0.0',
    '126.255.255.255',
    '128.0.0.1',
  ],
  'around the ranges': ['169.253.255.255', '169.255.0.0', '172.15.255.255', '172.32.0.0', '223.255.255.255'],
  IPv6: ['2606:4700:4700::1111', '2a00:1450::1'],
  mapped: ['::ffff:1.1.1.1'],
  NAT64: ['64:ff9b::1.1.1.1'],
}

const rows = (table: Record<string, string[]>) =>
  Object.entries(table).flatMap(([range, addresses]) => addresses.map((address) => [range, address] as const))

/** Those that may be spoken to in clear text. */
const ownNetworks = new Set([
  ...refused.private,
  ...refused.loopback,
  ...refused['unique local'],
  '::ffff:127.0.0.1',
  '::ffff:10.0.0.1',
])

describe('an address', () => {
  const provider = new URL('https://provider.example')

  test.each(rows(refused))('%s is refused: %s', (range, address) => {
    expect(mayReach(provider, address, false)).toBe(false)
    expect(mayReach(provider, address, true)).toBe(range !== 'no address')
    // What stands for this machine leads nowhere else, whatever else is allowed.
    for (const host of ['localhost', '127.0.0.1', '[::1]']) {
      const isLoopback = range === 'loopback' || address === '::ffff:127.0.0.1'
      for (const url of [new URL(`https://${host}`), new URL(`http://${host}`)]) {
        expect(mayReach(url, address, false)).toBe(isLoopback)
        expect(mayReach(url, address, true)).toBe(isLoopback)
      }
    }
  })

  test.each(rows(admitted))('%s is admitted: %s', (_, address) => {
    expect(mayReach(provider, address, false)).toBe(true)
    expect(mayReach(new URL('https://localhost'), address, true)).toBe(false)
  })

  test.each([...rows(refused), ...rows(admitted)])('in clear text, %s: %s', (_, address) => {
    const plain = new URL('http://provider.example')
    expect(mayReach(plain, address, true)).toBe(ownNetworks.has(address))
    expect(mayReach(plain, address, false)).toBe(false)
  })
})

/** The same few addresses in every spelling that a URL takes. */
const spellings = {
  decimal: ['167772161', '2852039166', '3232235777', '0'],
  octal: ['012.0.0.1', '0251.0376.0251.0376', '030052000401', '0300.0250.1.1'],
  hex: ['0x0a000001', '0xA9FEA9FE', '0xa9.0xfe.0xa9.0xfe', '0xc0a80101', '0x0'],
  short: ['10.1', '192.168.257', '169.254.43518', '172.1048577'],
  'with a dot at the end': ['10.0.0.1.', '169.254.169.254.'],
  encoded: ['%31%30.0.0.1', '１０.0.0.1', '169。254。169。254'],
  mapped: [
    '[::ffff:127.0.0.1]',
    '[::ffff:7f00:1]',
    '[::FFFF:10.0.0.1]',
    '[0:0:0:0:0:ffff:a9fe:a9fe]',
    '[::ffff:0.0.0.0]',
  ],
  'other IPv6': [
    '[::]',
    '[fe80::1]',
    '[fd00:ec2::254]',
    '[64:ff9b::a9fe:a9fe]',
    '[2002:7f00:1::]',
    '[::127.0.0.1]',
  ],
  plain: [
    '10.0.0.1',
    '172.16.0.1',
    '192.168.1.1',
    '100.64.0.1',
    '169.254.169.254',
    '0.0.0.0',
    '224.0.0.1',
    '255.255.255.255',
  ],
}

const faultsOf = (connection: object, checksAddresses = true): { path: string; detail: string }[] => {
  const account = { provider: 'commerce-layer', clientId: { env: 'ID' }, clientSecret: { env: 'SECRET' } }
  const document = { connections: { tested: { ...account, ...connection } } }
  const environment = { ID: 'id', SECRET: 'secret' }
  const read = readConfig(JSON.stringify(document), environment, registry, checksAddresses)
  return read.ok ? [] : read.faults
}

describe('a configuration', () => {
  const detail = 'is no public address, and allowPrivateAddresses is not set'

  test.each([...rows(spellings), ...rows({ 'a name': ['api.localhost', 'LOCALHOST.', 'a.b.localhost.'] })])(
    'is refused that names, %s, https://%s',
    (_, host) => {
      const both = { baseUrl: `https://${host}/base`, authUrl: `https://${host}:8443` }
      expect(faultsOf(both)).toEqual([
        { path: '#/connections/tested/baseUrl', detail },
        { path: '#/connections/tested/authUrl', detail },
      ])
      expect(faultsOf({ ...both, allowPrivateAddresses: true })).toEqual([])
      const plain = { baseUrl: `http://${host}`, authUrl: `http://${host}` }
      expect(faultsOf({ ...plain, allowPrivateAddresses: true })).toEqual([
        { path: '#/connections/tested/baseUrl', detail: 'must be https (http is for loopback hosts)' },
        { path: '#/connections/tested/authUrl', detail: 'must be https (http is for loopback hosts)' },
      ])
    },
  )

  test.each([
    'http://localhost',
    'http://127.0.0.1:8080',
    'https://127.9.9.9',
    'http://[::1]:1',
    'http://2130706433',
  ])('may name this machine: %s', (url) => expect(faultsOf({ baseUrl: url, authUrl: url })).toEqual([]))

  test.each([
    ['https://provider.example'],
    ['https://1.1.1.1'],
    ['https://[2606:4700:4700::1111]'],
    // What a name means is for its resolver to say.
    ['https://apinizer.internal'],
    ['https://localhost.example'],
    ['https://mylocalhost'],
    ['https://10.0.0.1.nip.example'],
  ])('may name %s', (url) => expect(faultsOf({ baseUrl: url, authUrl: url })).toEqual([]))

  test('names both hosts of Commerce Layer or neither, so that no secret meets the other’s', () => {
    const staging = {
      baseUrl: 'https://provisioning.commercelayer.co',
      authUrl: 'https://auth.commercelayer.co',
    }
    expect([faultsOf({}), faultsOf(staging)]).toEqual([[], []])
    const [noAuthUrl] = faultsOf({ baseUrl: staging.baseUrl })
    expect(noAuthUrl).toMatchObject({
      path: '#/connections/tested/authUrl',
      detail: expect.stringMatching(/^is required beside baseUrl/),
    })
    const [noBaseUrl] = faultsOf({ authUrl: staging.authUrl })
    expect(noBaseUrl).toMatchObject({
      path: '#/connections/tested/baseUrl',
      detail: expect.stringMatching(/^is required beside authUrl/),
    })
    // Beside another fault too, and without a wrong one.
    const unsigned = faultsOf({ baseUrl: staging.baseUrl, clientSecret: undefined })
    expect(unsigned.map(({ path }) => path)).toEqual(['#/connections/tested', '#/connections/tested/authUrl'])
  })

  test('takes true and false, and nothing else', () => {
    for (const allowPrivateAddresses of ['true', 1, null])
      expect(faultsOf({ allowPrivateAddresses })).toMatchObject([
        { path: '#/connections/tested/allowPrivateAddresses' },
      ])
  })
})

describe('plain HTTP', () => {
  const apinizer = { provider: 'apinizer', baseUrl: 'http://worker.example:32080' }
  const allowed = { allowPrivateAddresses: true, allowHttp: true }
  const places = (connection: object, checksAddresses = true) =>
    faultsOf({ ...apinizer, ...connection }, checksAddresses).map(
      ({ path, detail }) => `${path.replace('#/connections/tested/', '')} ${detail}`,
    )

  test.each([
    'http://worker.example:32080',
    'http://10.0.0.1:32080',
    'http://192.168.1.1/manager',
    'http://[fd12:3456::1]',
    'http://[::ffff:10.0.0.1]',
    'http://apinizer.localhost',
    'http://127.0.0.1',
  ])('is taken where both allowances are set: %s', (baseUrl) =>
    expect(places({ ...allowed, baseUrl })).toEqual([]),
  )

  test.each([
    'http://1.1.1.1',
    'http://[2606:4700:4700::1111]',
    'http://169.254.169.254',
    'http://2852039166',
    'http://100.64.0.1',
    'http://100.100.100.200',
    'http://0.0.0.0',
    'http://[fe80::1]',
    'http://[fd00:ec2::254]',
    'http://[64:ff9b::10.0.0.1]',
    'http://224.0.0.1',
  ])('is refused at an address that is no private network’s: %s', (baseUrl) =>
    expect(places({ ...allowed, baseUrl })).toEqual([
      'baseUrl is no address of a private network, and nothing goes elsewhere in clear text',
    ]),
  )

  test('needs both allowances, and an allowance needs a use', () => {
    const https =
      'baseUrl must be https (http is for loopback hosts); in a private network http needs allowHttp'
    expect(places({})).toEqual([https])
    expect(places({ allowPrivateAddresses: true })).toEqual([https])
    expect(places({ allowHttp: true })).toEqual([
      'allowHttp needs allowPrivateAddresses: http is for private networks alone',
    ])
    expect(places({ ...allowed, baseUrl: 'https://worker.example' })).toEqual([
      'allowHttp is not needed: baseUrl is https',
    ])
    for (const baseUrl of ['ftp://10.0.0.1', 'ws://10.0.0.1', 'file:///etc'])
      expect(places({ ...allowed, baseUrl })).toEqual(['baseUrl must be https (http is for loopback hosts)'])
    for (const allowHttp of ['true', 1, null])
      expect(faultsOf({ ...apinizer, allowHttp })).toMatchObject([{ path: '#/connections/tested/allowHttp' }])
  })

  test('is refused where nothing checks addresses', () =>
    expect(places(allowed, false)).toEqual([
      'allowHttp is for Node alone: nothing checks here which address a name leads to',
    ]))

  test('has no case where the provider is a public service', () => {
    const plain = { baseUrl: 'http://10.0.0.1', authUrl: 'http://10.0.0.1', ...allowed }
    expect(faultsOf(plain)).toEqual([
      { path: '#/connections/tested/baseUrl', detail: 'must be https (http is for loopback hosts)' },
      { path: '#/connections/tested/authUrl', detail: 'must be https (http is for loopback hosts)' },
      { path: '#/connections/tested/allowHttp', detail: 'is not used by this provider' },
    ])
  })
})

/** Counts who connects, at whatever address of this machine. */
async function canary() {
  let connections = 0
  const server = createServer((socket) => {
    connections += 1
    socket.end('HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}')
  })
  // Every address, IPv6 too where the machine has it: a request must find it if it gets through.
  const port = await listen(server, undefined)
  return { port, connections: () => connections }
}

const refusal = { received: false, sent: false, detail: 'no connection to the provider' }
const line = { message: 'address refused', connection: 'tested' }

/** Addresses of this machine on its networks. */
const own = Object.values(networkInterfaces())
  .flatMap((addresses) => addresses ?? [])
  .flatMap(({ address, internal }) => (internal || !isPrivateHost(address) ? [] : [address]))

describe('nothing connects', () => {
  test.each(rows(spellings))('to an address in the URL, %s: %s', async (_, host) => {
    const { port, connections } = await canary()
    const { send, logged } = startSender()
    expect(await send(outgoing(new URL(`http://${host}:${port}`).origin))).toEqual(refusal)
    expect(connections()).toBe(0)
    expect(logged).toEqual([line])
  })

  test.each([
    ['127.0.0.1'],
    ['127.0.0.2'],
    ['::1'],
    ['0.0.0.0'],
    ['::'],
    ['::ffff:127.0.0.1'],
    ['::ffff:7f00:1'],
    ['10.0.0.1'],
    ['100.64.0.1'],
    ['169.254.169.254'],
    ['fd00:ec2::254'],
    ['64:ff9b::7f00:1'],
    ...own.map((address) => [address]),
    ['127.0.0.1', '::1', '10.0.0.1'],
  ])('to a name that leads to %s', async (...addresses) => {
    const { port, connections } = await canary()
    const { lookup, asked } = resolver(addresses)
    const { send, logged } = startSender({ lookup })
    expect(await send(outgoing(`http://provider.example:${port}`))).toEqual(refusal)
    expect([connections(), asked()]).toEqual([0, 1])
    expect(logged).toEqual([line])
  })

  test.each([
    ['10.0.0.1'],
    ['0.0.0.0'],
    ['169.254.169.254'],
    ['203.0.113.1'],
    ...own.map((address) => [address]),
  ])('to a localhost that leads to %s, even where private addresses are allowed', async (address) => {
    const { port, connections } = await canary()
    for (const allowPrivateAddresses of [false, true]) {
      const { send, logged } = startSender({ allowPrivateAddresses, lookup: resolver([address]).lookup })
      expect(await send(outgoing(`http://localhost:${port}`))).toEqual(refusal)
      expect(logged).toEqual([line])
    }
    expect(connections()).toBe(0)
  })

  // 0.0.0.0 and :: lead to this machine, where the canary is.
  test.each([
    ['0.0.0.0'],
    ['::'],
    ['169.254.169.254'],
    ['fd00:ec2::254'],
    ['100.64.0.1'],
    ['fe80::1'],
    ['64:ff9b::7f00:1'],
    ['203.0.113.1'],
    ['1.1.1.1'],
    ['1.1.1.1', '2606:4700:4700::1111', '0.0.0.0'],
  ])(
    'in clear text to a name that leads to %s, where private addresses are allowed',
    async (...addresses) => {
      const { port, connections } = await canary()
      const { lookup, asked } = resolver(addresses)
      const { send, logged } = startSender({ allowPrivateAddresses: true, lookup })
      const credentials = { authorization: new Secret('Bearer of-great-value') }
      expect(await send(outgoing(`http://provider.example:${port}`, { credentials }))).toEqual(refusal)
      expect([connections(), asked()]).toEqual([0, 1])
      expect(logged).toEqual([line])
    },
  )

  test.each(['0.0.0.0', '[::]', '169.254.169.254', '[::ffff:a9fe:a9fe]', '1.1.1.1', '[fd00:ec2::254]'])(
    'in clear text to %s, where private addresses are allowed',
    async (host) => {
      const { port, connections } = await canary()
      const { send, logged } = startSender({ allowPrivateAddresses: true })
      expect(await send(outgoing(`http://${host}:${port}`))).toEqual(refusal)
      expect([connections(), logged]).toEqual([0, [line]])
    },
  )

  test.each([301, 302, 303, 307, 308])('to where a redirect leads: %i', async (status) => {
    const { port, connections } = await canary()
    const places = [
      `http://127.0.0.1:${port}/`,
      `http://localhost:${port}/`,
      `//127.0.0.2:${port}/`,
      `http://[::ffff:127.0.0.1]:${port}/`,
    ]
    const { send } = startSender({ allowPrivateAddresses: true })
    for (const location of places) {
      const provider = await startProvider((_, answer) => answer.writeHead(status, { location }).end())
      for (const more of [{}, { method: 'PUT' as const, body: { name: 'New' } }])
        expect(await send(outgoing(provider.url, more))).toMatchObject({
          received: true,
          response: { status },
        })
      expect(provider.connections()).toBeGreaterThan(0)
    }
    expect(connections()).toBe(0)
  })
})

describe('a request arrives', () => {
  test('where private addresses are allowed', async () => {
    const { port, connections } = await canary()
    const { send, logged } = startSender({
      allowPrivateAddresses: true,
      lookup: resolver(['127.0.0.1']).lookup,
    })
    expect(await send(outgoing(`http://provider.example:${port}`))).toMatchObject({ received: true })
    expect(await send(outgoing(`http://[::ffff:7f00:1]:${port}`))).toMatchObject({ received: true })
    expect([connections(), logged]).toEqual([2, []])
  })

  test('at the one address of several that is allowed', async () => {
    const { port, connections } = await canary()
    const { send, logged } = startSender({ lookup: resolver(['10.0.0.1', '127.0.0.1', 'fd00::1']).lookup })
    expect(await send(outgoing(`http://localhost:${port}`))).toMatchObject({ received: true })
    expect([connections(), logged]).toEqual([1, []])
  })

  test.each([
    ['localhost', false],
    ['provider.example', true],
  ])(
    'at the address that was checked, however the answers for %s change',
    async (host, allowPrivateAddresses) => {
      const { port, connections } = await canary()
      const { lookup, asked } = resolver(['127.0.0.1'], ['0.0.0.0'], ['1.1.1.1', '127.0.0.1'], ['1.1.1.1'])
      const { send, logged } = startSender({ allowPrivateAddresses, lookup })
      const ends: boolean[] = []
      for (let n = 0; n < 4; n++) ends.push((await send(outgoing(`http://${host}:${port}`))).received)
      // One question for each connection: what is answered afterwards does not matter to it.
      expect([ends, connections(), asked()]).toEqual([[true, false, true, false], 2, 4])
      expect(logged).toEqual([line, line])
    },
  )
})

import ipaddr from 'ipaddr.js'

/** Hosts that a configuration may name to mean this machine, as URL parsing spells them. */
const LOOPBACK_HOST = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/

export const isLoopbackHost = (host: string): boolean => LOOPBACK_HOST.test(host)

/** On a network with DNS64 a provider that has only IPv4 is reached under this prefix (RFC 6052). */
const NAT64 = ipaddr.IPv6.parseCIDR('64:ff9b::/96')

/** All public IPv6 addresses assigned so far are in it. */
const GLOBAL_UNICAST = ipaddr.IPv6.parseCIDR('2000::/3')

/** Takes `::ffff:a.b.c.d` for `a.b.c.d`; the library would do the same with `::a.b.c.d`, which is another address. */
const parse = (text: string): ipaddr.IPv4 | ipaddr.IPv6 => ipaddr.process(text.replace(/^::(?=\d+\.)/, '0::'))

/** The address behind a form that only wraps an IPv4 address; every router on the way unwraps it. */
function unwrapped(text: string): ipaddr.IPv4 | ipaddr.IPv6 {
  const address = parse(text)
  return address instanceof ipaddr.IPv6 && address.match(NAT64)
    ? new ipaddr.IPv4(address.toByteArray().slice(-4))
    : address
}

/**
 * Whether an address belongs to the public Internet. 6to4 and Teredo are not looked into: both are given up, and no
 * provider stands behind one.
 */
function isPublic(text: string): boolean {
  const address = unwrapped(text)
  if (address instanceof ipaddr.IPv6 && !address.match(GLOBAL_UNICAST)) return false
  return address.range() === 'unicast'
}

/** Cloud metadata services, which answer anyone inside; for IPv6 they are among the private addresses. */
const METADATA = ['fd00:ec2::/32', 'fd20:ce::/32', 'fd00:c1::/32', 'fd00:42::/32'].map((range) =>
  ipaddr.IPv6.parseCIDR(range),
)

/**
 * Whether an address belongs to a network that its operator alone assigns, or to this machine. Not link-local, where
 * metadata services stand; not a carrier's, which its customers share; nothing that a router on the way translates.
 */
function isOwnNetwork(text: string): boolean {
  const address = parse(text)
  if (address instanceof ipaddr.IPv6 && METADATA.some((range) => address.match(range))) return false
  return ['private', 'uniqueLocal', 'loopback'].includes(address.range())
}

/** The literal address that a URL's host is; undefined for a name. */
export function literalAddress(host: string): string | undefined {
  const text = host.replace(/^\[|\]$/g, '')
  return ipaddr.isValid(text) ? text : undefined
}

/** Whether a URL of the configuration may be reached at an address. In clear text secrets go to networks of one's own alone. */
export function mayReach(
  { protocol, hostname }: Pick<URL, 'protocol' | 'hostname'>,
  address: string,
  allowPrivateAddresses: boolean,
): boolean {
  if (!ipaddr.isValid(address)) return false
  if (isLoopbackHost(hostname)) return parse(address).range() === 'loopback'
  if (protocol !== 'https:') return allowPrivateAddresses && isOwnNetwork(address)
  return allowPrivateAddresses || isPublic(address)
}

/**
 * Whether the configuration alone shows that a host is not on the public Internet. Of names only those below
 * `localhost`: RFC 6761 keeps them for the own machine. What another name means is for its resolver to say.
 */
export function isPrivateHost(host: string): boolean {
  if (isLoopbackHost(host)) return false
  const address = literalAddress(host)
  return address === undefined ? /(^|\.)localhost\.?$/.test(host) : !isPublic(address)
}

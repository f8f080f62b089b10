import ipaddr from 'ipaddr.js'

type Address = ReturnType<typeof ipaddr.process>

/** Addresses and ranges, as an operator wrote them; undefined where one is none. */
export function readRange(text: string): [Address, number] | undefined {
  const isPlain = ipaddr.IPv4.isValidFourPartDecimal(text) || ipaddr.IPv6.isValid(text)
  if (isPlain) {
    const address = ipaddr.process(text)
    return [address, address.toByteArray().length * 8]
  }
  const isRange = ipaddr.IPv4.isValidCIDRFourPartDecimal(text) || ipaddr.IPv6.isValidCIDR(text)
  if (!isRange) return undefined
  const [address, bits] = ipaddr.parseCIDR(text)
  // Peers are compared as IPv4 where they have such an address, however it was spelled.
  const isMapped = address instanceof ipaddr.IPv6 && address.isIPv4MappedAddress() && bits >= 96
  return isMapped ? [address.toIPv4Address(), bits - 96] : [address, bits]
}

/** An address as a header has it: with a port, in brackets, or neither. */
function readAddress(text: string): Address | undefined {
  const [, bracketed, plain] = /^(?:\[([^\]]+)\](?::\d{1,5})?|([^:[\]]+)(?::\d{1,5})?)$/.exec(text) ?? []
  const address = bracketed ?? plain ?? text
  const isAddress =
    ipaddr.IPv4.isValidFourPartDecimal(address) || (ipaddr.IPv6.isValid(address) && !address.includes('%'))
  return isAddress ? ipaddr.process(address) : undefined
}

/** `for` of each hop (RFC 7239 §4), undefined where it has none that can be read. */
function forwardedFor(header: string): (string | undefined)[] {
  // Commas and semicolons inside of quotes are part of a value.
  const elements = header.match(/(?:"(?:[^"\\]|\\.)*"|[^,"])+/g) ?? []
  return elements.map((element) => {
    const pairs = element.match(/(?:"(?:[^"\\]|\\.)*"|[^;"])+/g) ?? []
    const named = pairs.find((pair) => /^\s*for=/i.test(pair)) ?? ''
    const [, quoted, token] = /^\s*for=(?:"((?:[^"\\]|\\.)*)"|([^\s"]+))\s*$/i.exec(named) ?? []
    return quoted?.replace(/\\(.)/g, '$1') ?? token
  })
}

/**
 * Whose request it is: of the peer, as long as that is no trusted proxy, else of whom the proxies name, from the nearest on. Where one
 * says nothing that is an address, the last that was believed is all that is known. Two headers that do not agree are not
 * believed: a proxy writes one of them, and lets the client's own word pass in the other.
 *
 * @param peer Of the connection, as the runtime tells it.
 */
export function clientAddress(
  peer: string | null,
  headers: Headers,
  trusted: readonly [Address, number][],
): string | null {
  const isTrusted = (address: Address): boolean =>
    trusted.some((range) => address.kind() === range[0].kind() && address.match(range as never))
  const nearest = peer === null ? undefined : readAddress(peer)
  if (!nearest || !isTrusted(nearest)) return peer

  const walk = (hops: (string | undefined)[]): Address => {
    let known = nearest
    for (const hop of hops.toReversed()) {
      const address = hop === undefined ? undefined : readAddress(hop.trim())
      if (!address) return known
      known = address
      if (!isTrusted(address)) return known
    }
    return known
  }
  const forwarded = headers.get('forwarded')
  const list = headers.get('x-forwarded-for')
  const found = [
    ...(forwarded === null ? [] : [walk(forwardedFor(forwarded))]),
    ...(list === null ? [] : [walk(list.split(','))]),
  ].map(String)
  const [first] = found
  return first !== undefined && found.every((one) => one === first) ? first : String(nearest)
}

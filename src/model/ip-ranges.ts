import ipaddr from 'ipaddr.js'

/** First and last address of a range as numbers; IPv4 and IPv6 are two separate spaces. */
interface Range {
  family: 'ipv4' | 'ipv6'
  first: bigint
  last: bigint
}

const toNumber = (bytes: number[]): bigint => bytes.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n)

/** An IPv6 address with its last part in hexadecimal: the library takes `::8.0.0.1` for `::ffff:8.0.0.1`, and others do not. */
const inHex = (address: string): string =>
  address.replace(/:(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, a, b, c, d) => {
    const group = (high: unknown, low: unknown) => (Number(high) * 256 + Number(low)).toString(16)
    return `:${group(a, b)}:${group(c, d)}`
  })

function toRange(text: string): Range | undefined {
  const [given = '', prefix] = text.split('/')
  // Other readers take `010.0.0.1` for another address, and an empty prefix for a fault.
  if (!ipaddr.IPv6.isValid(given) && !ipaddr.IPv4.isValidFourPartDecimal(given)) return undefined
  const address = inHex(given)
  if (prefix !== undefined && !/^\d{1,3}$/.test(prefix)) return undefined
  const parsed = ipaddr.process(address) // an IPv4-mapped IPv6 address is the IPv4 address
  const mapped = parsed.kind() === 'ipv4' && address.includes(':')
  const bytes = parsed.toByteArray()
  const bits = bytes.length * 8
  const length = prefix === undefined ? bits : Number(prefix) - (mapped ? 96 : 0)
  if (!Number.isInteger(length) || length < 0 || length > bits) return undefined
  const host = (1n << BigInt(bits - length)) - 1n
  const value = toNumber(bytes)
  return { family: parsed.kind(), first: value & ~host, last: value | host }
}

/** Overlapping and adjacent ranges joined, so that one containment check against each is enough. */
function union(ranges: Range[]): Range[] {
  const joined: Range[] = []
  for (const range of ranges.toSorted((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : 0))) {
    const last = joined.findLast((other) => other.family === range.family)
    if (last && range.first <= last.last + 1n) last.last = range.last > last.last ? range.last : last.last
    else joined.push({ ...range })
  }
  return joined
}

/** Whether two lists name the same addresses one by one, however each is spelled; text that is no address is compared as it is. */
export function sameRanges(one: readonly string[], other: readonly string[]): boolean {
  const spelled = (text: string): string => {
    const range = toRange(text)
    return range ? `${range.family} ${range.first}-${range.last}` : text
  }
  const [a, b] = [one, other].map((list) => new Set(list.map(spelled)))
  return a !== undefined && b !== undefined && a.size === b.size && a.isSubsetOf(b)
}

/**
 * True when `to` admits an address that `from` does not. An empty list admits every address. Text that is no address cannot be shown to be harmless, so a new one counts as admitting more.
 */
export function admitsMore(from: readonly string[], to: readonly string[]): boolean {
  if (from.length === 0) return false
  if (to.length === 0) return true
  const held = union(from.map(toRange).filter((range) => range !== undefined))
  return to.some((text) => {
    if (from.includes(text)) return false
    const range = toRange(text)
    return (
      !range ||
      !held.some((own) => own.family === range.family && own.first <= range.first && range.last <= own.last)
    )
  })
}

import { nextRandom } from './id.ts'

/** A trace that begins here. */
export const newTraceparent = (): string =>
  `00-${nextRandom(16).toString('hex')}-${nextRandom(8).toString('hex')}-01`

/** W3C Trace Context §3.2: taken over when well formed, else a new trace begins here. */
export function traceparentOf(headers: Headers): string {
  const given = headers.get('traceparent') ?? ''
  const [, version, trace, parent] =
    /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}$/.exec(given) ?? []
  const valid = version === '00' && !/^0+$/.test(trace ?? '') && !/^0+$/.test(parent ?? '')
  return valid ? given : newTraceparent()
}

export type Runtime = 'node' | 'workerd'

/** Something that callers see differently on one of the runtimes, and why it cannot be otherwise. */
interface Difference<T> extends Record<Runtime, T> {
  why: string
}

const difference = <T>(entry: Difference<T>): Difference<T> => entry

/** Everything that a suite may find different between the runtimes. What is not listed here is the same. */
export const differences = {
  /** A provider whose port nobody listens on, asked for a change that cannot be read back. */
  refusedConnection: difference({
    why: 'workerd throws the same error for a refused connection and for one cut after the body: nothing proves that nothing was sent',
    node: { status: 503, slug: 'upstream-unavailable', outcome: 'not_sent', attempts: 3 },
    workerd: { status: 504, slug: 'outcome-unknown', outcome: 'unknown', attempts: 2 },
  }),
  /** A header of 100 KB. */
  hugeHeader: difference({
    why: 'Node’s HTTP server takes 16 KiB of headers and answers itself; in front of a Worker Cloudflare’s edge does',
    node: 431,
    workerd: 401,
  }),
}

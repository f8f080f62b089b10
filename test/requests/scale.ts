/** How much a campaign sends. The bounded form belongs to each test run; `REQUESTS=full` asks for the full form. */
export const full = process.env['REQUESTS'] === 'full'

/** Requests of the full form. */
export const WHOLE = 200_000

const requests = Number(process.env['COUNT'] ?? (full ? WHOLE : 1500))

export const scale = {
  requests,
  /** Of them, those that are sent while the providers fail. */
  underFaults: requests / 25,
  /** Connections at once. */
  lines: 16,
  /** A campaign that takes longer is stuck. Milliseconds. */
  campaignMs: full ? 900_000 : 120_000,
  /** No request may wait longer for its reply: two deadlines of a change. Milliseconds. */
  replyMs: 15_000,
  /** Another seed is another campaign; the one that failed is named in the failure. */
  seed: Number(process.env['SEED'] ?? 1),
}

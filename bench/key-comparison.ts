import { createHash, randomBytes, randomInt } from 'node:crypto'
import { authenticator } from '../src/access/authenticate.ts'
import type { Bench } from './figure.ts'

/** Samples of the two classes together. */
const SAMPLES = 100_000

/** dudect's bound: beyond it the two classes are told apart with near certainty. */
const BOUND = 4.5

/** The slowest part of all samples is left out: interrupts and collections, which say nothing of the comparison. */
const CROP = 0.05

interface Comparison {
  name: string
  /** Welch's t of all samples, and of those that are left after cropping. */
  t: { all: number; cropped: number }
  medianNs: [number, number]
  samples: number
}

/** What makes a wrong key of each class; each sample has one of its own. */
type Classes = readonly [() => string, () => string]

function welch(one: number[], two: number[]): number {
  const parts = [one, two].map((values) => {
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length
    const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1)
    return { mean, error: variance / values.length }
  })
  const [a, b] = parts as [{ mean: number; error: number }, { mean: number; error: number }]
  return (a.mean - b.mean) / Math.sqrt(a.error + b.error)
}

const median = (values: number[]): number =>
  values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN

const randomSecret = (): string => randomBytes(32).toString('base64url')

/** Another character of base64url at one place; the last one of 43 has sixteen only. */
function changedAt(text: string, place: number): string {
  const others = [...'AEIMQUYcgkosw048'].filter((character) => character !== text.at(place))
  return text.slice(0, place) + others[randomInt(others.length)] + text.slice(place + 1)
}

/**
 * Whether the time that the check of a key takes tells anything of it: what is wrong with it at which place, and whether
 * its id exists. The whole authenticator is timed in this process, without a network that would hide a difference.
 */
async function compareKeys(): Promise<Comparison[]> {
  const secret = randomSecret()
  const key = `cgw_k00000001_${secret}`
  const sha256 = createHash('sha256').update(key).digest('hex')
  const keys = [{ id: 'k00000001', sha256, expiresAt: null }]
  const authenticate = authenticator({
    config: { issuers: [], callers: [{ name: 'measured', keys, allow: [] }] },
    sendToIssuer: () => () => Promise.reject(new Error('nothing is sent here')),
    now: () => Date.now(),
    log: { debug() {}, info() {}, warn() {}, error() {} },
  })
  const accepted = await authenticate({
    headers: new Headers({ 'x-api-key': key }),
    requestId: '',
    traceparent: '',
  })
  if (!accepted.ok) throw new Error('the key that is compared with is not accepted')

  const prefix = key.length - secret.length
  const knownId = () => `cgw_k00000001_${randomSecret()}`
  const unknownId = () => `cgw_k${String(randomInt(2, 1e8)).padStart(8, '0')}_${randomSecret()}`
  const classes: Record<string, Classes> = {
    'first byte of the secret wrong, last byte wrong': [
      () => changedAt(key, prefix),
      () => changedAt(key, key.length - 1),
    ],
    'unknown id, known id with a wrong secret': [unknownId, knownId],
    // Both classes the same: what the measurement itself makes of no difference.
    'known id with a wrong secret, the same': [knownId, knownId],
  }
  const results: Comparison[] = []
  for (const [name, makers] of Object.entries(classes))
    results.push(await compare(name, makers, authenticate, SAMPLES))
  return results
}

async function compare(
  name: string,
  makers: Classes,
  authenticate: ReturnType<typeof authenticator>,
  samples: number,
): Promise<Comparison> {
  const warmup = samples / 10
  // Made beforehand, and all in the same way: what it takes to make a key must not be seen in what follows it.
  const prepared = Array.from({ length: warmup + samples }, () => {
    const side = randomInt(2) as 0 | 1
    return { side, text: Buffer.from(makers[side]()).toString('latin1') }
  })
  const times: [number[], number[]] = [[], []]
  for (const [index, { side, text }] of prepared.entries()) {
    const arrival = { headers: new Headers({ 'x-api-key': text }), requestId: '', traceparent: '' }
    const started = process.hrtime.bigint()
    const { ok } = await authenticate(arrival)
    const taken = Number(process.hrtime.bigint() - started)
    if (ok) throw new Error('a wrong key was accepted')
    if (index >= warmup) times[side].push(taken)
  }
  // One bound for both classes, so that cropping cannot make a difference of its own.
  const limit = [...times[0], ...times[1]].toSorted((a, b) => a - b)[Math.floor(samples * (1 - CROP))] ?? 0
  const [one, two] = times.map((values) => values.filter((value) => value < limit)) as [number[], number[]]
  return {
    name,
    t: { all: welch(...times), cropped: welch(one, two) },
    medianNs: [median(times[0]), median(times[1])],
    samples,
  }
}

/** The classes, each told apart or not. */
export const keyComparison: Bench = async (tell) => {
  tell(`${SAMPLES} samples of each pair`)
  const results = await compareKeys()
  return results.map(({ name, t, medianNs }) => ({
    bench: 'key comparison',
    what: `Welch's t: ${name} (${SAMPLES} samples)`,
    measured: `${t.cropped.toFixed(2)}, with the slowest 5 % ${t.all.toFixed(2)}; medians ${medianNs.join(' and ')} ns`,
    goal: {
      text: `under ${BOUND} in size`,
      met: Math.abs(t.cropped) < BOUND && Math.abs(t.all) < BOUND,
    },
  }))
}

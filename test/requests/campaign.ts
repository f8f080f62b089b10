import * as fc from 'fast-check'
import type { Sandbox } from '../../sandbox/server.ts'
import { controlOf, type Json } from '../harness/sandbox-calls.ts'
import { anyBreak } from './breakage.ts'
import { describeGateway } from './description.ts'
import { bytesOf, type Draft } from './draft.ts'
import { type Circumstances, judge } from './judgement.ts'
import { type Heard, openLine } from './line.ts'
import { harvest, type Pool, validRequest } from './requests.ts'
import { scale } from './scale.ts'

export interface Figures {
  requests: number
  /** By status, with the problem if it is one. */
  replies: Record<string, number>
  /** Requests whose client had ended its side, which is taken for its leaving. */
  unanswered: number
  /** Requests that were sent again because their connection had ended first; a lost reply looks the same. */
  repeated: number
  /** By the time that the reply took, in milliseconds. */
  slowest: { ms: number; request: string; status: number | undefined }[]
  ms: number
}

/** What every campaign meets, many times: without it a gateway that refuses everything would pass. */
export const USUAL = [
  '200',
  '400 malformed-request',
  '400 invalid-header',
  '400 invalid-id',
  '400 invalid-query',
  '401 unauthenticated',
  '403 forbidden',
  '404 not-found',
  '405 method-not-allowed',
  '415 unsupported-media-type',
  '422 incomplete-representation',
  '422 unsupported-field',
  '422 validation-failed',
  '429 rate-limited',
]

interface CampaignParts {
  url: string
  sandbox: Sandbox['urls']
  /** Send what only a bare socket can. */
  bare: boolean
  requests: number
  /** Of them, those that are sent while the providers fail. */
  underFaults: number
  seed: number
  /** After this time no more requests are sent. Milliseconds. */
  limitMs: number
}

/** Faults that providers have, each of one request. */
const providerFaults = fc.record({
  provider: fc.constantFrom('commerceLayer' as const, 'discue' as const, 'apinizer' as const),
  fault: fc.constantFrom<object>(
    { status: 500 },
    { status: 500, applied: true },
    { status: 503, retryAfter: '0' },
    { status: 429, retryAfter: '1' },
    { status: 404, body: 'text' },
    { status: 403 },
    { reset: 'before' },
    { reset: 'after' },
    { reset: 'mid-body' },
    { truncate: true },
    { wrongType: true },
    { wrongType: 'numbers' },
    { contentType: 'text/html' },
    { oversize: 1 << 21 },
    { delayAfterMs: 50 },
    { redirect: { status: 302, location: 'http://127.0.0.1:1/' } },
  ),
})

const SLOWEST = 5

/** Sends requests on several lines at once and judges every reply. Fails with the smallest request that shows a fault. */
export async function campaign({
  url,
  sandbox,
  bare,
  requests,
  underFaults,
  seed,
  limitMs,
}: CampaignParts): Promise<Figures> {
  const description = describeGateway((await (await fetch(`${url}/openapi.json`)).json()) as Json)
  for (const slug of description.slugs) {
    const page = await fetch(`${url}/problems/${slug}`)
    if (page.status !== 200) throw new Error(`/problems/${slug} answered ${page.status}`)
    await page.text()
  }
  const controls = {
    commerceLayer: controlOf(sandbox.commerceLayer),
    discue: controlOf(sandbox.discue),
    apinizer: controlOf(sandbox.apinizer),
  }
  const pool: Pool = { texts: [] }
  const figures: Figures = { requests: 0, replies: {}, unanswered: 0, repeated: 0, slowest: [], ms: 0 }
  const started = performance.now()

  function count(draft: Draft, { replies, repeated, ms }: Heard): void {
    figures.requests += draft.copies
    for (const { status, text } of replies) {
      const problem = /"type":"\/problems\/([a-z-]+)"/.exec(text)?.[1]
      const told = status >= 400 && problem !== undefined ? `${status} ${problem}` : String(status)
      figures.replies[told] = (figures.replies[told] ?? 0) + 1
    }
    figures.unanswered += draft.copies - replies.length
    if (repeated) figures.repeated++
    if (ms > (figures.slowest.at(-1)?.ms ?? 0) || figures.slowest.length < SLOWEST) {
      const request = `${draft.method} ${draft.target.slice(0, 60)} (${draft.mutations.join(', ')})`
      const one = { ms: Math.round(ms), request, status: replies[0]?.status }
      figures.slowest = [...figures.slowest, one].toSorted((a, b) => b.ms - a.ms).slice(0, SLOWEST)
    }
  }

  async function check(line: ReturnType<typeof openLine>, draft: Draft, at: Circumstances): Promise<void> {
    const bytes = bytesOf(draft)
    const heard = await line.say({
      bytes: Buffer.concat(Array.from({ length: draft.copies }, () => bytes)),
      methods: Array.from({ length: draft.copies }, () => draft.method),
      halfClose: draft.halfClose === true,
      reusable: !draft.raw,
    })
    count(draft, heard)
    if (heard.silent) throw new Error(`no reply within ${scale.replyMs} ms`)
    const isOver = heard.replies.at(-1)?.headers.get('connection') === 'close'
    if (heard.replies.length < draft.copies && !isOver && !draft.halfClose)
      throw new Error('the connection ended without a reply')
    // What is not a request as it should be may be taken for several.
    if (heard.surplus > 0 && !draft.raw)
      throw new Error(`${heard.surplus} bytes after the last reply, which was to ${draft.method}`)
    const faults = heard.replies.flatMap((reply) => judge(at, draft, reply))
    if (faults.length > 0) {
      const { status, text } = heard.replies[0] ?? { status: 0, text: '' }
      throw new Error(`${faults.join('; ')}\n${status} ${text.slice(0, 500)}`)
    }
    for (const { status, headers, text } of heard.replies) {
      if (status === 200 && headers.get('content-type') === 'application/json' && text.length < 20_000)
        harvest(pool, JSON.parse(text || 'null'))
    }
  }

  const breaks = (minLength: number, maxLength: number) => fc.array(anyBreak(bare), { minLength, maxLength })
  const drafts = fc
    .tuple(
      validRequest(description, pool),
      fc.oneof(
        { weight: 3, arbitrary: breaks(0, 0) },
        { weight: 4, arbitrary: breaks(1, 1) },
        { weight: 2, arbitrary: breaks(2, 3) },
      ),
    )
    .map(([draft, breaks]) => breaks.reduce((broken, one) => one(broken), draft))

  async function send(seed: number, runs: number, underFaults: boolean): Promise<void> {
    const line = openLine(url, scale.replyMs)
    const fault = underFaults
      ? fc.oneof({ weight: 3, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: providerFaults })
      : fc.constant(undefined)
    try {
      await fc.assert(
        fc.asyncProperty(drafts, fault, async (draft, fault) => {
          if (fault) await controls[fault.provider].fault(fault.fault)
          await check(line, draft, { description, underFaults })
        }),
        {
          seed,
          numRuns: runs,
          interruptAfterTimeLimit: Math.max(1, limitMs),
          includeErrorInReport: true,
        },
      )
    } finally {
      line.hangUp()
    }
  }
  async function sendAll(total: number, seed: number, underFaults: boolean): Promise<void> {
    if (total === 0) return
    const each = Math.ceil(total / scale.lines)
    const ended = await Promise.allSettled(
      Array.from({ length: scale.lines }, (_, line) => send(seed + line, each, underFaults)),
    )
    const reasons = ended.flatMap((one) => (one.status === 'rejected' ? [String(one.reason.message)] : []))
    if (reasons.length > 0) throw new Error(reasons.join('\n\n'))
  }

  await sendAll(requests - underFaults, seed, false)
  await sendAll(underFaults, seed + 500, true)
  for (const control of Object.values(controls)) await control.send('DELETE', '/faults')
  figures.ms = performance.now() - started
  return figures
}

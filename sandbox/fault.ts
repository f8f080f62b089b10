import type { ServerResponse } from 'node:http'
import { setTimeout as pause } from 'node:timers/promises'
import { brotliCompressSync, deflateSync, gzipSync } from 'node:zlib'
import { z } from 'zod'
import { told } from './deviation.ts'
import { type Answer, type Body, type Emulator, partialDeploymentSchema, text } from './exchange.ts'

const milliseconds = z.number().int().min(0)
const httpStatus = z.number().int().min(200).max(599)
const memberNames = z.array(z.string().min(1))
const memberValues = z.record(z.string(), z.unknown())

export const faultSchema = z.strictObject({
  delayBeforeMs: milliseconds.optional(),
  /** After applying, before answering. */
  delayAfterMs: milliseconds.optional(),
  /**
   * `on-headers`: before the body is read; `before`: before applying; `after`: applied, no answer;
   * `mid-body`: applied, cut after half of the body.
   */
  reset: z.enum(['on-headers', 'before', 'after', 'mid-body']).optional(),
  /** An error in the provider's own shape; not applied unless `applied` says so. */
  status: httpStatus.optional(),
  applied: z.boolean().optional(),
  code: z.string().optional(),
  body: z.enum(['json', 'empty', 'text']).optional(),
  retryAfter: z.string().optional(),
  truncate: z.boolean().optional(),
  /** `true` and `array`: the body is `["unexpected"]`; `numbers`: numbers where strings belong. */
  wrongType: z.union([z.boolean(), z.enum(['array', 'numbers'])]).optional(),
  contentType: z.string().optional(),
  redirect: z.strictObject({ status: z.number().int().min(300).max(399), location: z.string() }).optional(),
  drip: z.strictObject({ chunkBytes: z.number().int().min(1), everyMs: milliseconds }).optional(),
  oversize: z
    .number()
    .int()
    .min(2)
    .max(1 << 28)
    .optional(),
  partialDeployment: partialDeploymentSchema.optional(),
  failure: z.strictObject({ resultMessage: z.string(), status: httpStatus.default(400) }).optional(),
  /**
   * Disobedience that answers with success. Members go by the provider's wire names, Commerce Layer's role by `role`
   * and its id. For `keep` and `store` the control API refuses a name that no resource of the provider has; one that
   * only another type has does nothing.
   *
   * `keep`: what an update leaves as it was; `*` is everything but `updated_at`, which only its own name keeps.
   */
  keep: memberNames.optional(),
  /** What a create or update stores whatever was asked for, unvalidated; it goes before `keep`. */
  store: memberValues.optional(),
  /** What the answer to a read or a write says whatever is stored, also in members it would not have. */
  tell: memberValues.optional(),
  /** What the answer leaves out; it goes before `tell`. */
  omit: memberNames.optional(),
  /** Text that stands in the answer instead of another: JSON that no value is written as, or a byte for each character. */
  rewrite: z
    .array(
      z.strictObject({ find: z.string().min(1), replace: z.string(), bytes: z.boolean().default(false) }),
    )
    .optional(),
  /** Writes the body of the request down as it was spelled. */
  record: z.boolean().optional(),
  /** Codes the answer, whether or not the request admits it. */
  coding: z.enum(['gzip', 'deflate', 'br', 'unknown']).optional(),
})
export type Fault = z.infer<typeof faultSchema>

export const faultOrderSchema = z.strictObject({
  match: z.strictObject({ method: z.string().optional(), path: z.string().optional() }).default({}),
  /** null = until removed. */
  times: z.number().int().min(1).nullable().default(1),
  fault: faultSchema,
})

export type FaultOrder = z.infer<typeof faultOrderSchema> & { id: number; used: number }

export interface Faults {
  add(order: z.infer<typeof faultOrderSchema>): FaultOrder
  /** The first order that matches, consumed once. */
  take(method: string, target: string): Fault | undefined
  list(): readonly FaultOrder[]
  remove(id: number): boolean
  clear(): void
}

export function createFaults(): Faults {
  let orders: FaultOrder[] = []
  let next = 1
  return {
    add(order) {
      const added = { ...order, id: next, used: 0 }
      next += 1
      orders.push(added)
      return added
    },
    take(method, target) {
      const order = orders.find(
        ({ match }) =>
          (match.method === undefined || match.method.toUpperCase() === method) &&
          (match.path === undefined || target.includes(match.path)),
      )
      if (!order) return undefined
      order.used += 1
      if (order.used === order.times) orders = orders.filter((other) => other !== order)
      return order.fault
    },
    list: () => orders,
    remove(id) {
      const before = orders.length
      orders = orders.filter((order) => order.id !== id)
      return orders.length < before
    },
    clear() {
      orders = []
    },
  }
}

/** The answer of a fault that keeps the request from being applied. */
export function answerInstead(fault: Fault, emulator: Emulator, path: string): Answer | undefined {
  if (fault.redirect) return { status: fault.redirect.status, headers: { location: fault.redirect.location } }
  if (fault.failure)
    return emulator.refusal(fault.failure.status, path, { message: fault.failure.resultMessage })
  if (fault.status !== undefined && !fault.applied) return errorOf(fault.status, fault, emulator, path)
  return undefined
}

/** What a fault makes of an answer before it is sent. */
export function disfigure(answer: Answer, fault: Fault, emulator: Emulator, path: string): Answer {
  const shown =
    fault.status !== undefined && fault.applied ? errorOf(fault.status, fault, emulator, path) : answer
  const deployed =
    fault.partialDeployment && emulator.degrade ? emulator.degrade(shown, fault.partialDeployment) : shown
  const body = bodyOf(retold(deployed.body, fault, emulator), fault)
  return body === undefined ? deployed : { ...deployed, body }
}

const retold = (body: Body | undefined, fault: Fault, emulator: Emulator): Body | undefined =>
  body && 'json' in body && (fault.tell || fault.omit)
    ? { ...body, json: emulator.retold(body.json, (members) => told(members, fault)) }
    : body

function bodyOf(body: Body | undefined, fault: Fault): Body | undefined {
  if (fault.oversize !== undefined) return { text: `"${'x'.repeat(fault.oversize - 2)}"` }
  if (fault.wrongType === 'numbers') return { json: withNumbers(body && 'json' in body ? body.json : '') }
  if (fault.wrongType) return { json: ['unexpected'] }
  return body
}

function withNumbers(value: unknown): unknown {
  if (typeof value === 'string') return value.length
  if (Array.isArray(value)) return value.map(withNumbers)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, withNumbers(inner)]))
}

function errorOf(status: number, fault: Fault, emulator: Emulator, path: string): Answer {
  const { headers, ...own } = emulator.refusal(status, path, { code: fault.code })
  if (fault.body === 'empty') {
    const { 'content-type': _, ...others } = headers
    return { status, headers: others }
  }
  if (fault.body === 'text') {
    const plain = text(status, 'The request could not be handled.')
    return { ...plain, headers: { ...headers, ...plain.headers } }
  }
  return { ...own, headers }
}

/** Ends the connection with a TCP reset, so that no client takes the end for a complete answer. */
export function cut(outgoing: ServerResponse): void {
  outgoing.socket?.resetAndDestroy()
}

const serialized = (body: Body | undefined): Buffer => {
  if (body === undefined) return Buffer.alloc(0)
  return Buffer.from('text' in body ? body.text : JSON.stringify(body.json, null, body.indent))
}

/** The bytes with other text in them; what was UTF-8 stays so beside it. */
const rewritten = (bytes: Buffer, { rewrite = [] }: Fault): Buffer =>
  rewrite.reduce((before, { find, replace, bytes: asBytes }) => {
    const other = Buffer.from(replace, asBytes ? 'latin1' : 'utf8').toString('latin1')
    const text = before.toString('latin1').replaceAll(Buffer.from(find).toString('latin1'), () => other)
    return Buffer.from(text, 'latin1')
  }, bytes)

const coders = {
  gzip: gzipSync,
  deflate: deflateSync,
  br: brotliCompressSync,
  unknown: (bytes: Buffer) => bytes.map((byte) => byte ^ 0x55) as Buffer,
}

/** Long enough for the first half of a body to leave before the reset discards what is still queued. */
const flushMs = 20

/** The one place that writes an answer; resolves when it is out or the client is gone. */
export async function send(outgoing: ServerResponse, answer: Answer, fault: Fault = {}): Promise<void> {
  const plain = rewritten(serialized(answer.body), fault)
  const whole = fault.coding ? coders[fault.coding](plain) : plain
  const half = Math.floor(whole.length / 2)
  const bytes = fault.truncate ? whole.subarray(0, half) : whole

  outgoing.writeHead(answer.status, {
    ...answer.headers,
    ...(fault.retryAfter !== undefined && { 'retry-after': fault.retryAfter }),
    ...(fault.contentType !== undefined && { 'content-type': fault.contentType }),
    ...(fault.coding !== undefined && { 'content-encoding': fault.coding }),
    ...(answer.status !== 204 && { 'content-length': String(bytes.length) }),
  })
  if (fault.reset === 'mid-body') {
    outgoing.write(bytes.subarray(0, half))
    await pause(flushMs)
    return cut(outgoing)
  }
  if (fault.drip) {
    const { chunkBytes, everyMs } = fault.drip
    for (let at = 0; at < bytes.length && !outgoing.destroyed; at += chunkBytes) {
      outgoing.write(bytes.subarray(at, at + chunkBytes))
      await pause(everyMs)
    }
    if (!outgoing.destroyed) outgoing.end()
    return
  }
  await new Promise<void>((resolve) => {
    outgoing.once('close', resolve)
    outgoing.end(bytes, resolve)
  })
}

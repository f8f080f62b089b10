import type { IncomingHttpHeaders } from 'node:http'
import type { Hono } from 'hono'
import { z } from 'zod'

/** A request after its body arrived. `target` is the raw request target: nothing decoded, nothing normalized. */
export interface Received {
  method: string
  target: string
  path: string
  query: URLSearchParams
  headers: IncomingHttpHeaders
  body: string
  /** The address the request came from; limits and lock-outs count per source. */
  source: string
  /** How a fault wants a write to be disobeyed. */
  deviation: Deviation
}

export type Body = { json: unknown; indent?: number } | { text: string }

/** What one accepted write did, with the resource before and after it. */
export interface Change {
  operation: string
  id: string
  body: unknown
  before: unknown
  after: unknown
}

export interface Answer {
  status: number
  headers: Record<string, string>
  body?: Body
  change?: Change
  /** How long the provider works after the change is stored and before it answers. */
  workMs?: number
}

/** What a fault may say about the refusal it asks for. */
export interface Wording {
  code?: string | undefined
  message?: string | undefined
}

export type Outcome<T> = { ok: true; value: T } | { ok: false; reason: string }

/** A provider: its answers are computed as values, and sent elsewhere, so that faults are the same for all. */
export interface Emulator {
  /** The resource that a write is aimed at, known before it is applied; undefined for everything else. */
  target(request: Received): string | undefined
  answer(request: Received): Answer | Promise<Answer>
  /** An error of any status in the shape that the provider uses at this path. */
  refusal(status: number, path: string, wording?: Wording): Answer
  /** Only for a provider that deploys what it stored. */
  degrade?(answer: Answer, deployment: PartialDeployment): Answer
  /** The wire names that a fault may have a write keep or store. */
  members: ReadonlySet<string>
  /** The body of an answer with the members of every resource in it changed; any other body as it is. */
  retold(body: unknown, change: (members: JsonObject) => JsonObject): unknown
  read(type: string, id: string): unknown
  write(type: string, id: string, body: unknown): Outcome<unknown>
  settings(): object
  configure(change: unknown): Outcome<object>
  reset(): void
  /** Test-only routes that one provider alone needs. */
  control?(app: Hono): void
}

export const json = (status: number, body: unknown, headers: Record<string, string> = {}): Answer => ({
  status,
  headers: { 'content-type': 'application/json', ...headers },
  body: { json: body },
})

export const text = (status: number, body: string): Answer => ({
  status,
  headers: { 'content-type': 'text/plain; charset=utf-8' },
  body: { text: body },
})

export type JsonObject = Record<string, unknown>

export const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

export function parseJson(source: string): Outcome<unknown> {
  try {
    return { ok: true, value: JSON.parse(source) }
  } catch {
    return { ok: false, reason: 'not JSON' }
  }
}

/** Splits a raw path and decodes each segment by itself, so that `%2F` never becomes a separator. */
export function segmentsOf(path: string): string[] | undefined {
  try {
    return path.split('/').slice(1).map(decodeURIComponent)
  } catch {
    return undefined
  }
}

/** The media type of a header without its parameters. */
export const mediaType = (header: string | undefined): string =>
  (header ?? '').replace(/;.*$/s, '').trim().toLowerCase()

/** Whether an `Accept` header (absent = anything) admits one of the media types. */
export function accepts(header: string | undefined, ...types: string[]): boolean {
  if (header === undefined || header.trim() === '') return true
  return header.split(',').some((range) => {
    const type = mediaType(range)
    return type === '*/*' || types.includes(type)
  })
}

export const partialDeploymentSchema = z
  .strictObject({
    environments: z.array(z.string()).default([]),
    /** Where the failure shows; at the top without any environment, nothing was deployed at all. */
    level: z.enum(['top', 'environment', 'pod']).default('top'),
    /** SUCCESS without any word about the deployment. */
    missing: z.boolean().optional(),
  })
  .refine(({ environments, level }) => level === 'top' || environments.length > 0, {
    message: 'name the environments that fail',
  })

export type PartialDeployment = z.infer<typeof partialDeploymentSchema>

/** How what a write stores differs from what it asked for. Members go by the provider's wire names. */
export interface Deviation {
  keep?: readonly string[] | undefined
  store?: JsonObject | undefined
}

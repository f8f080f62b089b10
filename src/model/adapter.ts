import { z } from 'zod'
import type { Json, JsonObject } from '../lib/json.ts'
import type { Secret } from '../lib/secret.ts'
import type { Kind } from './enums.ts'
import type { Capabilities, Values } from './fields.ts'
import type { Parsed, Refusal } from './upstream-refusal.ts'

/**
 * The port between the gateway and one provider. An adapter is pure: data in, data out; no I/O, no clock, no
 * randomness, no throwing. Requests are values, so that a change can be planned, shown, compared with the provider's
 * documentation, audited and tested without sending anything.
 */
export interface Adapter {
  /** Kinds that the provider has; a kind without an entry does not exist there. */
  kinds: { [K in Kind]?: KindSpec<K> }
  /**
   * Base URL of every path template, such as `https://api.example.com/v1`. Without a default it must be configured.
   * `plainHttp` where the provider is installed on private networks and speaks plain HTTP there.
   */
  baseUrl: { default?: string; plainHttp?: true }
  /**
   * What tells an account from another, for two connections to one would be two writers: the client's id or key, or else the
   * server, which shows every client the same. There a `part` of the key divides it, but for the value that shows `everything`.
   */
  account?: { by: 'server'; part: string; everything: string }
  /** Ways to sign in; a connection uses the one whose settings it names. */
  auth: readonly Auth[]
  /** What the provider lets through, as far as it publishes that; a configuration may know better. */
  limits: Limits
  /** Where a 429 says how long to wait, when it carries no `Retry-After`. */
  throttle: Throttle
}

/** The template parameters of one resource, decoded. */
export type Ref = Readonly<Record<string, string>>

export interface KindSpec<K extends Kind> {
  /** The names of the key's parts in order: `projectName:username` has two. */
  key: readonly string[]
  /**
   * The last of them, where it alone says which resource is meant, whatever stands before it: then several ids lead to one
   * resource, which has one writer all the same.
   */
  alone?: string
  /** Checks one decoded part of the key; the fault's text, or undefined where it is good. */
  checkKey(part: string): string | undefined
  fields: Capabilities<K>
  /** For the reference: the key of a resource, and a change that its provider takes. `summary` says what it changes. */
  example: { key: string; summary: string; body: JsonObject }
  /** Absent where the provider cannot be read. */
  read?: {
    request(ref: Ref): UpstreamRequest
    parse(ref: Ref, response: UpstreamResponse): Parsed<Current<K>>
  }
  /** The one request that makes the change. `current` is undefined where the provider cannot be read. */
  plan(ref: Ref, desired: Values<K>, current: Current<K> | undefined): Parsed<UpstreamRequest>
  /** Decides what a definite answer (2xx, or a refusal by 4xx) to a write of `desired` means; never by the HTTP status alone. */
  parse(ref: Ref, response: UpstreamResponse, desired?: Values<K>): Reported<K>
}

/** A resource as it was read. A field that the answer did not tell is absent, one that cannot be used is `Unreadable`. */
export interface Current<K extends Kind> {
  values: Values<K>
  /** What can be sent back as the provider spelled it, by field name. */
  carry?: Readonly<Record<string, Json>>
}

/** A JSON body in which secrets are still wrapped. */
export type Body = Json | Secret | readonly Body[] | { readonly [member: string]: Body }

export interface UpstreamRequest {
  method: 'GET' | 'PUT' | 'PATCH' | 'POST'
  /** The path below the base URL with `{name}` for every parameter; a query without parameters may follow it. */
  template: string
  ref: Ref
  headers: Readonly<Record<string, string>>
  body?: Body
  /** Names of fields that were not requested and are sent back as they were read. */
  carries?: readonly string[]
  /** Answered with many resources: more of the answer is read than of a single one's. */
  list?: true
}

export interface UpstreamResponse {
  status: number
  /** Names in lower case. */
  headers: Readonly<Record<string, string>>
  /** The parsed JSON body, of which nothing is checked; undefined where there was none or it was no JSON. */
  body: unknown
  /** What it was parsed from. */
  text?: string
}

/** A number, or the text of one: servers differ in how they spell a lifetime. */
export const numeric = z.union([
  z.number(),
  z
    .string()
    .regex(/^\d{1,15}$/)
    .transform(Number),
])

/** Where a change has been deployed, as far as the provider says. */
export interface Deployment {
  success: boolean
  environments: { name: string; success: boolean }[]
}

export type Reported<K extends Kind> =
  | { outcome: 'applied'; values?: Values<K>; deployment?: Deployment }
  | { outcome: 'partial'; detail: string; deployment?: Deployment }
  | { outcome: 'rejected'; refusal: Refusal }
  /** A success that cannot be read proves nothing. `answered` where repeating the request would show nothing new. */
  | { outcome: 'unknown'; detail: string; answered?: true }

/** The wait in seconds is `interval / limit`, both read from headers, else `fallbackSeconds`. */
export interface Throttle {
  limitHeader?: string
  intervalHeader?: string
  fallbackSeconds: number
}

/** So many requests in any stretch of so many seconds: a sliding window. */
export interface Allowance {
  requests: number
  seconds: number
}

/** Every window of a list must have room; an empty list sets no limit. Where nothing is published, all are empty. */
export interface Limits {
  /** Whose requests are counted together: all that come from one address, or those of one credential. */
  per: 'address' | 'credential'
  /** Everything but GET. */
  writes: readonly Allowance[]
  reads: readonly Allowance[]
  /** Requests to the token endpoint. */
  tokens: readonly Allowance[]
}

/** Names of settings of a connection; each is a secret by reference. */
export type SettingName = 'apiKey' | 'token' | 'clientId' | 'clientSecret'

export type Auth =
  /** A fixed header: `Authorization: Bearer …` has the prefix `Bearer `. */
  | { scheme: 'header'; header: string; prefix: string; setting: SettingName }
  /** OAuth 2.0 client credentials (RFC 6749 §4.4) at the provider's token endpoint; the token is sent as a bearer. */
  | {
      scheme: 'client-credentials'
      endpoint: { base: 'baseUrl' } | { base: 'authUrl'; default: string }
      template: string
      encoding: 'json' | 'form'
      parse(response: UpstreamResponse): Parsed<Token>
    }

export interface Token {
  accessToken: Secret
  /** How long it is good for: seconds from now, or an absolute time in epoch milliseconds. */
  lifetime: { seconds: number } | { until: number }
}

/** The providers that a gateway knows, by the name that configurations and replies use. */
export type Registry = Readonly<Record<string, Adapter>>

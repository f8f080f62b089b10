import { registry } from '../../adapters/index.ts'
import { merge, type Mode } from '../../src/change/merge.ts'
import type { JsonObject } from '../../src/lib/json.ts'
import { Secret } from '../../src/lib/secret.ts'
import type {
  Adapter,
  Auth,
  Current,
  KindSpec,
  Ref,
  UpstreamRequest,
  UpstreamResponse,
} from '../../src/model/adapter.ts'
import type { Parsed } from '../../src/model/upstream-refusal.ts'
import type { Kind } from '../../src/model/enums.ts'
import type { AnyValues, Values } from '../../src/model/fields.ts'
import { parseId } from '../../src/model/resource-id.ts'
import { buildUrl } from '../../src/upstream/send.ts'
import type { Sent } from './curl.ts'
import { lawful } from './lawful.ts'
import { accepted } from './values.ts'

/** One provider's kind with a resource in it: the gateway's way from a body to a request and back, without sending. */
export interface Translation {
  spec: KindSpec<Kind>
  /** Reads the resource's state out of a provider's answer. */
  read(answer: UpstreamResponse): Parsed<Current<Kind>>
  /** The request that a PUT with this body leads to; `before` is what a read answered. */
  plan(body: JsonObject, before?: JsonObject, mode?: Mode): Parsed<UpstreamRequest>
  /** The same as it goes over the wire, signed in with `credential`. */
  send(body: JsonObject, credential: string, before?: JsonObject): Sent
  parse(answer: UpstreamResponse): ReturnType<KindSpec<Kind>['parse']>
}

export const answer = (status: number, body?: unknown): UpstreamResponse => ({ status, headers: {}, body })

export function translate(
  provider: keyof typeof registry,
  kind: Kind,
  id: string,
  baseUrl?: string,
): Translation {
  const adapter: Adapter = lawful(registry[provider])
  const spec = adapter.kinds[kind] as KindSpec<Kind> | undefined
  const address = parseId(id)
  if (!spec || !address.ok) throw new TypeError(`${id} is no ${kind}`)
  const { parts } = address.value
  const ref: Ref = Object.fromEntries(spec.key.map((name, index) => [name, parts[index] ?? '']))

  const translation: Translation = {
    spec,
    parse: (response) => spec.parse(ref, response),
    read: (response) => valueOf(spec.read).parse(ref, response),
    plan(body, before, mode = 'merge') {
      const current = before && resultOf(translation.read(answer(200, before)))
      const sent = accepted(kind, spec.fields, body)
      const merged = merge(kind, sent, current?.values as AnyValues | undefined, {
        mode,
        readable: Object.keys(spec.fields),
      })
      if (!merged.ok) throw new TypeError(merged.problem.detail)
      return spec.plan(ref, merged.value.desired as Values<Kind>, current)
    },
    send(body, credential, before) {
      const request = resultOf(translation.plan(body, before))
      const url = valueOf(buildUrl(baseUrl ?? adapter.baseUrl.default ?? '', request))
      return {
        method: request.method,
        url: url.href,
        headers: { ...request.headers, ...signIn(valueOf(adapter.auth[0]), credential) },
        body: open(request.body),
      }
    },
  }
  return translation
}

const signIn = (auth: Auth, credential: string): Record<string, string> =>
  auth.scheme === 'header'
    ? { [auth.header.toLowerCase()]: auth.prefix + credential }
    : { authorization: `Bearer ${credential}` }

/** A planned body as JSON, secrets opened. */
export const open = (body: UpstreamRequest['body']): unknown =>
  JSON.parse(
    JSON.stringify(body, function (this: Record<string, unknown>, name, value: unknown) {
      const held = this[name]
      return held instanceof Secret ? held.expose() : value
    }),
  )

export function resultOf<T>(result: Parsed<T>): T {
  if (!result.ok) throw new Error(`refused as ${result.refusal.problem}: ${result.refusal.detail}`)
  return result.value
}

function valueOf<T>(value: T | undefined): T {
  if (value === undefined) throw new TypeError('there is none')
  return value
}

import type { Json } from '../harness/sandbox-calls.ts'
import type { Described, Description } from './description.ts'
import type { Draft } from './draft.ts'
import type { Reply } from './line.ts'

/** What no operation has to document: the request named no route, no method of it, or was no request. */
const NOWHERE = new Set([400, 404, 405, 408, 431])

/** What a provider that fails may make of a request. Whatever else begins with 5 is the gateway's own fault. */
const OF_PROVIDERS = new Set([
  'upstream-unauthorized',
  'upstream-failed',
  'partially-applied',
  'upstream-unavailable',
  'upstream-rate-limited',
  'outcome-unknown',
])

function parsed(text: string): Json {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** The target as URLs are resolved, which a runtime may do before the gateway sees it; what a host is called leads nowhere else. */
function resolved(target: string): string {
  try {
    const { pathname, search } = new URL(
      target.replace('//@CANARY@', '//host.example'),
      'http://gateway.example',
    )
    return pathname + search
  } catch {
    return target
  }
}

export interface Circumstances {
  description: Description
  /** Providers were told to fail. */
  underFaults: boolean
}

/** What is wrong with the reply to a request; empty when it is one that the gateway documents. */
export function judge({ description, underFaults }: Circumstances, draft: Draft, reply: Reply): string[] {
  const { status, headers, text } = reply
  const type = headers.get('content-type')?.split(';')[0] ?? ''
  const body = type.endsWith('json') ? parsed(text) : undefined
  const targets = new Set([draft.target, resolved(draft.target)])
  const operations = [...targets].flatMap((target) => description.matching(draft.method.trim(), target))
  const isElsewhere = draft.raw || operations.length === 0 || targets.size > 1 || draft.method === 'HEAD'
  const faults: string[] = []

  const faultsAt = (operation: Described): string[] => {
    const documented = operation.responses[status]
    if (!documented) return [`${operation.method} ${operation.path} does not document ${status}`]
    // Bytes of a body would have come after the reply.
    if (draft.method === 'HEAD' || status === 304) return []
    const content = documented.content?.[type]
    if (!content) return [`${status} does not document the type "${type}"`]
    if (type === 'application/problem+json') {
      const slug = String(body?.type).replace('/problems/', '')
      if (!Object.hasOwn(content.examples ?? {}, slug)) return [`${status} does not document ${slug}`]
    }
    if (!type.endsWith('json')) return text === '' ? ['no body'] : []
    const fault = description.faultOf(operation, status, type, body)
    return fault === undefined ? [] : [`${status} is not of its schema: ${fault}`]
  }
  const found = operations.map(faultsAt)
  const isDocumented = found.some((list) => list.length === 0)
  if (!isDocumented && !(isElsewhere && NOWHERE.has(status))) {
    faults.push(...(found.flat().length > 0 ? found.flat() : [`an unknown route answered ${status}`]))
  }

  if (!headers.get('x-request-id')) faults.push('no x-request-id')
  if (draft.method === 'HEAD') return status >= 500 && !underFaults ? [...faults, `HEAD ${status}`] : faults
  if (status < 400) return faults
  if (type !== 'application/problem+json') return [...faults, `${status} is no problem document`]
  const shape = description.problemFaultOf(body)
  if (shape !== undefined) return [...faults, `no problem document: ${shape}`]
  const slug = String(body.type).replace('/problems/', '')
  if (!description.slugs.has(slug)) faults.push(`the problem ${slug} has no page`)
  if (body.status !== status) faults.push('the status is not the one in the body')
  if (body.requestId !== headers.get('x-request-id')) faults.push('the request id is not the one in the body')
  if (status >= 500 && !(underFaults && OF_PROVIDERS.has(slug)))
    faults.push(`${status} ${slug}: ${body.detail}`)
  // `instance` is the path by its meaning.
  const { instance: _, ...rest } = body
  const told = JSON.stringify(rest) + JSON.stringify([...headers])
  if (told.includes(draft.canary)) faults.push(`the refusal repeats what was sent: ${told}`)
  return faults
}

import { type Answer, json } from '../exchange.ts'

/** An entry of a JSON:API error document (JSON:API 1.0 §Errors). In the API `status` is a string. */
export interface ApiError {
  title: string
  detail: string
  code: string
  status: string
  source?: { pointer: string }
  meta?: Record<string, unknown>
}

export const jsonApiType = 'application/vnd.api+json'

export const apiError = (status: number, code: string, title: string, detail: string): ApiError => ({
  title,
  detail,
  code,
  status: String(status),
})

/** One failed validation: `detail` is attribute, dash, title (docs.commercelayer.io/core/handling-errors). */
export const invalid = (
  member: `attributes/${string}` | `relationships/${string}`,
  title: string,
  meta: { error: string; value?: unknown; count?: number },
): ApiError => ({
  title,
  detail: `${member.slice(member.indexOf('/') + 1)} - ${title}`,
  code: 'VALIDATION_ERROR',
  source: { pointer: `/data/${member}` },
  status: '422',
  meta,
})

export const errors = (list: ApiError[], headers: Record<string, string> = {}): Answer => ({
  status: Number(list[0]?.status ?? 500),
  headers: { 'content-type': jsonApiType, ...headers },
  body: { json: { errors: list } },
})

export const notFound = (id: string): Answer =>
  errors([
    apiError(
      404,
      'RECORD_NOT_FOUND',
      'Record not found',
      `The record identified by ${id} could not be found.`,
    ),
  ])

/** Code and title by status, for refusals that no rule of the emulator produces. The codes of 405, 409 and 429 are assumptions. */
const usual: Record<number, [code: string, title: string]> = {
  400: ['BAD_REQUEST', 'Bad request'],
  401: ['INVALID_TOKEN', 'Invalid token'],
  403: ['FORBIDDEN', 'Forbidden'],
  404: ['RECORD_NOT_FOUND', 'Record not found'],
  405: ['METHOD_NOT_ALLOWED', 'Method not allowed'],
  406: ['NOT_ACCEPTABLE', 'Not acceptable'],
  409: ['RECORD_NOT_UNIQUE', 'Record not unique'],
  415: ['UNSUPPORTED_MEDIA_TYPE', 'Unsupported media type'],
  422: ['VALIDATION_ERROR', 'Validation error'],
  423: ['LOCKED', 'Locked'],
  429: ['TOO_MANY_REQUESTS', 'Too many requests'],
  500: ['INTERNAL_SERVER_ERROR', 'Internal server error'],
  503: ['SERVICE_UNAVAILABLE', 'Service unavailable'],
}

const titles: Record<string, string> = { UNAUTHORIZED: 'Access denied' }

export function refusal(status: number, code?: string): Answer {
  const { used, title } = named(status, code)
  return errors([apiError(status, used, title, 'The request could not be handled.')])
}

/** Errors of the token server carry a numeric status, unlike those of the API (commercelayer-js-auth). */
export const authError = (status: number, code: string, title: string, detail: string): Answer =>
  json(status, { errors: [{ title, detail, code, status }] })

export function authRefusal(status: number, code?: string): Answer {
  const { used, title } = named(status, code)
  return authError(status, used, title, 'The request could not be handled.')
}

function named(status: number, code: string | undefined): { used: string; title: string } {
  const [ownCode, title] = usual[status] ?? ['UNEXPECTED', 'Unexpected']
  const used = code ?? ownCode
  return { used, title: titles[used] ?? title }
}

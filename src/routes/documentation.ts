import { z } from '@hono/zod-openapi'
import { stringify } from 'yaml'
import type { Operation } from '../operation.ts'
import { type ProblemSlug, problems, refuse } from '../problems.ts'
import { problemResponse } from '../operation.ts'

/** A script as a runtime has it at hand. */
export type ScriptBody = string | Uint8Array<ArrayBuffer>

export interface DocumentationParts {
  /** The OpenAPI document; built on first use, when all operations are registered. */
  document(): object
  /** The API reference's script bundle; the entries know where it is. */
  referenceScript(): Promise<ScriptBody>
}

// Scalar sets inline styles; scripts come from this origin only.
const CSP = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data:",
  "font-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ')

const page = (title: string, body: string): Response =>
  new Response(
    `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">` +
      `<title>${title}</title><link rel="icon" href="data:,"></head><body>${body}</body></html>`,
    { headers: { 'content-type': 'text/html; charset=utf-8', 'content-security-policy': CSP } },
  )

const script = (body: ScriptBody): Response =>
  new Response(body, {
    headers: { 'content-type': 'text/javascript; charset=utf-8', 'cache-control': 'public, max-age=3600' },
  })

/** No request to anyone else: no proxy, no fonts, no telemetry, no agent. */
const START = `Scalar.createApiReference('#reference', ${JSON.stringify({
  url: '/openapi.json',
  withDefaultFonts: false,
  telemetry: false,
  hideClientButton: true,
  showDeveloperTools: 'never',
  agent: { disabled: true },
  mcp: { disabled: true },
  defaultOpenAllTags: true,
  authentication: { preferredSecurityScheme: 'apiKey' },
})})`

const text = (description: string, type: string) => ({
  200: { description, content: { [type]: { schema: z.string() } } },
})

export function documentationOperations({ document, referenceScript }: DocumentationParts): Operation[] {
  const common = { method: 'get', public: true, tag: 'Documentation', problems: [] } as const
  return [
    {
      ...common,
      path: '/openapi.json',
      summary: 'This document as JSON',
      success: {
        200: { description: 'OpenAPI 3.1.', content: { 'application/json': { schema: z.looseObject({}) } } },
      },
      handle: () =>
        new Response(JSON.stringify(document()), { headers: { 'content-type': 'application/json' } }),
    },
    {
      ...common,
      path: '/openapi.yaml',
      summary: 'This document as YAML',
      success: text('OpenAPI 3.1.', 'application/yaml'),
      handle: () => new Response(toYaml(document()), { headers: { 'content-type': 'application/yaml' } }),
    },
    {
      ...common,
      path: '/docs',
      summary: 'The API reference for people',
      success: text('A page.', 'text/html'),
      handle: () =>
        page(
          'Credential gateway',
          '<div id="reference"></div><script src="/docs/reference.js"></script><script src="/docs/start.js"></script>',
        ),
    },
    {
      ...common,
      path: '/docs/reference.js',
      summary: 'The script of the API reference',
      success: text('A script.', 'text/javascript'),
      handle: async () => script(await referenceScript()),
    },
    {
      ...common,
      path: '/docs/start.js',
      summary: 'What the API reference is started with',
      success: text('A script.', 'text/javascript'),
      handle: () => script(START),
    },
    {
      ...common,
      path: '/problems/{slug}',
      summary: 'What a problem means and what to do about it',
      success: text('A page.', 'text/html'),
      problems: ['not-found'],
      handle: ({ segment, requestId, url }) => {
        if (!Object.hasOwn(problems, segment)) {
          return problemResponse(
            refuse('not-found', 'there is no such problem').problem,
            requestId,
            url.pathname,
          )
        }
        const { title, status, text: meaning, retryable } = problems[segment as ProblemSlug]
        const retry = retryable ? 'The same request may succeed later.' : 'The same request will fail again.'
        return page(
          title,
          `<h1>${title}</h1><p><code>${segment}</code>, status ${status}</p><p>${meaning}</p><p>${retry}</p>`,
        )
      },
    },
  ]
}

/** The document as it is committed: one spelling, no aliases. */
export const toYaml = (value: object): string =>
  stringify(value, { aliasDuplicateObjects: false, lineWidth: 110 })

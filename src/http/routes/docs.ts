import { z } from '@hono/zod-openapi'
import { stringify } from 'yaml'
import { type ProblemSlug, problems, refuse } from '../../model/problems.ts'
import { type Operation, type OperationContext, problemResponse } from '../operation.ts'
import { REFERENCE_TAG } from '../reference-tag.ts'
import {
  type BodyOf,
  type Coding,
  serveStatic,
  type StaticBody,
  type StaticFile,
  staticText,
} from '../static-file.ts'

export interface DocumentationParts {
  /** The OpenAPI document; built on first use, when all operations are registered. */
  document(): object
  /** The API reference's script bundle; the entries know where it is. */
  referenceScript(coding: Coding): StaticBody | Promise<StaticBody>
  bodyOf: BodyOf
}

// Scalar sets inline styles; scripts come from this origin only, and requests go nowhere else.
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

const ICON =
  'data:image/svg+xml,' +
  encodeURIComponent(
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16" fill="none" stroke="#2a7de1" stroke-width="2">' +
      '<circle cx="5" cy="8" r="3.5"/><path d="M8.5 8H15v3.5M12 8v2.5"/></svg>',
  )

const page = (title: string, body: string): Response =>
  new Response(
    '<!doctype html><html lang="en"><head><meta charset="utf-8">' +
      '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">' +
      `<title>${title}</title><link rel="icon" href="${ICON}"></head><body>${body}</body></html>`,
    {
      headers: {
        'content-type': 'text/html; charset=utf-8',
        'content-security-policy': CSP,
        'referrer-policy': 'no-referrer',
      },
    },
  )

const PROSE =
  '<style>body{max-width:40rem;margin:15vh auto;padding:0 1rem;font:1rem/1.5 system-ui,sans-serif}</style>'

/** A problem's text as HTML: text in backticks becomes code. */
const prose = (text: string): string =>
  text
    .replace(/&/g, '&amp;')
    .replace(/</g, '&lt;')
    .replace(/`([^`]+)`/g, '<code>$1</code>')

/**
 * What opens the reference: nothing that leads to a service of its maker. Scalar fills a parameter in with the first
 * value of its enum, which would turn dry runs and replacing on: an empty example leaves the parameter out.
 */
const START = `// Zod would otherwise try eval out, which the page's policy forbids and reports.
globalThis.__zod_globalConfig = { jitless: true }
const [response] = await Promise.all([fetch('/openapi.json'), import('/docs/reference.js')])
const content = await response.json()
for (const operations of Object.values(content.paths)) {
  for (const { parameters = [] } of Object.values(operations)) {
    for (const parameter of parameters) if (!parameter.required && parameter.schema?.enum) parameter.example ??= ''
  }
}
Scalar.createApiReference('#reference', {
  content,
  withDefaultFonts: false,
  telemetry: false,
  hideClientButton: true,
  showDeveloperTools: 'never',
  agent: { disabled: true },
  mcp: { disabled: true },
  authentication: { preferredSecurityScheme: 'bearer' },
  defaultOpenAllTags: true,
  orderSchemaPropertiesBy: 'preserve',
  onBeforeRequest({ requestBuilder: { path } }) {
    // An id is URL-ready as it is, and its colons split it.
    path.serializedParameters = new Set(Object.keys(path.variables))
  },
})
`

const conditional = z.object({
  'if-none-match': z.string().optional().openapi({ description: 'Entity tags; 304 when one still holds.' }),
})
const UNCHANGED = {
  304: { description: 'It is still what `If-None-Match` names.', headers: ['ETag'] },
} as const

const text = (description: string, type: string) => ({
  200: { description, content: { [type]: { schema: z.string() } } },
})

const SCRIPT = 'text/javascript; charset=utf-8'

/** To be kept, and asked for anew each time: a new version of the gateway changes it. */
const REVALIDATED = 'no-cache'

export function documentationOperations({
  document,
  referenceScript,
  bodyOf,
}: DocumentationParts): Operation[] {
  const common = { method: 'get', public: true, tag: 'Documentation', problems: [] } as const
  const json = staticText('application/json', REVALIDATED, () => JSON.stringify(document()))
  const yaml = staticText('application/yaml', REVALIDATED, () => toYaml(document()))
  const start = staticText(SCRIPT, REVALIDATED, () => START)
  const reference = {
    type: SCRIPT,
    caching: 'public, max-age=3600',
    tag: () => REFERENCE_TAG,
    body: referenceScript,
  }
  const serve =
    (file: StaticFile) =>
    ({ request }: OperationContext) =>
      serveStatic(request, file, bodyOf)
  return [
    {
      ...common,
      name: 'getOpenApiJson',
      path: '/openapi.json',
      summary: 'This document as JSON',
      description: 'OpenAPI 3.1, with an entity tag.',
      headers: conditional,
      success: {
        200: {
          description: 'OpenAPI 3.1.',
          headers: ['ETag'],
          content: { 'application/json': { schema: z.looseObject({}) } },
        },
        ...UNCHANGED,
      },
      handle: serve(json),
    },
    {
      ...common,
      name: 'getOpenApiYaml',
      path: '/openapi.yaml',
      summary: 'This document as YAML',
      description: 'OpenAPI 3.1, with an entity tag.',
      headers: conditional,
      success: { ...text('OpenAPI 3.1.', 'application/yaml'), ...UNCHANGED },
      handle: serve(yaml),
    },
    {
      ...common,
      name: 'getReference',
      path: '/docs',
      summary: 'The API reference for people',
      description: 'A page that shows this document.',
      success: text('A page.', 'text/html'),
      handle: () =>
        page(
          'Credential gateway',
          '<div id="reference"></div><script type="module" src="/docs/start.js"></script>' +
            '<noscript>Without scripts, read <a href="/openapi.yaml">the OpenAPI document</a>.</noscript>',
        ),
    },
    {
      ...common,
      hidden: true,
      name: 'getReferenceScript',
      path: '/docs/reference.js',
      summary: 'The script of the API reference',
      description: 'Loaded by the page.',
      success: text('A script.', 'text/javascript'),
      handle: serve(reference),
    },
    {
      ...common,
      hidden: true,
      name: 'getReferenceStart',
      path: '/docs/start.js',
      summary: 'What the API reference is started with',
      description: 'Loaded by the page.',
      success: text('A script.', 'text/javascript'),
      handle: serve(start),
    },
    {
      ...common,
      name: 'getProblem',
      path: '/problems/{slug}',
      summary: 'What a problem means and what to do about it',
      description: 'The page that `type` of a problem leads to.',
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
        const retry = retryable
          ? 'The same request may succeed later.'
          : 'Sending the same request again does not help.'
        return page(
          title,
          `${PROSE}<h1>${title}</h1><p><code>${segment}</code>, status ${status}</p>` +
            `<p>${prose(meaning)}</p><p>${retry}</p><p><a href="/docs">API reference</a></p>`,
        )
      },
    },
  ]
}

/** The document as it is committed: one spelling, no aliases. */
export const toYaml = (value: object): string =>
  stringify(value, { aliasDuplicateObjects: false, lineWidth: 120 })

import type { OpenAPIHono } from '@hono/zod-openapi'

const DESCRIPTION =
  'One `PUT` for every system that hands out credentials. Callers see one normalized model, one honest outcome and ' +
  'one audit trail; what a provider cannot do is refused by name. A 2xx means that the change is in force everywhere ' +
  'the provider deploys to, and that its intent and its outcome are recorded.'

/** The document of an app whose operations are all registered. */
export const openApiDocument = (app: OpenAPIHono): object =>
  app.getOpenAPI31Document({
    openapi: '3.1.0',
    info: {
      title: 'Credential gateway',
      version: '0.1.0',
      description: DESCRIPTION,
      license: { name: 'MIT' },
    },
    servers: [{ url: '/' }],
  })

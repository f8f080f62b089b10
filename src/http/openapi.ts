import type { OpenAPIHono } from '@hono/zod-openapi'

const DESCRIPTION =
  'One `PUT` for every system that hands out credentials. Callers see one normalized model, one honest outcome and ' +
  'one audit trail; what a provider cannot do is refused by name. A 2xx means that the change is in force everywhere ' +
  'the provider deploys to, and that its intent and its outcome are recorded.'

/** In the order of the operations. */
const tags = [
  {
    name: 'Credentials',
    description: 'What lets a client in: API credentials, API clients, users with passwords.',
  },
  { name: 'Roles', description: 'Named sets of permissions (Commerce Layer).' },
  { name: 'Permissions', description: 'What a role may do with one kind of thing (Commerce Layer).' },
  { name: 'Changes', description: 'What was asked for and where it stands.' },
  { name: 'Audit', description: 'Who changed what, and what really happened.' },
  { name: 'Providers', description: 'What each provider can do, and the connections to them.' },
  { name: 'Health', description: 'Whether the gateway answers, and whether it can take changes.' },
  { name: 'Documentation', description: 'This document, and what every problem means.' },
]

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
    tags,
  })

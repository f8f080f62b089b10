import { z } from '@hono/zod-openapi'
import { touchesConnection } from '../../access/rules.ts'
import type { Config } from '../../config/document.ts'
import type { Registry } from '../../model/adapter.ts'
import { kinds } from '../../model/enums.ts'
import { equivalenceNames } from '../../model/equivalence.ts'
import { type AnyCapabilities, fieldsOf } from '../../model/fields.ts'
import { ok } from '../../model/problems.ts'
import type { Operation } from '../operation.ts'

const capability = z
  .object({
    mutability: z.enum(['readWrite', 'writeOnly', 'readOnly', 'immutable', 'unsupported']),
    upstream: z.string().optional().openapi({ description: 'Its name at the provider.' }),
    nullable: z.boolean().optional(),
    minimum: z.number().optional(),
    maximum: z.number().optional(),
    maxItems: z.number().optional(),
    equivalence: z.enum(equivalenceNames).optional().openapi({
      description:
        'How the provider may spell a value that it took: without space at its ends, without the fraction of a second, addresses or e-mail addresses in another spelling. The reply then shows what the provider tells, with a warning.',
    }),
  })
  .openapi('Capability', {
    description: 'What a provider can do with a field (the words of SCIM, RFC 7643 §7).',
  })

const provider = z
  .object({
    name: z.string(),
    kinds: z.record(
      z.string(),
      z.object({
        key: z.string().openapi({
          description: 'The grammar of the id behind the connection’s name.',
          example: '{projectName}:{username}',
        }),
        readable: z.boolean(),
        fields: z.record(z.string(), capability),
      }),
    ),
  })
  .openapi('Provider')

const connection = z
  .object({
    name: z.string(),
    provider: z.string(),
    kinds: z.array(z.enum(kinds)),
    verifyWrites: z.boolean().openapi({
      description:
        'Whether a write is read back where the provider’s answer does not tell what was asked for. Never where the provider cannot be read.',
    }),
  })
  .openapi('Connection')

const page = (item: z.ZodType) => ({
  'application/json': { schema: z.object({ data: z.array(item), nextCursor: z.string().nullable() }) },
})
const list = (data: unknown[]): Response =>
  new Response(JSON.stringify({ data, nextCursor: null }), {
    headers: { 'content-type': 'application/json' },
  })

/** What each provider can do: the adapters' own tables, with `unsupported` spelled out. */
function describe(registry: Registry) {
  return Object.entries(registry).map(([name, adapter]) => ({
    name,
    kinds: Object.fromEntries(
      kinds.flatMap((kind) => {
        const spec = adapter.kinds[kind]
        if (!spec) return []
        const capabilities: AnyCapabilities = spec.fields
        const fields = Object.fromEntries(
          Object.keys(fieldsOf(kind)).map((field) => [
            field,
            capabilities[field] ?? { mutability: 'unsupported' },
          ]),
        )
        const key = spec.key.map((part) => `{${part}}`).join(':')
        return [[kind, { key, readable: spec.read !== undefined, fields }]]
      }),
    ),
  }))
}

export function providerOperations({
  registry,
  config,
}: {
  registry: Registry
  config: Config
}): Operation[] {
  return [
    {
      name: 'listProviders',
      method: 'get',
      path: '/providers',
      tag: 'Providers',
      summary: 'List the providers and what each can do with every field',
      description: 'What can be set, read or cleared, and how long a value may be.',
      success: { 200: { description: 'All of them.', content: page(provider) } },
      problems: [],
      handle: async () => ok(list(describe(registry))),
    },
    {
      name: 'listConnections',
      method: 'get',
      path: '/connections',
      tag: 'Providers',
      summary: 'List the connections that the caller’s rules touch',
      description: 'To be named in ids.',
      success: { 200: { description: 'Without addresses and secrets.', content: page(connection) } },
      problems: [],
      handle: async ({ caller }) =>
        ok(
          list(
            [...config.connections.values()]
              .filter(({ name }) => touchesConnection(caller, name))
              .map(({ name, provider, verifyWrites }) => {
                const specs = registry[provider]?.kinds ?? {}
                const isReadable = Object.values(specs).some(({ read }) => read)
                return { name, provider, kinds: Object.keys(specs), verifyWrites: verifyWrites && isReadable }
              }),
          ),
        ),
    },
  ]
}

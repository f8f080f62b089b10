import { z } from '@hono/zod-openapi'
import type { Registry } from '../../model/adapter.ts'
import type { Kind } from '../../model/enums.ts'
import { type AnyCapabilities, type Capability, fieldsOf, isWritable, schemaFor } from '../../model/fields.ts'

/** The documented shapes of resources, changes and plans, drawn from the model and the adapters' capabilities. */

export const title = (kind: Kind): string => kind[0]?.toUpperCase() + kind.slice(1)

/** What the providers make of a field, in words: from the same tables that validate it. */
function support(registry: Registry, kind: Kind, name: string): string {
  const told = Object.entries(registry).flatMap(([provider, adapter]) => {
    const capability = (adapter.kinds[kind]?.fields as AnyCapabilities | undefined)?.[name]
    if (!capability) return []
    const { mutability, upstream, nullable, minimum, maximum, maxItems } = capability
    const bounds = [
      ...(nullable ? ['null clears it'] : []),
      ...(minimum !== undefined ? [`at least ${minimum}`] : []),
      ...(maximum !== undefined ? [`at most ${maximum}`] : []),
      ...(maxItems !== undefined ? [`at most ${maxItems} element${maxItems === 1 ? '' : 's'}`] : []),
    ]
    return [
      `${provider}: ${mutability} as \`${upstream}\`${bounds.length > 0 ? ` (${bounds.join(', ')})` : ''}`,
    ]
  })
  return told.join('; ') || 'no provider'
}

const capabilitiesOf = (registry: Registry, kind: Kind, name: string) =>
  Object.values(registry).flatMap((adapter) => {
    const capability = (adapter.kinds[kind]?.fields as AnyCapabilities | undefined)?.[name]
    return capability ? [capability] : []
  })

/** The JSON type of a field's values, for the parts of a document that describe and do not validate. */
function shape(kind: Kind, name: string): z.ZodType {
  const { example } = fieldsOf(kind)[name] ?? { example: '' }
  if (Array.isArray(example)) return z.array(z.string())
  if (typeof example === 'object' && example !== null) return z.looseObject({})
  if (typeof example === 'number') return z.int()
  return typeof example === 'boolean' ? z.boolean() : z.string()
}

/** The widest of what the providers take: a bound counts where all of them have one. The rest is in the text. */
function widest(all: readonly Capability[]): Capability | undefined {
  const [first] = all
  if (!first) return undefined
  const bound = (name: 'minimum' | 'maximum' | 'maxItems', pick: (...values: number[]) => number) => {
    const values = all.flatMap((one) => (one[name] === undefined ? [] : [one[name]]))
    return values.length === all.length ? { [name]: pick(...values) } : {}
  }
  return {
    mutability: first.mutability,
    upstream: first.upstream,
    nullable: all.some((one) => one.nullable),
    ...bound('minimum', Math.min),
    ...bound('maximum', Math.max),
    ...bound('maxItems', Math.max),
  }
}

export function updateSchema(registry: Registry, kind: Kind): z.ZodType {
  const fields = Object.entries(fieldsOf(kind)).flatMap(([name, { about, example }]) => {
    const capability = widest(capabilitiesOf(registry, kind, name).filter(isWritable))
    if (!capability) return []
    // Values that only code can check have no schema of their own to show.
    const shown =
      name === 'secret'
        ? z.string().min(1).openapi({ format: 'password', writeOnly: true })
        : name === 'metadata'
          ? z.looseObject({}).nullable()
          : schemaFor(kind, name, capability)
    const description = `${about} Providers: ${support(registry, kind, name)}.`
    return [[name, shown.optional().openapi({ description, example })] as const]
  })
  return z.strictObject(Object.fromEntries(fields)).openapi(`${title(kind)}Update`, {
    description: 'Absent keeps, null clears where the provider allows it, a value sets.',
  })
}

export function resourceSchema(registry: Registry, kind: Kind): z.ZodType {
  const fields = Object.entries(fieldsOf(kind)).flatMap(([name, { about, example }]) => {
    const readable = capabilitiesOf(registry, kind, name).filter((one) => one.mutability !== 'writeOnly')
    if (readable.length === 0) return []
    const values = shape(kind, name)
    // Texts and lists of texts have room for `[hidden]` already.
    const textual = values instanceof z.ZodString || values instanceof z.ZodArray
    const shown = textual ? values.nullable() : z.union([values, z.literal('[hidden]'), z.null()])
    return [[name, shown.optional().openapi({ description: about, example })] as const]
  })
  const [[provider, adapter] = ['', undefined]] = Object.entries(registry).filter(
    ([, { kinds }]) => kinds[kind],
  )
  const key = adapter?.kinds[kind]?.example.key ?? ''
  return z
    .object({
      id: z.string().openapi({ description: 'The canonical id.', example: `${provider}:${key}` }),
      connection: z.string().openapi({ example: provider }),
      provider: z.string().openapi({ example: provider }),
      readable: z.boolean().openapi({
        description:
          'False where the provider cannot be read: the values are the last that it told or, where it told none, that were applied.',
        example: true,
      }),
      etag: z.string().optional().openapi({
        description: 'For `If-Match`; it reveals no value.',
        example: '"Mopk37agBfpj9SOOaRoV7HLtXr4m0dDT"',
      }),
      unreadable: z
        .array(z.string())
        .optional()
        .openapi({
          description:
            'Fields whose value at the provider cannot be used, and which are null here: it is of another type, or not exact. A change that does not have to send them back succeeds all the same.',
          example: ['email'],
        }),
      ...Object.fromEntries(fields),
    })
    .openapi(title(kind), { description: 'A field that the caller may not read is `[hidden]`.' })
}

export const widensSchema = z.union([z.boolean(), z.literal('[hidden]')]).openapi({
  description:
    'Whether access is given that was not there before; `[hidden]` where a changed field decides that and the caller may not read it.',
})

const fieldChange = z
  .object({
    action: z.enum(['set', 'clear']),
    from: z.any().optional(),
    to: z.any().optional(),
    told: z.any().optional().openapi({ description: 'What the provider told instead of `to`.' }),
    fingerprint: z
      .string()
      .optional()
      .openapi({ description: 'Of a secret: keyed, and bound to the resource.' }),
  })
  .openapi('FieldChange')
const fieldChanges = z.record(z.string(), fieldChange)

const deployment = z
  .object({
    success: z.boolean(),
    environments: z.array(z.object({ name: z.string(), success: z.boolean() })),
  })
  .openapi('Deployment')

export const planSchema = z
  .object({
    outcome: z.literal('planned'),
    plan: z.object({
      request: z
        .object({
          method: z.string(),
          path: z.string(),
          headers: z.record(z.string(), z.string()),
          body: z.any(),
        })
        .nullable(),
      fields: fieldChanges,
      changed: z.boolean(),
      widens: widensSchema,
      warnings: z.array(z.string()),
    }),
  })
  .openapi('Plan', { description: 'What a change would send. Nothing was written.' })

export const changeSchema = (kind: Kind, resource: z.ZodType) =>
  z
    .object({
      changeId: z.uuid(),
      outcome: z.literal('applied'),
      changed: z.boolean(),
      widens: widensSchema,
      [kind]: resource,
      fields: fieldChanges,
      verified: z.boolean().optional().openapi({
        description:
          'Whether asked fields that the provider’s answer did not tell were read back and found in force. Absent where the answer told all of them, or only a secret was asked for.',
      }),
      warnings: z
        .array(z.string())
        .optional()
        .openapi({ description: 'What a provider holds in a spelling of its own.' }),
      deployment: deployment.optional(),
      upstream: z
        .object({ method: z.string(), status: z.int().nullable(), attempts: z.int(), durationMs: z.int() })
        .optional(),
    })
    .openapi(`${title(kind)}Change`)

/**
 * The resource types of the Provisioning API as tables.
 * Source: the OpenAPI schema and resources.json of github.com/commercelayer/provisioning-sdk.
 */
export type ResourceType = 'api_credentials' | 'roles' | 'permissions'

export interface Linkage {
  type: string
  id: string
}

/** A resource as it is stored. Replaced as a whole by every write, never changed in place. */
export interface Stored {
  id: string
  type: ResourceType
  attributes: Record<string, unknown>
  relationships: Record<string, { data: Linkage | null }>
}

interface Attribute {
  holds: 'string' | 'boolean' | 'integer' | 'object'
  /** When a client may send it; an attribute without this is read-only. */
  writable?: 'create' | 'always' | 'update-only'
  required?: boolean
  nullable?: boolean
  range?: { min: number; max: number }
  /** A command to the server: it is never stored and never returned. */
  trigger?: boolean
}

interface ToOne {
  type: string
  writable?: 'create' | 'always'
  required?: boolean
}

interface ResourceTable {
  attributes: Record<string, Attribute>
  toOne: Record<string, ToOne>
  toMany: Record<string, { type: string }>
  relationshipOrder: string[]
  sortable: string[]
  deletable: boolean
}

const bookkeeping = {
  created_at: { holds: 'string' },
  updated_at: { holds: 'string' },
  reference: { holds: 'string', writable: 'always', nullable: true },
  reference_origin: { holds: 'string', writable: 'always', nullable: true },
  metadata: { holds: 'object', writable: 'always', nullable: true },
} satisfies Record<string, Attribute>

const flag = { holds: 'boolean', writable: 'always', required: true } satisfies Attribute
const organization = { type: 'organizations', writable: 'create', required: true } satisfies ToOne
const sortable = ['id', 'created_at', 'updated_at', 'reference', 'reference_origin']

export const resources: Record<ResourceType, ResourceTable> = {
  api_credentials: {
    attributes: {
      name: { holds: 'string', writable: 'always', required: true },
      kind: { holds: 'string', writable: 'create', required: true },
      confidential: { holds: 'boolean' },
      redirect_uri: { holds: 'string', writable: 'always', nullable: true },
      client_id: { holds: 'string' },
      client_secret: { holds: 'string' },
      scopes: { holds: 'string' },
      expires_in: {
        holds: 'integer',
        writable: 'always',
        nullable: true,
        range: { min: 7_200, max: 31_536_000 },
      },
      mode: { holds: 'string', writable: 'create' },
      custom: { holds: 'boolean', writable: 'create' },
      ...bookkeeping,
    },
    toOne: { organization, role: { type: 'roles', writable: 'always' } },
    toMany: {},
    relationshipOrder: ['organization', 'role'],
    sortable: ['mode', ...sortable],
    deletable: true,
  },
  roles: {
    attributes: {
      name: { holds: 'string', writable: 'always', required: true },
      kind: { holds: 'string' },
      ...bookkeeping,
      _add_missing_base_permissions: { holds: 'boolean', writable: 'update-only', trigger: true },
    },
    toOne: { organization },
    toMany: {
      permissions: { type: 'permissions' },
      memberships: { type: 'memberships' },
      api_credentials: { type: 'api_credentials' },
      versions: { type: 'versions' },
    },
    relationshipOrder: ['organization', 'permissions', 'memberships', 'api_credentials', 'versions'],
    sortable,
    deletable: false,
  },
  permissions: {
    attributes: {
      can_create: flag,
      can_read: flag,
      can_update: flag,
      can_destroy: flag,
      subject: { holds: 'string', writable: 'create', required: true },
      restrictions: { holds: 'object' },
      ...bookkeeping,
    },
    toOne: {
      organization: { type: 'organizations' },
      role: { type: 'roles', writable: 'create', required: true },
    },
    toMany: { versions: { type: 'versions' } },
    relationshipOrder: ['organization', 'role', 'versions'],
    sortable,
    deletable: false,
  },
}

export const isResourceType = (name: string | undefined): name is ResourceType =>
  name !== undefined && Object.hasOwn(resources, name)

/** Kinds that name a hosted application to fork, beside the three plain ones (commercelayer-cli-core). */
export const credentialKinds = new Set(
  `webapp sales_channel integration dashboard user metrics contentful bundles customers datocms exports external
  gift_cards imports inventory orders price_lists promotions resources returns sanity shipments skus sku_lists
  stock_transfers subscriptions tags webhooks zapier`.split(/\s+/),
)

export const organizationId = 'oRgAnIzAtN'

/** The identity of the client that tests use as the gateway's own upstream account. */
export const gatewayClient = { id: 'sandbox-client-id', secret: 'sandbox-client-secret' }

const seededAt = '2018-01-01T12:00:00.000Z'

const stamps = {
  created_at: seededAt,
  updated_at: seededAt,
  reference: 'ANY-EXTERNAL-REFERENCE',
  reference_origin: 'ANY-EXTERNAL-REFEFERNCE-ORIGIN',
  metadata: { foo: 'bar' },
}

export const ownOrganization = { data: { type: 'organizations', id: organizationId } }
export const roleLink = (id: string | null) => ({ data: id === null ? null : { type: 'roles', id } })

/** A credential, role or permission with plain values everywhere, for seeds and for resources that tests mint. */
export function specimen(type: ResourceType, id: string): Stored {
  switch (type) {
    case 'api_credentials':
      return {
        id,
        type,
        attributes: {
          name: 'My app',
          kind: 'integration',
          confidential: true,
          redirect_uri: 'https://bluebrand.com/img/logo.svg',
          client_id: `client-${id}`,
          client_secret: `secret-of-${id}`,
          scopes: 'market:all market:9 market:122 market:6 stock_location:6 stock_location:33',
          expires_in: 7200,
          mode: 'test',
          custom: false,
          ...stamps,
        },
        relationships: { organization: ownOrganization, role: roleLink('aDmInRoLeX') },
      }
    case 'roles':
      return {
        id,
        type,
        attributes: { name: 'Custom role', kind: 'custom', ...stamps },
        relationships: { organization: ownOrganization },
      }
    case 'permissions':
      return {
        id,
        type,
        attributes: {
          can_create: false,
          can_read: false,
          can_update: false,
          can_destroy: false,
          subject: 'organizations',
          restrictions: { foo: 'bar' },
          ...stamps,
        },
        relationships: { organization: ownOrganization, role: roleLink('xYZkjABcde') },
      }
  }
}

function variant(
  type: ResourceType,
  id: string,
  attributes: Record<string, unknown>,
  relationships: Stored['relationships'] = {},
): Stored {
  const base = specimen(type, id)
  return {
    ...base,
    attributes: { ...base.attributes, ...attributes },
    relationships: { ...base.relationships, ...relationships },
  }
}

export const seeds: readonly Stored[] = [
  specimen('api_credentials', 'xYZkjABcde'),
  variant(
    'api_credentials',
    'sAlEsChAnN',
    {
      name: 'Storefront',
      kind: 'sales_channel',
      confidential: false,
      expires_in: 14_400,
      scopes: 'market:all',
    },
    { role: roleLink(null) },
  ),
  variant(
    'api_credentials',
    'wEbApPcReD',
    { name: 'Back office', kind: 'webapp', redirect_uri: 'https://backoffice.example/callback' },
    { role: roleLink(null) },
  ),
  variant('api_credentials', 'gAtEwAyOwn', {
    name: 'Credential gateway',
    client_id: gatewayClient.id,
    client_secret: gatewayClient.secret,
    redirect_uri: null,
  }),
  specimen('roles', 'xYZkjABcde'),
  variant('roles', 'ABCRtyUpBa', { name: 'Operations' }),
  variant('roles', 'aDmInRoLeX', { name: 'Admin', kind: 'admin' }),
  variant('roles', 'rEaDoNlYrO', { name: 'Read only', kind: 'read_only' }),
  specimen('permissions', 'xYZkjABcde'),
]

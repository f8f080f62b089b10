import type { ResourceRecord } from '../ledger/types.ts'
import type { AuditKeys } from '../lib/keyed-digests.ts'
import type { Kind } from '../model/enums.ts'
import { type AnyValues, fieldsOf } from '../model/fields.ts'
import { encodedSpelling, type ResourceAddress } from '../model/resource-id.ts'
import { Unreadable } from '../model/unreadable.ts'

/** Two states that differ in what cannot be used of them differ. */
const forTag = (values: AnyValues) =>
  Object.fromEntries(
    Object.entries(values).map(([name, value]) => [
      name,
      value instanceof Unreadable ? { unreadable: value.source } : value,
    ]),
  )

/** Sets have no order, so a list that comes back in another one is the same. */
const inOrder = (kind: Kind, values: AnyValues): AnyValues =>
  Object.fromEntries(
    Object.entries(values).map(([name, value]) => [
      name,
      fieldsOf(kind)[name]?.compare === 'set' && Array.isArray(value) ? value.toSorted() : value,
    ]),
  )

/** An HMAC over the id, the canonical values and the count of secret changes: it reveals none of them. */
export const etagOf = (
  { keys }: { keys: AuditKeys },
  { kind, address }: { kind: Kind; address: Pick<ResourceAddress, 'id'> },
  values: AnyValues,
  { secretChanges }: ResourceRecord,
): string => keys.etag([kind, encodedSpelling(address.id), forTag(inOrder(kind, values)), secretChanges])

import type { Json } from '../lib/json.ts'
import { admitsMore } from './ip-ranges.ts'

/**
 * What makes a change widen access, field by field (`model/fields.ts` names one for each field that can). `from` is undefined where it is not known:
 * what cannot be shown to be harmless widens.
 */
export type Widens = (from: Json | undefined, to: Json) => boolean

/** A permission, or what is enabled. */
export const turnsOn: Widens = (from, to) => to === true && from !== true

/** A list of roles. */
export const addsAny: Widens = (from, to) =>
  (to as string[]).some((one) => !((from ?? []) as string[]).includes(one))

/** Addresses and ranges; an empty list admits every address. */
export const admitsMoreAddresses: Widens = (from, to) =>
  from === undefined ? true : admitsMore(from as string[], to as string[])

/** An expiry; null means never. */
export const endsLater: Widens = (from, to) =>
  from === undefined ? true : from !== null && (to === null || String(to) > String(from))

/** Bounds of what a provider's default may be: leaving a shorter lifetime for it may lengthen it. Seconds. */
const DEFAULT_LIFETIME = { least: 7200, most: 14_400 }

/** The lifetime of tokens; null means the provider's default. */
export const lastsLonger: Widens = (from, to) => {
  const seconds = (value: Json | undefined, absent: number) => (typeof value === 'number' ? value : absent)
  return seconds(to, DEFAULT_LIFETIME.most) > seconds(from, DEFAULT_LIFETIME.least)
}

/** An address that answers are sent to. */
export const leadsElsewhere: Widens = (from, to) => to !== null && to !== from

/** The closed sets of words that the API, the store and the rules share. Every schema and type is made from these. */

/** Kinds of resources. */
export const kinds = ['credential', 'role', 'permission'] as const
export type Kind = (typeof kinds)[number]

/** Types of events. */
export const eventTypes = [
  'intent',
  'attempt',
  'outcome',
  'settled',
  'resolved',
  'refused',
  // The gateway has made the audit append-only again.
  'repaired',
] as const
export type EventType = (typeof eventTypes)[number]

/** What became of a change. */
export const outcomes = [
  'applied',
  'rejected',
  'partial',
  'unknown',
  'not_sent',
  'superseded',
  'needs_attention',
] as const
export type Outcome = (typeof outcomes)[number]

/** States of a change: under way, or its outcome. */
export const changeStates = ['in_flight', ...outcomes] as const
export type ChangeState = (typeof changeStates)[number]

/**
 * Changes that are not known to be in force, nor known not to be. One that is in flight while another of its resource
 * begins was left behind by a crash, for a resource has one writer.
 */
export const openStates = [
  'in_flight',
  'unknown',
  'needs_attention',
  'partial',
] as const satisfies ChangeState[]

/** What may be wrong with one member of a request. */
export const faultCodes = [
  'unsupported-field',
  'read-only-field',
  'incomplete-representation',
  'secret-required-by-provider',
  'unreadable-field',
  'not-taken',
  'upstream-validation-failed',
  // Of a value, as zod calls them.
  'invalid-type',
  'invalid-format',
  'invalid-value',
  'invalid-union',
  'invalid-key',
  'invalid-element',
  'not-multiple-of',
  'too-big',
  'too-small',
  'unrecognized-keys',
  'custom',
] as const
export type FaultCode = (typeof faultCodes)[number]

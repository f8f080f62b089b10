import { DEADLINE, FOR_LONG, kindsOf } from '../../test/harness/fault-kinds.ts'
import type { Operation, OperationName } from '../../test/harness/operations.ts'
import { type Intent, type Members, normalised } from './wire.ts'

/** What goes wrong at one place, as the sandbox is told. */
export interface Order {
  at: 'write' | 'read'
  fault: object
  /** How often, if not always; once unless it says so. */
  times?: number
}

/** One way in which a provider, or the way to it, can fail. */
export interface Kind {
  name: string
  /** `old`: what the resource holds before the change. */
  orders(intent: Intent, old: Members): Order[]
  /** A body that the kind needs, instead of the operation's own. */
  body?(n: number): object
  /** It lands after everybody has stopped waiting. */
  isLate?: true
  /** It is stored and not deployed everywhere, or nobody says whether it was. */
  deployment?: 'failed' | 'untold'
  /** Nothing that the provider says or shows tells it from a success. */
  isUnseen?: true
  /** It holds back everything else at the provider. */
  isBurden?: true
}

/** Values that a provider may spell otherwise: space at the ends, capitals in an address, a part of a second. */
const toNormalise: Partial<Record<OperationName, (n: number) => object>> = {
  'commerce layer credential': (n) => ({ reference: ` vault:${n} `, metadata: { n } }),
  'commerce layer role': (n) => ({ name: ` Role ${n} ` }),
  'commerce layer permission': (n) => ({ reference: ` rule:${n} `, canRead: true }),
  'discue client': (n) => ({ name: ` example.com/${n} ` }),
  'apinizer credential': (n) => ({
    secret: `secret ${n}`,
    description: ` change ${n} `,
    email: `Ops.${n}@Example.com`,
    expiresAt: '2031-01-31T23:59:59.123Z',
  }),
}

const write = (fault: object): Order[] => [{ at: 'write', fault }]
const namesOf = ({ asked }: Intent): string[] => Object.keys(asked)
const but = (members: Members, name: string): Members =>
  Object.fromEntries(Object.entries(members).filter(([other]) => other !== name))

/** The reading before a write is the first, and old anyway: the second is the one that should tell the new values. */
const stale = (intent: Intent, old: Members): Order => ({
  at: 'read',
  fault: {
    tell: Object.fromEntries(
      namesOf(intent)
        .filter((name) => name in old)
        .map((name) => [name, old[name]]),
    ),
  },
  times: 2,
})

/** What a provider can do that answers with success. */
function disobedience({ name, deploys, body }: Operation): Kind[] {
  const isSecret = name === 'apinizer password'
  const normalising = toNormalise[name]
  return [
    !isSecret && {
      name: 'keeps the old value',
      orders: (intent: Intent) => write({ keep: namesOf(intent) }),
    },
    Object.keys(body(0)).length > 1 && {
      name: 'keeps one of two fields',
      orders: (intent: Intent) => write({ keep: namesOf(intent).slice(-1) }),
    },
    normalising && {
      name: 'normalises',
      body: normalising,
      orders: ({ asked }: Intent) => write({ store: but(normalised(asked), 'metadata') }),
    },
    // Apinizer's answers never tell fields.
    !deploys && {
      name: 'answers silently',
      orders: (intent: Intent) => write({ omit: namesOf(intent) }),
    },
    !deploys && {
      name: 'tells another name',
      orders: (intent: Intent) => write({ tell: { [namesOf(intent)[0] ?? '']: 'another' } }),
    },
    name !== 'discue client' &&
      !isSecret && {
        name: 'a stale answer when it is read',
        orders: (intent: Intent, old: Members) => [stale(intent, old)],
      },
    name !== 'discue client' &&
      !isSecret && {
        name: 'a lost answer, and a stale one when it is read',
        orders: (intent: Intent, old: Members) => [...write({ reset: 'after' }), stale(intent, old)],
      },
    deploys && {
      name: 'keeps the old password',
      orders: () => write({ keep: ['password'] }),
      isUnseen: true as const,
    },
  ].filter((kind) => kind !== false && kind !== undefined)
}

const deploymentUnder = (partial: object) =>
  'missing' in partial ? ('untold' as const) : ('failed' as const)

/** Every kind that the operation can meet. */
export const kindsFor = (operation: Operation): Kind[] => [
  ...Object.entries(kindsOf(operation)).map(([name, fault]): Kind => ({
    name,
    orders: () => write(fault),
    ...('delayBeforeMs' in fault && Number(fault.delayBeforeMs) > DEADLINE && { isLate: true }),
    ...('partialDeployment' in fault && { deployment: deploymentUnder(fault.partialDeployment as object) }),
    ...(name === FOR_LONG && { isBurden: true }),
  })),
  ...disobedience(operation),
]

/** After which those who cannot look do not know what became of their change, if it goes wrong always. */
export const QUESTIONS = new Set([
  'a reset before applying',
  'a reset after applying',
  'silence after applying',
  'half of the answer',
  '200 that is no JSON',
  '408 after applying',
  '500',
  '502 after applying',
])

import type { Clock } from './clock.ts'
import type { Emulator } from './exchange.ts'
import type { Faults } from './fault.ts'
import type { Ledger } from './ledger.ts'
import type { Requests } from './requests.ts'

/** Everything one emulated provider holds. */
export interface World {
  emulator: Emulator
  clock: Clock
  faults: Faults
  ledger: Ledger
  requests: Requests
  /** Raised by every reset: a request that began before it is cut instead of applied. */
  epoch: number
}

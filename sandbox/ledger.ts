import type { Clock } from './clock.ts'
import type { Change, Received } from './exchange.ts'
import { createJournal } from './journal.ts'

/** A write between its arrival and the end of its answer. */
export interface Flight {
  overlapped: boolean
  land(): void
}

export interface LedgerEntry extends Change {
  seq: number
  at: string
  path: string
  overlapped: boolean
  requestId?: string
  traceparent?: string
}

export interface Ledger {
  /** A write arrived; from here to `land` every other write for the same resource overlaps it, both ways. */
  takeOff(resource: string | undefined): Flight
  record(change: Change, request: Received, flight: Flight): void
  entries(): LedgerEntry[]
  dropped(): number
  clear(): void
}

export function createLedger(clock: Clock): Ledger {
  const airborne = new Map<string, Set<Flight>>()
  const journal = createJournal<Omit<LedgerEntry, 'seq' | 'overlapped'> & { flight: Flight }>()

  return {
    takeOff(resource) {
      if (resource === undefined) return { overlapped: false, land: () => undefined }
      const others = airborne.get(resource) ?? new Set()
      const flight: Flight = {
        overlapped: others.size > 0,
        land() {
          others.delete(flight)
          if (others.size === 0 && airborne.get(resource) === others) airborne.delete(resource)
        },
      }
      for (const other of others) other.overlapped = true
      airborne.set(resource, others.add(flight))
      return flight
    },
    record(change, request, flight) {
      const requestId = request.headers['x-request-id']
      const traceparent = request.headers['traceparent']
      journal.add({
        at: clock.iso(),
        ...change,
        path: request.target,
        ...(typeof requestId === 'string' && { requestId }),
        ...(typeof traceparent === 'string' && { traceparent }),
        flight,
      })
    },
    // An overlap may begin after its write was applied, so the flag is read when the list is.
    entries: () =>
      journal
        .entries()
        .map(({ seq, flight, ...entry }) => ({ seq, ...entry, overlapped: flight.overlapped })),
    dropped: () => journal.dropped(),
    clear: () => journal.clear(),
  }
}

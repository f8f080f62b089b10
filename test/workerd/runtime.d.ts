// What the tests, and vitest's plugin, use of the Workers runtime beyond src/worker/runtime.d.ts.
declare module 'cloudflare:workers' {
  /** The entry's own exports, as another Worker would reach them. */
  export const exports: { default: { fetch(request: Request): Promise<Response> } }
  export const env: import('../../src/worker/environment.ts').Env
}

declare module 'cloudflare:test' {
  /** Ends every object at once, as a deployment does; what they stored stays. */
  export function abortAllDurableObjects(): Promise<void>
  /** Runs `task` inside the object, with its state. */
  export function runInDurableObject<T>(
    stub: unknown,
    task: (object: unknown, state: ObjectState) => T,
  ): Promise<Awaited<T>>
  /** Lets the object's alarm go off now; false where none is set. */
  export function runDurableObjectAlarm(stub: unknown): Promise<boolean>

  type Held = ConstructorParameters<typeof import('../../src/worker.ts').Connection>[0]
  interface ObjectState extends Held {
    storage: Omit<Held['storage'], 'sql'> & {
      sql: {
        readonly databaseSize: number
        exec(query: string, ...bindings: unknown[]): Cursor
      }
      /** Epoch milliseconds; null when none is set. */
      getAlarm(): Promise<number | null>
    }
  }
  /** Its counts are what Cloudflare bills; they are final when the rows have been read. */
  export interface Cursor {
    rowsRead: number
    rowsWritten: number
    toArray(): Record<string, unknown>[]
  }
}

declare module '*.sql?raw' {
  const text: string
  export default text
}

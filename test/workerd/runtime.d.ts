// What the tests, and vitest's plugin, use of the Workers runtime beyond src/worker-runtime.d.ts.
declare module 'cloudflare:workers' {
  /** The entry's own exports, as another Worker would reach them. */
  export const exports: { default: { fetch(request: Request): Promise<Response> } }
  export const env: import('../../src/worker-environment.ts').Env
}

declare module 'cloudflare:test' {
  /** Ends every object at once, as a deployment does; what they stored stays. */
  export function abortAllDurableObjects(): Promise<void>
  /** Runs `task` inside the object, with its storage. */
  export function runInDurableObject<T>(
    stub: unknown,
    task: (object: unknown, state: State) => T,
  ): Promise<Awaited<T>>
  interface State {
    storage: { sql: Sql }
    blockConcurrencyWhile<T>(open: () => Promise<T>): Promise<T>
  }
  interface Sql {
    readonly databaseSize: number
    exec(query: string): { toArray(): Record<string, unknown>[] }
  }
}

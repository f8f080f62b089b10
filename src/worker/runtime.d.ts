/**
 * What the gateway uses of the Workers runtime. Its published types describe `fetch`, `Request` and `Response` a second
 * time and clash with Node's, which the modules of both runtimes are checked against.
 */
declare module 'cloudflare:workers' {
  interface DurableObjectState {
    id: { name?: string }
    storage: {
      sql: {
        exec(query: string): unknown
        /** Bytes. */
        readonly databaseSize: number
      }
      /** Synchronous, beside the tables; written together with them. */
      kv: {
        get(key: string): unknown
        put(key: string, value: unknown): void
        list(options: { prefix: string }): Iterable<[string, unknown]>
      }
      /** There is one alarm per object; this replaces it. Epoch milliseconds. */
      setAlarm(at: number): Promise<void>
    }
    blockConcurrencyWhile<T>(open: () => Promise<T>): Promise<T>
    waitUntil(work: Promise<unknown>): void
  }

  export interface DurableObjectNamespace {
    /** A stub whose methods are those of the object's class. */
    getByName(name: string): unknown
  }

  export abstract class DurableObject<Env> {
    constructor(ctx: DurableObjectState, env: Env)
    protected ctx: DurableObjectState
    protected env: Env
  }

  /** Keeps the request's work going when its client has hung up. */
  export function waitUntil(work: Promise<unknown>): void
}

declare module '*/migrations.js' {
  const migrations: {
    journal: { entries: { idx: number; when: number; tag: string; breakpoints: boolean }[] }
    migrations: Record<string, string>
  }
  export default migrations
}

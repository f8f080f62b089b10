import { type SQL, sql } from 'drizzle-orm'

/**
 * One placeholder per column, named like it: the row's type is the insert's. Each stands in a fragment of its own, because
 * a bare one is bound through its column, which makes an append some 7 % slower. So values are the driver's.
 */
export const placeholders = <T extends Record<string, unknown>>(columns: T) =>
  Object.fromEntries(Object.keys(columns).map((name) => [name, sql`${sql.placeholder(name)}`])) as {
    [K in keyof T]: SQL
  }

/** A value that is bound when a prepared statement runs. */
export const place = (name: string) => sql.placeholder(name)

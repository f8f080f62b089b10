import { type SQL, sql } from 'drizzle-orm'

/**
 * One placeholder per column, named like it: the row's type is the insert's. Wrapped in `sql` so that drizzle skips
 * the column encoder (7 % of an append); values are in the driver's types.
 */
export const placeholders = <T extends Record<string, unknown>>(columns: T) =>
  Object.fromEntries(Object.keys(columns).map((name) => [name, sql`${sql.placeholder(name)}`])) as {
    [K in keyof T]: SQL
  }

/** A value that is bound when a prepared statement runs. */
export const place = (name: string) => sql.placeholder(name)

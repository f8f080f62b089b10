import type { Log } from '../../src/lib/log.ts'

const nothing = (): void => {}

/** For what is not about the log. */
export const silent: Log = { debug: nothing, info: nothing, warn: nothing, error: nothing }

import { configureSync, getJsonLinesFormatter, getLogger } from '@logtape/logtape'

/** Structured, one JSON object a line. Properties are ids, names and numbers; never a body, header or query. */
export interface Log {
  debug(message: string, properties: Record<string, unknown>): void
  info(message: string, properties: Record<string, unknown>): void
  warn(message: string, properties: Record<string, unknown>): void
  error(message: string, properties: Record<string, unknown>): void
}

export const logLevels = ['debug', 'info', 'warn', 'error'] as const
export type Level = (typeof logLevels)[number]

/** The process's log; `write` gets one line with its newline. */
export function openLog(level: Level, write: (line: string) => void): Log {
  const format = getJsonLinesFormatter({ categorySeparator: '.', message: 'template', properties: 'flatten' })
  configureSync({
    reset: true,
    sinks: { lines: (entry) => write(format(entry)) },
    loggers: [
      { category: 'gateway', lowestLevel: level === 'warn' ? 'warning' : level, sinks: ['lines'] },
      { category: ['logtape', 'meta'], lowestLevel: 'warning', sinks: ['lines'] },
    ],
  })
  return getLogger('gateway')
}

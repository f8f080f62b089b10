/** How often a program that npm runs looks whether npm is still there. Milliseconds. */
const LOOK_EVERY = 500

/**
 * Calls back for every request to end the program, each time. With Node's defaults, a second signal would cut off
 * what the first one lets finish.
 */
export function onAskedToEnd(program: NodeJS.Process, asked: (by: string) => void): void {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) program.on(signal, () => asked(signal))
  // The reader of the log may be gone first, as when a terminal closes: a line that cannot be written must not end
  // the process either.
  for (const stream of [program.stdout, program.stderr]) stream.on('error', () => {})
  if (program.env['npm_lifecycle_event'] === undefined) return
  // npm passes on only SIGINT and SIGTERM, and cannot report its own kill.
  const npm = program.ppid
  const looking = setInterval(() => {
    if (program.ppid === npm) return
    clearInterval(looking)
    asked('the end of npm')
  }, LOOK_EVERY)
  looking.unref()
}

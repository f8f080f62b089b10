/** How often a program that npm runs looks whether npm is still there. Milliseconds. */
const LOOK_EVERY = 500

/**
 * Tells of everything that asks the program to end, each time that it does. Left to its default, a second signal would cut off
 * what the first one lets come to its end.
 */
export function onAskedToEnd(program: NodeJS.Process, asked: (by: string) => void): void {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) program.on(signal, () => asked(signal))
  // Whoever reads the log may be gone first, as when a terminal closes: a line that cannot be written must not end it either.
  for (const stream of [program.stdout, program.stderr]) stream.on('error', () => {})
  if (program.env['npm_lifecycle_event'] === undefined) return
  // npm passes on SIGINT and SIGTERM alone, and cannot tell of its being killed.
  const npm = program.ppid
  const looking = setInterval(() => {
    if (program.ppid === npm) return
    clearInterval(looking)
    asked('the end of npm')
  }, LOOK_EVERY)
  looking.unref()
}

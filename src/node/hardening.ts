/** What the gateway denies its own process before anything is opened. Returns what prevents a start. */
export function harden(program: NodeJS.Process): string[] {
  // What is made from here on is the gateway's user's alone: databases hold who changed what, and names of what is secret.
  program.umask(0o077)
  // Node would open its debugger, and with it every secret in memory, to anyone who may send the signal.
  program.on('SIGUSR1', () => {})
  // Node's diagnostic reports, where an operator turns them on, would list the environment, which is full of secrets.
  program.report.excludeEnv = true
  return program.env['NODE_TLS_REJECT_UNAUTHORIZED'] === '0'
    ? [
        'NODE_TLS_REJECT_UNAUTHORIZED is 0, so that anybody could pose as a provider; unset it, and name the certificate of a private CA in NODE_EXTRA_CA_CERTS',
      ]
    : []
}

// For whatever Node finds it, however old: hence CommonJS, and nothing newer than that.
'use strict'
// What the suites passed on. Older ones differ in the errors of TLS and in what HTTP connections do.
const NEEDED = [24, 21]
const [major, minor] = process.versions.node.split('.').map(Number)
if (major < NEEDED[0] || (major === NEEDED[0] && minor < NEEDED[1])) {
  process.stderr.write(
    'Node ' +
      process.versions.node +
      ' is too old, ' +
      NEEDED.join('.') +
      ' or newer is needed: `npm ci` ' +
      'brings one for Linux and macOS (x64, arm64) and Windows (x64), unless optional dependencies are omitted\n',
  )
  process.exit(1)
}

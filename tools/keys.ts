import { createHash, randomBytes } from 'node:crypto'
import { readFileSync, realpathSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { z } from 'zod'
import { type CallerKey, callerKey } from '../src/config/document.ts'

const USAGE = `Makes, rotates, lists and revokes the API keys of callers in a configuration file.

  npm run -s keys -- create <caller> [--expires <date>]
  npm run -s keys -- rotate <caller> [--overlap <days>] [--expires <date>]
  npm run -s keys -- list
  npm run -s keys -- revoke <key id>

  --config <file>    the configuration file; GATEWAY_CONFIG if absent
  --expires <date>   the end of the new key: 2027-01-31 (to the end of that day, UTC) or 2027-01-31T12:00:00Z
  --overlap <days>   how long the old keys stay valid beside the new one; 7 if absent
  --write            changes the file, laid out anew with two spaces; else it prints what to put into it

A new key goes to standard output, once, and is kept nowhere; all else goes to standard error. So it can be piped:
  npm run -s keys -- create billing --write | your-vault put billing
`

const DAY = 86_400_000

/** What the user has to put right; the exit code is 2 where the command itself is wrong. */
class Fault extends Error {
  readonly exitCode: 1 | 2

  constructor(message: string, exitCode: 1 | 2 = 1) {
    super(message)
    this.exitCode = exitCode
  }
}

const shape = z.looseObject({
  callers: z.array(
    z.looseObject({ name: z.string(), keys: z.array(callerKey).default([]), jwt: z.unknown().optional() }),
  ),
})
type Document = z.output<typeof shape>
type Caller = Document['callers'][number]

const tell = (text: string): void => void process.stderr.write(`${text}\n`)

function readDocument(path: string): { document: Document; written: { callers: object[] } } {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    throw new Fault(`${path} cannot be read (${(error as NodeJS.ErrnoException).code})`)
  }
  let written: unknown
  try {
    written = JSON.parse(text)
  } catch {
    throw new Fault(`${path} is not JSON`)
  }
  const read = shape.safeParse(written)
  if (read.success) return { document: read.data, written: written as { callers: object[] } }
  const faults = read.error.issues.map(({ path: at, message }) => `${path}: ${at.join('.')}: ${message}`)
  throw new Fault(faults.join('\n'))
}

function callerNamed(document: Document, name: string): Caller {
  const caller = document.callers.find((one) => one.name === name)
  if (caller) return caller
  const names = document.callers.map((one) => one.name).join(', ')
  throw new Fault(`there is no caller ${name}; there are: ${names || 'none'}`)
}

function holderOf(document: Document, id: string): Caller {
  const caller = document.callers.find(({ keys }) => keys.some((key) => key.id === id))
  if (caller) return caller
  throw new Fault(`there is no key ${id}`)
}

/** A day means to its end, so that a key works on the day that its expiry names. */
function expiryOf(text: string | undefined): string | null {
  if (text === undefined) return null
  const moment = z.iso.date().safeParse(text).success ? `${text}T23:59:59Z` : text
  if (!z.iso.datetime({ offset: true }).safeParse(moment).success)
    throw new Fault('--expires takes a date such as 2027-01-31 or 2027-01-31T12:00:00Z', 2)
  if (Date.parse(moment) <= Date.now()) throw new Fault('--expires names a time that has passed', 2)
  return moment
}

function overlapOf(text: string): number {
  const days = Number(text)
  if (/^\d+(\.\d+)?$/.test(text) && days <= 365) return days
  throw new Fault('--overlap takes a number of days, 365 at most', 2)
}

function makeKey(document: Document, expiresAt: string | null): { key: string; entry: CallerKey } {
  const id = randomBytes(8).toString('hex')
  if (document.callers.some(({ keys }) => keys.some((one) => one.id === id)))
    throw new Fault(`the id ${id} is taken; try again`)
  const key = `cgw_${id}_${randomBytes(32).toString('base64url')}`
  return { key, entry: { id, sha256: createHash('sha256').update(key).digest('hex'), expiresAt } }
}

/** Beside the file first, so that a crash leaves either the old one or the new one. */
function replaceFile(path: string, text: string): void {
  const file = realpathSync(path)
  const fresh = `${file}.new`
  try {
    writeFileSync(fresh, text, { mode: statSync(file).mode & 0o777, flag: 'wx', flush: true })
    renameSync(fresh, file)
  } catch (error) {
    throw new Fault(`${fresh} cannot take the place of ${path} (${(error as NodeJS.ErrnoException).code})`)
  }
}

function list(document: Document): void {
  const rows = document.callers.flatMap(({ name, keys }) =>
    keys.map(({ id, expiresAt }) => {
      const left = expiresAt === null ? Infinity : Date.parse(expiresAt) - Date.now()
      const days = left === Infinity ? '' : left <= 0 ? 'expired' : String(Math.floor(left / DAY))
      return [name, id, expiresAt ?? 'never', days]
    }),
  )
  const table = [['caller', 'key', 'expires', 'days left'], ...rows]
  const widths = [0, 1, 2, 3].map((column) => Math.max(...table.map((row) => row[column]?.length ?? 0)))
  for (const row of table) {
    const line = row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ')
    process.stdout.write(`${line.trimEnd()}\n`)
  }
}

function readArguments() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        config: { type: 'string' },
        expires: { type: 'string' },
        overlap: { type: 'string' },
        write: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    })
  } catch (error) {
    throw new Fault(error instanceof Error ? error.message : 'the arguments cannot be read', 2)
  }
}

type Options = ReturnType<typeof readArguments>['values']
type Command = 'create' | 'rotate' | 'revoke' | 'list'

/** What each command takes. */
const commands: Record<Command, { subject: string; options: (keyof Options)[] }> = {
  create: { subject: 'one caller', options: ['expires', 'write'] },
  rotate: { subject: 'one caller', options: ['overlap', 'expires', 'write'] },
  revoke: { subject: 'one key id', options: ['write'] },
  list: { subject: '', options: [] },
}

function readCommand(positionals: string[], options: Options): { command: Command; subject: string } {
  const [name = '', subject = '', ...more] = positionals
  if (!Object.hasOwn(commands, name))
    throw new Fault(name ? `there is no command ${name}` : USAGE.trimEnd(), 2)
  const command = name as Command
  const takes = commands[command]
  if ((subject === '') !== (takes.subject === '') || more.length > 0)
    throw new Fault(`${command} takes ${takes.subject || 'no name'}`, 2)
  for (const option of ['expires', 'overlap', 'write'] as const) {
    if (options[option] !== undefined && !takes.options.includes(option))
      throw new Fault(`${command} takes no --${option}`, 2)
  }
  return { command, subject }
}

/** The old keys of a caller, none of them valid beyond the end of the overlap. */
const endingBy = (keys: CallerKey[], end: string): CallerKey[] =>
  keys.map((key) =>
    key.expiresAt !== null && Date.parse(key.expiresAt) <= Date.parse(end) ? key : { ...key, expiresAt: end },
  )

function main(): void {
  const { values, positionals } = readArguments()
  if (values.help) return void process.stdout.write(USAGE)
  const { command, subject } = readCommand(positionals, values)
  const path = values.config ?? process.env['GATEWAY_CONFIG']
  if (!path) throw new Fault('name the configuration file: --config <file>, or GATEWAY_CONFIG', 2)
  const expiresAt = expiryOf(values.expires)
  const end = new Date(Date.now() + overlapOf(values.overlap ?? '7') * DAY).toISOString()
  const { document, written } = readDocument(path)
  if (command === 'list') return list(document)

  const revoked = command === 'revoke'
  const caller = revoked ? holderOf(document, subject) : callerNamed(document, subject)
  const made = revoked ? undefined : makeKey(document, expiresAt)
  const kept = revoked
    ? caller.keys.filter(({ id }) => id !== subject)
    : command === 'rotate'
      ? endingBy(caller.keys, end)
      : caller.keys
  const keys = made ? [...kept, made.entry] : kept
  if (keys.length === 0 && caller.jwt === undefined)
    throw new Fault(`${subject} is the only key of ${caller.name}: rotate it first, or remove the caller`)

  if (values.write) {
    // The rest of the document stays as it was read; only these keys are exchanged.
    Object.assign(written.callers[document.callers.indexOf(caller)] ?? {}, { keys })
    replaceFile(path, `${JSON.stringify(written, null, 2)}\n`)
    tell(`${path} now has these keys for the caller ${caller.name}:`)
  } else tell(`Put these keys of the caller ${caller.name} into ${path} (--write does it):`)
  tell(JSON.stringify({ keys }, null, 2))
  if (command === 'rotate') tell(`The old keys work until ${end} at the longest.`)
  tell('The gateway reads its configuration when it starts.')
  if (!made) return
  tell('The key, which is shown only now, on standard output:')
  process.stdout.write(`${made.key}\n`)
}

try {
  main()
} catch (error) {
  if (!(error instanceof Fault)) throw error
  tell(error.message)
  process.exitCode = error.exitCode
}

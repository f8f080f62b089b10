/** Another program that uses the database: `node lock-holder.ts <file>` holds its write lock for as many ms as it reads. */
import { once } from 'node:events'
import { setTimeout as pause } from 'node:timers/promises'
import Database from 'better-sqlite3'

const [file = ''] = process.argv.slice(2)
const sqlite = new Database(file, { timeout: 5000 })
console.log('ready')
const [milliseconds] = await once(process.stdin, 'data')
sqlite.exec('BEGIN IMMEDIATE')
console.log('held')
await pause(Number(milliseconds))
sqlite.exec('ROLLBACK')
sqlite.close()
process.stdin.destroy()

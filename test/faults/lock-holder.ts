/** Another program that uses the database: `node lock-holder.ts <file> <milliseconds>` holds its write lock for a while. */
import { setTimeout as pause } from 'node:timers/promises'
import Database from 'better-sqlite3'

const [file = '', milliseconds = '0'] = process.argv.slice(2)
const sqlite = new Database(file, { timeout: 5000 })
sqlite.exec('BEGIN IMMEDIATE')
console.log('held')
await pause(Number(milliseconds))
sqlite.exec('ROLLBACK')
sqlite.close()

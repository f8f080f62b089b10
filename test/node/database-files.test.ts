import { appendFileSync, mkdtempSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { DatabaseFiles } from '../../src/node/database-files.ts'

// What a look at the files of an open database finds, and what it must never take for them.

let folder = ''
let file = ''
let files: DatabaseFiles
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'files-'))
  file = join(folder, 'gateway.db')
  for (const suffix of ['', '-wal', '-shm']) writeFileSync(file + suffix, 'x'.repeat(100))
  files = new DatabaseFiles(file, () => 50)
})
afterEach(() => rmSync(folder, { recursive: true }))

test('another file under the name stays another one, though it is remembered', () => {
  renameSync(file, `${file}.away`)
  writeFileSync(file, 'y'.repeat(100))
  files.remember()
  expect(files.examine()).toEqual({ lost: `${file} was replaced` })
  renameSync(`${file}.away`, file)
  expect(files.examine()).toEqual({})
})

test('a WAL that is gone stays missing, though the others are remembered', () => {
  rmSync(`${file}-wal`)
  files.remember()
  expect(files.examine()).toEqual({ lost: `${file}-wal is gone` })
})

test('each shortening of the pages is reported once, and a later one again', () => {
  truncateSync(file, 80)
  expect(files.examine()).toEqual({ shortened: file })
  expect(files.examine()).toEqual({})
  truncateSync(file, 60)
  expect(files.examine()).toEqual({ shortened: file })
  appendFileSync(file, 'z'.repeat(50))
  expect(files.examine()).toEqual({})
})

test('a WAL may be cut down to what SQLite counts in it, and no further', () => {
  truncateSync(`${file}-wal`, 50)
  expect(files.examine()).toEqual({})
  const other = new DatabaseFiles(file, () => 50)
  truncateSync(`${file}-wal`, 49)
  expect(other.examine()).toEqual({ shortened: `${file}-wal` })
})

import {
  copyFileSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { TRIGGERS } from '../../src/ledger/integrity.ts'
import build from '../../tools/build.ts'
import { keys } from '../harness/configuration.ts'
import { type GatewayProcess, type Home, makeHome } from '../harness/gateway-process.ts'
import { controlOf, type Json } from '../harness/sandbox-calls.ts'
import { until } from '../harness/waiting.ts'

// What is done to the database's files behind the gateway's back is found within two seconds, and nothing is lost in silence.

let folder = ''
beforeAll(async () => {
  await build()
  folder = mkdtempSync(join(tmpdir(), 'lost-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

let minted = 0
async function mint(): Promise<string> {
  const key = `lost${(minted += 1)}x${process.pid}`
  await controlOf(inject('sandbox').commerceLayer).mint('roles', key, { attributes: { name: 'Before' } })
  return key
}

const ask = async ({ url }: GatewayProcess, path: string, init: RequestInit = {}) => {
  const reply = await fetch(url + path, {
    ...init,
    headers: { 'x-api-key': keys.admin, 'content-type': 'application/json' },
  })
  return { status: reply.status, body: (await reply.json()) as Json }
}
const change = (gateway: GatewayProcess, key: string, name = 'After') =>
  ask(gateway, `/roles/commerce-layer:${key}`, { method: 'PUT', body: JSON.stringify({ name }) })

const writesTo = async (key: string): Promise<number> =>
  (await controlOf(inject('sandbox').commerceLayer).requests()).filter(
    ({ method, path }) => method === 'PATCH' && path.includes(key),
  ).length

/** A home whose gateway has made some changes. */
async function inUse(): Promise<{ home: Home; gateway: GatewayProcess }> {
  const home = makeHome(inject('sandbox'))
  const gateway = await home.start()
  for (let n = 0; n < 3; n++) expect((await change(gateway, await mint())).status).toBe(200)
  return { home, gateway }
}

/** Not ready, with an error in the log that names the file, and no change is made. */
async function expectAtFault(gateway: GatewayProcess, home: Home): Promise<void> {
  const isSaid = () =>
    gateway.complaints.some(
      ({ level, message, fault }) =>
        level === 'ERROR' && message.startsWith('database is at fault') && fault.includes(home.database),
    )
  await until('it is not ready', async () => (await ask(gateway, '/health/ready')).status === 503)
  await until('the log says so', isSaid)
  const key = await mint()
  const refused = await change(gateway, key)
  expect([refused.status, refused.body.type]).toEqual([503, '/problems/audit-unavailable'])
  expect(await writesTo(key)).toBe(0)
  const { body } = await ask(gateway, '/health/ready')
  expect(body.reasons).toContain('the database is at fault; the log says how')
  expect((await ask(gateway, '/health/live')).status).toBe(200)
}

const attacks: [string, (file: string) => void][] = [
  ['is deleted', (file) => rmSync(file)],
  ['is replaced', (file) => (copyFileSync(file, `${file}.copy`), renameSync(`${file}.copy`, file))],
  ['is truncated', (file) => truncateSync(file, 0)],
  ['is cut in the middle', (file) => truncateSync(file, 8192)],
  ['is overwritten', (file) => writeFileSync(file, Buffer.alloc(400_000, 'x'))],
  ['loses its WAL', (file) => rmSync(`${file}-wal`)],
  ['has its WAL truncated', (file) => truncateSync(`${file}-wal`, 0)],
  ['has its WAL replaced', (file) => (rmSync(`${file}-wal`), writeFileSync(`${file}-wal`, ''))],
  ['loses the index of its WAL', (file) => rmSync(`${file}-shm`)],
  ['has its folder taken away', (file) => renameSync(join(file, '..'), join(folder, `away${Date.now()}`))],
]

describe('a database', () => {
  test.each(attacks)('that %s takes no change any more', { timeout: 60_000 }, async (_, attack) => {
    const { home, gateway } = await inUse()
    try {
      attack(home.database)
      await expectAtFault(gateway, home)
    } finally {
      await home.leave()
    }
  })

  test(
    'that is put back takes changes again, and what was recorded is there',
    { timeout: 60_000 },
    async () => {
      const { home, gateway } = await inUse()
      try {
        const away = join(home.folder, 'away.db')
        renameSync(home.database, away)
        await expectAtFault(gateway, home)
        renameSync(away, home.database)
        await until('it is ready', async () => (await ask(gateway, '/health/ready')).status === 200)
        expect((await change(gateway, await mint())).status).toBe(200)
        await gateway.stop()
        const again = await home.start()
        expect((await ask(again, '/audit')).body.data).toHaveLength(8)
      } finally {
        await home.leave()
      }
    },
  )

  test('takes changes all the while another program checkpoints it', { timeout: 60_000 }, async () => {
    const { home, gateway } = await inUse()
    const other = new Database(home.database)
    try {
      for (let n = 0; n < 5; n++) {
        expect(other.pragma('wal_checkpoint(TRUNCATE)')).toMatchObject([{ busy: 0 }])
        expect((await change(gateway, await mint())).status).toBe(200)
      }
    } finally {
      other.close()
      await home.leave()
    }
  })

  test(
    'that another program checkpoints, vacuums or touches is checked, and stays in use',
    { timeout: 60_000 },
    async () => {
      const { home, gateway } = await inUse()
      try {
        const other = new Database(home.database)
        other.pragma('wal_checkpoint(TRUNCATE)')
        other.exec('VACUUM')
        other.pragma('wal_checkpoint(TRUNCATE)')
        other.close()
        await until('it was checked', () =>
          gateway.complaints.some(({ message }) => message === 'database is checked'),
        )
        await until('a change succeeds', async () => (await change(gateway, await mint())).status === 200)
        expect((await ask(gateway, '/health/ready')).status).toBe(200)
      } finally {
        await home.leave()
      }
    },
  )
})

describe('a start', () => {
  const checks = (gateway: GatewayProcess) =>
    gateway.complaints.filter(({ message }) => message === 'database is checked')

  test('after kill -9 under load checks nothing, again and again', { timeout: 120_000 }, async () => {
    const { home, gateway } = await inUse()
    try {
      let running = gateway
      for (let round = 0; round < 4; round++) {
        const changes = Array.from({ length: 60 * round }, async () => change(running, await mint()))
        await Promise.race([...changes, new Promise((done) => setTimeout(done, 1500))])
        await running.kill()
        await Promise.allSettled(changes)
        running = await home.start()
        expect(checks(running)).toEqual([])
      }
      await running.stop()
      running = await home.start()
      expect(checks(running)).toEqual([])
      expect((await change(running, await mint())).status).toBe(200)
    } finally {
      await home.leave()
    }
  })

  const restores: [string, (backup: string, file: string) => void][] = [
    ['copied over it', (backup, file) => copyFileSync(backup, file)],
    [
      'moved to its place',
      (backup, file) => (copyFileSync(backup, `${file}.b`), renameSync(`${file}.b`, file)),
    ],
  ]
  test.each(restores)(
    'with a backup beside a left-over WAL, %s, is never ready',
    { timeout: 60_000 },
    async (_, restore) => {
      const { home, gateway } = await inUse()
      try {
        const backup = join(folder, `backup${(minted += 1)}.db`)
        const other = new Database(home.database)
        other.prepare('VACUUM INTO ?').run(backup)
        other.close()
        for (let n = 0; n < 60; n++) expect((await change(gateway, await mint())).status).toBe(200)
        await gateway.kill()
        restore(backup, home.database)
        // Started once more, it is no better.
        for (let start = 0; start < 2; start++) {
          const said = await home.start().then(
            async (again) => {
              expect((await ask(again, '/health/ready')).status).toBe(503)
              await expectAtFault(again, home)
              await again.kill()
              return JSON.stringify(again.complaints)
            },
            (error) => String(error),
          )
          expect(said).toContain('malformed')
          expect(said).toContain(home.database)
        }
      } finally {
        await home.leave()
      }
    },
  )

  test(
    'whose WAL was truncated meanwhile says that the database is not as it was left',
    { timeout: 60_000 },
    async () => {
      const { home, gateway } = await inUse()
      try {
        await gateway.kill()
        truncateSync(`${home.database}-wal`, 0)
        const again = await home.start()
        await until('it was checked', () => checks(again).length === 1)
        expect(checks(again)[0].why).toContain('is not as the last process left it')
      } finally {
        await home.leave()
      }
    },
  )

  test(
    'whose WAL was taken away, or with a whole backup, says so and is ready once it is checked',
    { timeout: 60_000 },
    async () => {
      const { home, gateway } = await inUse()
      try {
        const backup = join(folder, `whole${(minted += 1)}.db`)
        const other = new Database(home.database)
        await other.backup(backup)
        other.close()
        await gateway.stop()
        copyFileSync(backup, home.database)
        const again = await home.start()
        await until('it is ready', async () => (await ask(again, '/health/ready')).status === 200)
        expect(checks(again)).toHaveLength(1)
        expect((await change(again, await mint())).status).toBe(200)
        await again.kill()
        rmSync(`${home.database}-wal`)
        const third = await home.start()
        await until('it was checked', () => checks(third).length === 1)
        expect(checks(third)[0].why).toContain(home.database)
      } finally {
        await home.leave()
      }
    },
  )
})

test('what the emergency journal holds and the database cannot take is set aside by name, and writes come back', async () => {
  const { home, gateway } = await inUse()
  try {
    await gateway.stop()
    const unknown = {
      connection: 'commerce-layer',
      draft: {
        type: 'outcome',
        changeId: '01979d3e-5b1a-7c3e-9f00-0123456789ab',
        resource: 'commerce-layer:x',
        outcome: 'applied',
      },
    }
    const known = new Database(home.database, { readonly: true })
    const applied = known.prepare('SELECT id FROM changes LIMIT 1').pluck().get() as string
    known.close()
    const there = { ...unknown, draft: { ...unknown.draft, changeId: applied } }
    const contradicted = { ...there, draft: { ...there.draft, outcome: 'rejected' } }
    const lines = [
      '{"half',
      '5',
      JSON.stringify(unknown),
      JSON.stringify(there),
      JSON.stringify(contradicted),
    ]
    writeFileSync(`${home.database}.emergency`, `${lines.join('\n')}\n`)

    const again = await home.start()
    await until('it is ready', async () => (await ask(again, '/health/ready')).status === 200)
    expect((await change(again, await mint())).status).toBe(200)
    // What the database has already is no news; the rest is kept, and told.
    const aside = readFileSync(`${home.database}.emergency.set-aside`, 'utf8').trimEnd().split('\n')
    expect(aside).toEqual([lines[0], lines[1], lines[2], lines[4]])
    const named = again.complaints.filter(({ message }) => message === 'outcome set aside')
    expect(named.map(({ changeId }) => changeId)).toEqual([null, null, unknown.draft.changeId, applied])
    expect(readFileSync(`${home.database}.emergency`).some((byte) => byte !== 0)).toBe(false)
  } finally {
    await home.leave()
  }
})

const changes: [string, string, string][] = [
  ['whose last event was changed', "UPDATE audit SET reason = 'forged'", 'was tampered with'],
  ['whose clock was wrong', 'UPDATE audit SET position = 9007199254740990', 'a time that cannot be'],
]
test.each(changes)(
  'an audit %s is not served as healthy, and takes nothing',
  { timeout: 60_000 },
  async (_, tampering, said) => {
    const { home, gateway } = await inUse()
    try {
      await gateway.stop()
      const other = new Database(home.database)
      for (const name of Object.keys(TRIGGERS)) other.exec(`DROP TRIGGER ${name}`)
      other.exec(`${tampering} WHERE position = (SELECT max(position) FROM audit)`)
      other.close()
      const again = await home.start()
      const ready = await ask(again, '/health/ready')
      expect([ready.status, ready.body.reasons.join()]).toEqual([503, expect.stringContaining(said)])
      const key = await mint()
      const refused = await change(again, key)
      expect([refused.status, refused.body.type]).toEqual([503, '/problems/audit-unavailable'])
      expect(await writesTo(key)).toBe(0)
      expect(again.complaints.map(({ message }) => message)).toContain(
        'audit is at fault, nothing is written',
      )
    } finally {
      await home.leave()
    }
  },
)

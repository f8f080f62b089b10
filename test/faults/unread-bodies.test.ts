import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Sandbox, startSandbox } from '../../sandbox/server.ts'
import { keys } from '../harness/configuration.ts'
import { report, tally } from '../harness/figures.ts'
import { type AnyHome, programOf, type Running } from '../harness/gateway-process.ts'
import { runtimes } from '../harness/homes.ts'
import { operationNamed, providersOf } from '../harness/operations.ts'
import { isInstalled } from './installed.ts'
import { full } from './scale.ts'

// A refusal that needs no body is given while the client still sends it. Whoever is refused must come to reading that, whatever it
// sends with, and must be able to go on.

const run = promisify(execFile)

const sizes = { '100 KiB': 100 << 10, '300 KiB': 300 << 10, '1 MiB': 1 << 20, '5 MiB': 5 << 20 }
const times = full ? 20 : 5

interface Refused {
  path: string
  headers: Record<string, string>
  size: number
}
interface Orders {
  url: string
  refused: Refused[]
  good: { path: string; headers: Record<string, string>; body: string }
}
interface Report {
  /** The status of each refused request and of the change after it, or the error that came instead. */
  answers: [number | string, number | string][]
  uncaught: number
}

const said = async (program: string, args: string[]): Promise<Report> => {
  const { stdout } = await run(program, args, { maxBuffer: 1 << 24 })
  return JSON.parse(stdout) as Report
}

/** Each in a process of its own, as it is installed. */
type Client = (orders: Orders, folder: string) => Promise<Report>
const clients: Record<string, Client> = {
  fetch: (orders) =>
    said(process.execPath, [programOf('../faults/senders.mjs'), 'fetch', JSON.stringify(orders)]),
  http: (orders) =>
    said(process.execPath, [programOf('../faults/senders.mjs'), 'http', JSON.stringify(orders)]),
  urllib: (orders) => said('python3', [programOf('../faults/senders.py'), 'urllib', JSON.stringify(orders)]),
  async curl({ url, refused, good }, folder) {
    const answers: Report['answers'] = []
    const send = async (path: string, headers: Record<string, string>, body: string) => {
      const file = join(folder, 'body')
      writeFileSync(file, body)
      const lines = Object.entries(headers).flatMap(([name, value]) => ['-H', `${name}: ${value}`])
      const args = ['-s', '-o', '/dev/null', '-w', '%{http_code}', '-X', 'PUT', '--data-binary', `@${file}`]
      const ended = await run('curl', [...args, ...lines, url + path]).catch(
        ({ code }: { code: number }) => `exit ${code}`,
      )
      return typeof ended === 'string' ? ended : Number(ended.stdout)
    }
    for (const { path, headers, size } of refused) {
      const first = await send(path, headers, `{"name":"${'x'.repeat(size)}"}`)
      answers.push([first, await send(good.path, good.headers, good.body)])
    }
    return { answers, uncaught: 0 }
  },
}

let sandbox: Sandbox
const folder = mkdtempSync(join(tmpdir(), 'bodies-'))
beforeAll(async () => {
  sandbox = await startSandbox({ limits: 'off' })
})
afterAll(async () => {
  await sandbox.close()
  rmSync(folder, { recursive: true })
})

describe.each(runtimes)('on $runtime', ({ runtime, makeHome }) => {
  let home: AnyHome
  let gateway: Running
  let good: Orders['good']
  beforeAll(async () => {
    home = makeHome(sandbox.urls)
    gateway = await home.start()
    const { mint, body } = operationNamed('discue client', providersOf(sandbox.urls))
    const { path } = await mint()
    const headers = { 'x-api-key': keys.admin, 'content-type': 'application/json' }
    good = { path, headers, body: JSON.stringify(body(runtimes.findIndex((one) => one.runtime === runtime))) }
  })
  afterAll(() => home.leave())

  const programs: Record<string, string> = { urllib: 'python3', curl: 'curl' }
  const there = Object.keys(clients).filter((name) => isInstalled(programs[name] ?? 'npm'))
  test.each(there)(
    '%s reads why its body was not wanted, and goes on',
    async (name) => {
      const { path, headers } = good
      const causes: [number, Omit<Refused, 'size'>][] = [
        [413, { path, headers }],
        [401, { path, headers: { ...headers, 'x-api-key': 'cgw_nobody' } }],
        [404, { path: '/credentials/no-such-alias', headers }],
        [415, { path, headers: { ...headers, 'content-type': 'text/plain' } }],
      ]
      const all = causes.flatMap(([status, request]) =>
        Object.entries(sizes).flatMap(([size, bytes]) =>
          Array.from({ length: times }, () => ({ status, size, request: { ...request, size: bytes } })),
        ),
      )
      const orders = { url: gateway.url, refused: all.map(({ request }) => request), good }
      const { answers, uncaught } = await (clients[name] as Client)(orders, folder)
      const wanted = all.map(({ status, size }) => `${size}: ${status}, then 200`)
      const got = all.map(({ size }, index) => `${size}: ${answers[index]?.join(', then ')}`)
      report(`bodies that nobody reads, ${name} on ${runtime}`, { uncaught, ...tally(got) })
      expect(tally(got)).toEqual(tally(wanted))
      expect(uncaught).toBe(0)
    },
    240_000,
  )

  test('those that stall or break off take nobody the place in which a body is read', async () => {
    const { hostname, port, host } = new URL(gateway.url)
    const stalled = (endAfterMs: number) =>
      new Promise<void>((gone) => {
        const socket = connect(Number(port), hostname)
        socket.on('error', () => {}).on('close', () => gone())
        socket
          .resume()
          .write(`PUT ${good.path} HTTP/1.1\r\nHost: ${host}\r\nContent-Length: 5000000\r\n\r\nx`)
        setTimeout(() => socket.destroy(), endAfterMs)
      })
    // Beyond the bound, and within it, each as many as there are places.
    for (const endAfterMs of [3000, 300])
      await Promise.all(Array.from({ length: 64 }, () => stalled(endAfterMs)))
    await pause(2000)
    const refused = Array.from({ length: 20 }, () => ({
      path: good.path,
      headers: good.headers,
      size: sizes['5 MiB'],
    }))
    for (const name of there) {
      const { answers } = await (clients[name] as Client)({ url: gateway.url, refused, good }, folder)
      expect({ name, ...tally(answers.map((both) => both.join())) }).toEqual({ name, '413,200': 20 })
    }
  })
})

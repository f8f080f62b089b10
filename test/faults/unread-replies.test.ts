import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { afterEach, describe, expect, inject, test } from 'vitest'
import { type AnyHome, makeHome, type Running } from '../harness/gateway-process.ts'
import { makeWorkerHome } from '../harness/worker-home.ts'

// Files that anybody may ask for, asked for without end by clients that read no reply.

const MIB = 1 << 20

/** What a process holds in memory, and where the system tells, the most that it ever held. Bytes. */
function memoryOf(pid: number): { now: number; most: number } {
  const file = `/proc/${pid}/status`
  if (existsSync(file)) {
    const status = readFileSync(file, 'utf8')
    const of = (name: string) => Number(new RegExp(`^${name}:\\s*(\\d+) kB$`, 'm').exec(status)?.[1]) * 1024
    return { now: of('VmRSS'), most: of('VmHWM') }
  }
  const { stdout } = spawnSync('ps', ['-o', 'rss=', '-p', String(pid)], { encoding: 'utf8' })
  return { now: Number(stdout) * 1024, most: Number(stdout) * 1024 }
}

let home: AnyHome | undefined
const sockets = new Set<Socket>()
afterEach(async () => {
  for (const socket of sockets) socket.destroy()
  sockets.clear()
  await home?.leave()
})

/** Sends this, takes the beginning of the reply, and then reads no more. */
async function askAndNotRead(url: string, text: string): Promise<void> {
  const { hostname, port } = new URL(url)
  const socket = connect({ host: hostname, port: Number(port) })
  sockets.add(socket)
  socket.on('error', () => {})
  socket.write(text)
  await once(socket, 'readable')
  expect(String(socket.read(12))).toBe('HTTP/1.1 200')
}

async function growth(gateway: Running, attack: () => Promise<unknown>): Promise<number> {
  const before = memoryOf(gateway.pid).now
  await attack()
  // It is served after all that came before it.
  expect((await fetch(`${gateway.url}/health/live`)).status).toBe(200)
  return (memoryOf(gateway.pid).most - before) / MIB
}

const requestOf = (path: string, coding: string): string =>
  `GET ${path} HTTP/1.1\r\nHost: gateway.example\r\nAccept-Encoding: ${coding}\r\n\r\n`

// workerd has buffers of its own for each connection.
describe.each([
  ['Node', 50, () => makeHome(inject('sandbox'))],
  ['workerd', 200, () => makeWorkerHome(inject('sandbox'), inject('worker'))],
])('on %s', (_, most, make) => {
  test.each([
    ['/docs/reference.js', 'identity'],
    ['/docs/reference.js', 'gzip'],
    ['/openapi.yaml', 'identity'],
    ['/openapi.yaml', 'gzip'],
  ])(`400 unread replies of %s (%s) take ${most} MiB at the most`, async (path, coding) => {
    home = make()
    const gateway = await home.start()
    const request = requestOf(path, coding)
    const attack = () => Promise.all(Array.from({ length: 400 }, () => askAndNotRead(gateway.url, request)))
    expect(await growth(gateway, attack)).toBeLessThan(most)
  })

  test('300 requests for the script on one connection, unread, take 50 MiB at the most', async () => {
    home = make()
    const gateway = await home.start()
    const attack = () => askAndNotRead(gateway.url, requestOf('/docs/reference.js', 'identity').repeat(300))
    expect(await growth(gateway, attack)).toBeLessThan(50)
  })
})

import { hash } from 'node:crypto'
import { gatewayFetch, useGateway } from '#gateway'
import { describe, expect, test } from 'vitest'

useGateway()

const paths = ['/docs/reference.js', '/docs/start.js', '/openapi.json', '/openapi.yaml']

const ask = (path: string, headers: Record<string, string>): Promise<Response> =>
  gatewayFetch(path, { headers: { 'accept-encoding': 'identity', ...headers } })

/** What can be seen of a reply's form. Clients undo the coding, and say that there was one. */
async function form(reply: Response) {
  const { status, headers } = reply
  const text = await reply.text()
  return {
    status,
    coding: headers.get('content-encoding'),
    tag: headers.get('etag'),
    vary: headers.get('vary'),
    length: text.length,
    hash: hash('sha256', text),
  }
}

describe.each(paths)('%s', (path) => {
  test('is the same text in both forms, each with a strong tag of its own', async () => {
    const plain = await form(await ask(path, {}))
    expect(plain).toMatchObject({
      status: 200,
      coding: null,
      tag: expect.stringMatching(/^"[\w-]{32}"$/),
      vary: 'accept-encoding',
    })
    expect(plain.length).toBeGreaterThan(500)
    const gzip = await form(await ask(path, { 'accept-encoding': 'br, gzip' }))
    expect(gzip).toEqual({ ...plain, coding: 'gzip', tag: plain.tag?.replace(/"$/, '-gzip"') })
    // A second time they are what was kept.
    expect(await form(await ask(path, { 'accept-encoding': 'gzip' }))).toEqual(gzip)
    expect(await form(await ask(path, {}))).toEqual(plain)
  })

  test.each([
    ['gzip;q=0', null],
    ['*;q=0.5', 'gzip'],
    ['*, gzip;q=0', null],
    ['br', null],
    ['GZIP;q=0.001', 'gzip'],
    ['gzip;q=nonsense, ;;', 'gzip'],
  ])('for Accept-Encoding: %s', async (accepted, coding) => {
    const reply = await ask(path, { 'accept-encoding': accepted })
    await reply.body?.cancel()
    expect([reply.status, reply.headers.get('content-encoding')]).toEqual([200, coding])
  })

  test('is not sent to who has it', async () => {
    const first = await ask(path, {})
    await first.body?.cancel()
    const tag = first.headers.get('etag') ?? ''
    const own = tag.slice(1, -1)
    for (const held of [tag, `W/${tag}`, `"${own}-gzip"`, `"other", ${tag}`, '*']) {
      for (const accepted of ['identity', 'gzip']) {
        const reply = await ask(path, { 'if-none-match': held, 'accept-encoding': accepted })
        expect(await form(reply), held).toEqual({
          status: 304,
          coding: null,
          tag: accepted === 'gzip' ? `"${own}-gzip"` : tag,
          vary: 'accept-encoding',
          length: 0,
          hash: hash('sha256', ''),
        })
        expect(reply.headers.get('cache-control')).toBe(first.headers.get('cache-control'))
      }
    }
    for (const other of [`"${'x'.repeat(32)}"`, 'no tag', `"${own}`]) {
      const reply = await ask(path, { 'if-none-match': other })
      await reply.body?.cancel()
      expect(reply.status, other).toBe(200)
    }
  })
})

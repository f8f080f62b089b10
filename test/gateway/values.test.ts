import { useGateway } from '#gateway'
import { describe, expect, test } from 'vitest'
import { eventsOf, mintApinizer, mintCommerceLayer, providers, put } from '../harness/gateway-calls.ts'

useGateway()

test.each(['new\nline', 'tab\tbed', 'nul\u0000', 'del\u007f', 'next\u0085line', 'bell\u0007'])(
  'a secret with a control character, %j, is refused by its place, and nothing is sent',
  async (secret) => {
    const { id, project } = await mintApinizer()
    const reply = await put(`/credentials/${id}`, { secret })
    expect(reply.status).toBe(422)
    expect(reply.body.errors).toMatchObject([{ pointer: '#/secret' }])
    expect(JSON.stringify(reply.body)).not.toContain(JSON.stringify(secret).slice(1, -1))
    const seen = (await providers().apinizer.requests()).filter(({ path }) => path.includes(project))
    expect(seen).toEqual([])
  },
)

const redirects: [string, number][] = [
  ['https://example.com/callback', 200],
  ['http://localhost:8080/callback?x=1', 200],
  ['com.example.app:/callback', 200],
  ['javascript:alert(1)', 422],
  ['JavaScript://example.com/%0aalert(1)', 422],
  ['data:text/html,x', 422],
  ['vbscript:x', 422],
  ['file:///etc/passwd', 422],
  ['blob:https://example.com/1', 422],
  ['about:blank', 422],
  ['https://example.com/callback#fragment', 422],
  ['https://example.com/callback#', 422],
  ['/callback', 422],
]
test.each(redirects)('a redirectUri %s is answered with %i', async (redirectUri, status) => {
  const id = await mintCommerceLayer('api_credentials')
  const reply = await put(`/credentials/commerce-layer:${id}`, { redirectUri })
  expect([reply.status, reply.body.errors?.[0]?.pointer]).toEqual([
    status,
    status === 422 ? '#/redirectUri' : undefined,
  ])
})

describe('access widens', () => {
  const lists: [string[], string[], boolean][] = [
    [['8.0.0.0/8'], ['8.0.0.1'], false],
    [['8.0.0.0/8'], ['::ffff:8.0.0.1'], false],
    [['8.0.0.0/8'], ['::ffff:800:1'], false],
    [['8.0.0.0/8'], ['::8.0.0.1'], true],
    [['8.0.0.0/8'], ['::800:1'], true],
    [['8.0.0.0/8'], ['64:ff9b::8.0.0.1'], true],
    [['8.0.0.0/8'], ['2002:800:1::'], true],
    [['0.0.0.0/0'], ['::8.0.0.1'], true],
    [['::/96'], ['::8.0.0.1'], false],
    [['::/0'], ['64:ff9b::8.0.0.1'], false],
    [['10.0.0.0/25', '10.0.0.128/25'], ['10.0.0.0/24'], false],
    [['10.0.0.0/24'], ['10.0.0.0/23'], true],
  ]
  test.each(lists)('from %j to %j: %s', async (before, to, widens) => {
    const { id } = await mintApinizer({ ipList: before })
    const body = { allowedIps: to, secret: 'changed' }
    const plan = await put(`/credentials/${id}?dryRun=true`, body)
    expect([plan.status, plan.body.plan?.widens]).toEqual([200, widens])
  })
})

/** As a provider may spell it in whatever it answers. */
const spellings: [string, (secret: string) => string][] = [
  ['as it is', (secret) => secret],
  ['in capitals', (secret) => secret.toUpperCase()],
  ['percent-encoded', encodeURIComponent],
  ['as a form', (secret) => secret.replaceAll(' ', '+')],
  ['in Base64', (secret) => Buffer.from(secret).toString('base64')],
  ['in hexadecimal', (secret) => Buffer.from(secret).toString('hex')],
  ['inside of a text', (secret) => `Deployed with ${secret} today`],
]
test.each(spellings)('a secret that the provider tells %s is neither told nor kept', async (_, spell) => {
  const secret = 'Horse battery 93'
  const { id, project } = await mintApinizer()
  const { apinizer } = providers()
  const told = spell(secret)
  // In every text of what is read back, and as the name of an environment of the answer to the write.
  const read = { tell: { fullName: told, description: told, email: told, roleNameList: [told] } }
  const { id: reads } = await apinizer.fault(read, { match: { method: 'GET', path: project }, times: null })
  await apinizer.fault(
    { partialDeployment: { environments: [told], level: 'environment' } },
    { match: { method: 'PUT', path: project }, times: null },
  )
  const reply = await put(`/credentials/${id}`, { secret, name: 'New', description: 'New' })
  await apinizer.send('DELETE', `/faults/${reads}`)
  const kept = JSON.stringify([reply.body, await eventsOf(id)]).toLowerCase()
  for (const [name, other] of spellings)
    expect([name, kept.includes(other(secret).toLowerCase())]).toEqual([name, false])
})

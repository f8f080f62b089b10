import { type Context, Hono } from 'hono'
import { z } from 'zod'
import { unknownMember } from './deviation.ts'
import { faultOrderSchema } from './fault.ts'
import type { World } from './world.ts'

const clockSchema = z.union([
  z.strictObject({ now: z.iso.datetime({ offset: true }) }),
  z.strictObject({ advanceMs: z.number() }),
])

const bodyOf = (context: Context): Promise<unknown> => context.req.json().catch(() => undefined)

const refused = (context: Context, reason: string) => context.json({ error: reason }, 400)

/** The test's side of a provider: what it saw, what it applied, and what shall go wrong. */
export function controlApi(world: World): Hono {
  const { clock, emulator, faults, ledger, requests } = world
  const app = new Hono().basePath('/_sandbox')
  const after = (context: Context) => Number(context.req.query('after') ?? 0)

  app.get('/ledger', (context) => {
    const id = context.req.query('id')
    const entries = ledger
      .entries()
      .filter((entry) => entry.seq > after(context) && (id === undefined || entry.id === id))
    return context.json({ entries, dropped: ledger.dropped() })
  })

  app.get('/requests', (context) => {
    const entries = requests.entries().filter(({ seq }) => seq > after(context))
    return context.json({ entries, dropped: requests.dropped() })
  })

  app.get('/faults', (context) => context.json({ faults: faults.list() }))
  app.post('/faults', async (context) => {
    const order = faultOrderSchema.safeParse(await bodyOf(context))
    if (!order.success) return refused(context, z.prettifyError(order.error))
    const { failure, partialDeployment } = order.data.fault
    if ((failure || partialDeployment) && !emulator.degrade)
      return refused(context, 'failure and partialDeployment belong to a provider that deploys')
    const unknown = unknownMember(order.data.fault, emulator.members)
    if (unknown !== undefined) return refused(context, `no resource of this provider has a member ${unknown}`)
    return context.json(faults.add(order.data), 201)
  })
  app.delete('/faults', (context) => {
    faults.clear()
    return context.body(null, 204)
  })
  app.delete('/faults/:id{[0-9]+}', (context) =>
    faults.remove(Number(context.req.param('id'))) ? context.body(null, 204) : context.notFound(),
  )

  app.get('/clock', (context) => context.json({ now: clock.iso() }))
  app.post('/clock', async (context) => {
    const change = clockSchema.safeParse(await bodyOf(context))
    if (!change.success) return refused(context, 'send { "now": ISO } or { "advanceMs": n }')
    if ('now' in change.data) clock.set(Date.parse(change.data.now))
    else clock.advance(change.data.advanceMs)
    return context.json({ now: clock.iso() })
  })

  app.post('/reset', (context) => {
    world.epoch += 1
    clock.reset()
    faults.clear()
    ledger.clear()
    requests.clear()
    emulator.reset()
    return context.body(null, 204)
  })

  app.get('/settings', (context) => context.json(emulator.settings()))
  app.post('/settings', async (context) => {
    const outcome = emulator.configure(await bodyOf(context))
    return outcome.ok ? context.json(outcome.value) : refused(context, outcome.reason)
  })

  app.get('/state/:type/:id', (context) => {
    const state = emulator.read(context.req.param('type'), context.req.param('id'))
    return state === undefined ? context.notFound() : context.json(state as object)
  })
  app.put('/state/:type/:id', async (context) => {
    const { type, id } = context.req.param()
    const outcome = emulator.write(type, id, await bodyOf(context))
    return outcome.ok ? context.json(outcome.value as object) : refused(context, outcome.reason)
  })

  emulator.control?.(app)
  app.notFound((context) => context.json({ error: 'no such control' }, 404))
  return app
}

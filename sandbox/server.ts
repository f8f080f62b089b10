import { once } from 'node:events'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createApinizer } from './apinizer/emulator.ts'
import { createClock } from './clock.ts'
import { createCommerceLayer } from './commerce-layer/emulator.ts'
import { createDiscue } from './discue/emulator.ts'
import { createProviderServer } from './provider.ts'

export interface Sandbox {
  /** Each ends where the paths of the provider's documentation begin. */
  urls: { commerceLayer: string; commerceLayerAuth: string; discue: string; apinizer: string }
  close(): Promise<void>
}

export interface SandboxOptions {
  /** 0, the default, takes a free port. */
  ports?: { commerceLayer?: number; discue?: number; apinizer?: number }
  host?: string
  /** Whether Commerce Layer enforces its published rate limits from the start. */
  limits?: 'published' | 'off'
}

/** Three providers on three ports, each with a clock and a memory of its own. */
export async function startSandbox(options: SandboxOptions = {}): Promise<Sandbox> {
  const { ports = {}, host = '127.0.0.1', limits = 'published' } = options
  const [forCommerceLayer, forDiscue, forApinizer] = [createClock(), createClock(), createClock()]
  const commerceLayer = createProviderServer(createCommerceLayer(forCommerceLayer, limits), forCommerceLayer)
  const discue = createProviderServer(createDiscue(forDiscue), forDiscue)
  const apinizer = createProviderServer(createApinizer(forApinizer), forApinizer)
  const servers = [commerceLayer, discue, apinizer]

  const close = async () => {
    await Promise.all(servers.map(stop))
  }
  try {
    const commerceLayerUrl = await listen(commerceLayer, ports.commerceLayer, host)
    return {
      urls: {
        commerceLayer: commerceLayerUrl,
        commerceLayerAuth: commerceLayerUrl,
        discue: `${await listen(discue, ports.discue, host)}/v1`,
        apinizer: await listen(apinizer, ports.apinizer, host),
      },
      close,
    }
  } catch (error) {
    await close()
    throw error
  }
}

async function listen(server: Server, port = 0, host: string): Promise<string> {
  server.listen(port, host)
  await once(server, 'listening')
  const { address, port: bound, family } = server.address() as AddressInfo
  return `http://${family === 'IPv6' ? `[${address}]` : address}:${bound}`
}

async function stop(server: Server): Promise<void> {
  if (!server.listening) return
  const closed = once(server, 'close')
  server.close()
  // Connections that are kept alive or stalled by a fault would hold the process for minutes.
  server.closeAllConnections()
  await closed
}

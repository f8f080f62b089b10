import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Browser, chromium } from 'playwright-core'
import { inflate } from '@sparticuz/chromium'
import { vi } from 'vitest'

export interface OpenChromium {
  browser: Browser
  close(): Promise<void>
}

/**
 * A headless Chromium out of an npm package, with the libraries and the fonts that a bare machine lacks. The binary is
 * for Linux on x64; elsewhere `CHROMIUM_PATH` names another one.
 */
export async function openChromium(): Promise<OpenChromium> {
  const folder = await mkdtemp(join(tmpdir(), 'chromium-'))
  const remove = () => rm(folder, { recursive: true, force: true })
  try {
    const installed = process.env['CHROMIUM_PATH']
    const browser = await chromium.launch(
      installed ? { executablePath: installed } : await unpackInto(folder),
    )
    return { browser, close: () => browser.close().finally(remove) }
  } catch (error) {
    await remove()
    throw error
  }
}

/** Into a folder of its own: the package's fixed place would be shared with whatever another run left there. */
async function unpackInto(folder: string): Promise<{ executablePath: string; env: Record<string, string> }> {
  const archives = new URL('../bin/', import.meta.resolve('@sparticuz/chromium'))
  const unpack = (name: string) => inflate(fileURLToPath(new URL(name, archives)))
  // The package unpacks into the folder for temporary files, and only there.
  vi.stubEnv('TMPDIR', folder)
  const [executablePath, libraries, fonts] = await Promise.all([
    unpack('chromium.br'),
    unpack('al2023.tar.br'),
    unpack('fonts.tar.br'),
  ]).finally(() => vi.unstubAllEnvs())
  const fontConfiguration = join(folder, 'fonts.conf')
  await writeFile(
    fontConfiguration,
    `<fontconfig><dir>${fonts}</dir><cachedir>${join(folder, 'font-cache')}</cachedir></fontconfig>`,
  )
  return {
    executablePath,
    env: { HOME: folder, LD_LIBRARY_PATH: join(libraries, 'lib'), FONTCONFIG_FILE: fontConfiguration },
  }
}

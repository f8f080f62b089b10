import { inject } from 'vitest'
import type { Sandbox } from '../../sandbox/server.ts'
import { scale } from '../faults/scale.ts'
import { type AnyHome, type DocumentOptions, makeHome } from './gateway-process.ts'
import { makeWorkerHome } from './worker-home.ts'

interface Runtime {
  runtime: string
  makeHome(urls: Sandbox['urls'], options?: DocumentOptions): AnyHome
  kills: number
}

/** Where the gateway runs: what holds on one must hold on the other. */
export const runtimes: Runtime[] = [
  { runtime: 'Node', makeHome, kills: scale.crash.kills },
  {
    runtime: 'workerd',
    makeHome: (urls, options) => makeWorkerHome(urls, inject('worker'), options),
    kills: scale.crash.workerdKills,
  },
]

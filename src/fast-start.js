// Loaded before src/node.ts (`node --import`), and no more than a faster start: without it everything works as well.
// Plain JavaScript, because what takes types away is part of what it spares.
import { enableCompileCache, flushCompileCache, registerHooks } from 'node:module'
import { fileURLToPath } from 'node:url'

// Compiled code is kept beside what it is made from, not in a folder that others can write to. A folder that cannot be
// written is no fault. It is written early, because a process that is killed would not write it, and once more for
// what a slow start has loaded later.
enableCompileCache(fileURLToPath(new URL('../node_modules/.cache/credential-gateway', import.meta.url)))
for (const ms of [1000, 10_000]) setTimeout(flushCompileCache, ms).unref()

// Node reads the nearest package.json for every module that it resolves. drizzle-orm has hundreds of them, and one of
// 180 KB: its own relative imports are ES modules without looking.
registerHooks({
  resolve(specifier, context, next) {
    const { parentURL } = context
    return specifier.startsWith('.') && parentURL?.includes('/node_modules/drizzle-orm/')
      ? { url: new URL(specifier, parentURL).href, format: 'module', shortCircuit: true }
      : next(specifier, context)
  },
})

import type { Registry } from '../src/model/adapter.ts'
import { apinizer } from './apinizer.ts'
import { commerceLayer } from './commerce-layer.ts'
import { discue } from './discue.ts'

export const registry = {
  'commerce-layer': commerceLayer,
  discue,
  apinizer,
} satisfies Registry

import { configuration } from '../configuration.ts'
import { startTestGateway } from '../gateway.node.ts'
import { hostileIds } from '../hostile-ids.ts'

hostileIds({ start: (urls) => startTestGateway(configuration(urls)), resolvesDots: false })

import { configuration } from '../harness/configuration.ts'
import { startTestGateway } from '../harness/gateway.node.ts'
import { hostileIds } from '../harness/hostile-ids.ts'

hostileIds({ start: (urls) => startTestGateway(configuration(urls)), resolvesDots: false })

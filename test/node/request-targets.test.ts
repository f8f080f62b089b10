import { startTestGateway } from '../gateway.node.ts'
import { requestTargets } from '../request-targets.ts'

requestTargets(() => startTestGateway())

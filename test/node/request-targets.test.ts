import { startTestGateway } from '../harness/gateway.node.ts'
import { requestTargets } from '../harness/request-targets.ts'

requestTargets(() => startTestGateway())

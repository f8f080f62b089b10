import { z } from 'zod'
import type { JsonObject, PartialDeployment } from '../exchange.ts'

export const environmentsSchema = z.array(
  z.strictObject({ name: z.string(), pods: z.array(z.string()).min(1), latencyMs: z.number().min(0) }),
)
export type Environment = z.infer<typeof environmentsSchema>[number]

export const environments: Environment[] = [
  { name: 'production', pods: ['worker-7c9', 'worker-9d2'], latencyMs: 2 },
  { name: 'staging', pods: ['worker-1aa'], latencyMs: 1 },
]

/** Every environment is rolled out at once, so the slowest one decides. */
export const deploymentMs = (all: readonly Environment[]): number =>
  Math.max(0, ...all.map(({ latencyMs }) => latencyMs))

/** Two documented shapes: the recursive one of the generated OpenAPI file, and the one of some prose pages. */
export type DeploymentShape = 'detailList' | 'environmentResults'

const failed = { success: false, detail: 'The gateway environment could not be reached.' }

export function deploymentResult(
  all: readonly Environment[],
  shape: DeploymentShape,
  degraded?: PartialDeployment,
): JsonObject {
  const broken = new Set(degraded?.environments)
  const level = degraded?.level
  const nothing = level === 'top' && broken.size === 0
  const success = level !== 'top'
  if (shape === 'environmentResults')
    return {
      success,
      message: success ? 'Deployed.' : 'Deployed in part.',
      environmentResults: (nothing ? [] : all).map(({ name }) => ({
        environmentName: name,
        success: !broken.has(name),
        message: broken.has(name) ? failed.detail : 'Deployed.',
      })),
    }
  return {
    success,
    responseTime: deploymentMs(all),
    detailList: (nothing ? [] : all).map((environment) =>
      broken.has(environment.name)
        ? environmentDetail(environment, level === 'pod' ? 'pod' : 'environment')
        : environmentDetail(environment),
    ),
  }
}

/** Saved in the Manager and live nowhere. */
export const undeployed = (shape: DeploymentShape): JsonObject =>
  shape === 'detailList' ? { success: false, detailList: [] } : { success: false, environmentResults: [] }

/** One pod is reported in place of its environment, several as a list below it: both are within the schema. */
function environmentDetail(environment: Environment, failure?: 'environment' | 'pod'): JsonObject {
  const { name: envName, pods, latencyMs: responseTime } = environment
  const own = failure === 'environment' ? failed : { success: true }
  const podDetail = (podName: string, index: number): JsonObject => ({
    envName,
    podName,
    podIp: `10.0.${pods.length}.${index + 4}`,
    responseTime,
    ...(failure && index === pods.length - 1 ? failed : { success: true }),
  })
  const [only] = pods
  if (pods.length === 1 && only !== undefined && failure !== 'pod') return { ...podDetail(only, 0), ...own }
  return { envName, responseTime, ...own, detailList: pods.map(podDetail) }
}

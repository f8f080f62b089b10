import { setTimeout as pause } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
// By its file: the package's declarations for `require` contradict themselves, and TypeScript would take those.
import {
  CommerceLayerProvisioning,
  CommerceLayerProvisioningStatic,
} from '@commercelayer/provisioning-sdk/lib/index.mjs'
import type { Sandbox } from '../../sandbox/server.ts'
import { answered } from '../../test/harness/clients.ts'
import { DEADLINE } from '../../test/harness/fault-kinds.ts'
import type { OperationName } from '../../test/harness/operations.ts'
import { commerceLayerAs, type Json } from '../../test/harness/sandbox-calls.ts'
import type { Intent, Members, Wire, WireRequest } from './wire.ts'

/** What somebody holds true of a change. `partial`: stored, and not all of it is in force. */
export type Belief = 'success' | 'failure' | 'partial' | 'unknown'

export interface Said {
  belief: Belief
  /** In the contender's own words. */
  words: string
  /** The gateway's. */
  changeId?: string
}

/** One way to make changes. All of them have the same time for one: `DEADLINE`. */
export interface Contender {
  name: string
  takes(operation: OperationName): boolean
  change(intent: Intent): Promise<Said>
  /** Whether it compares before it writes, so that it can tell a change of nothing. */
  compares: boolean
  /** What it says later of a change that it had no answer to; absent where it keeps no record and cannot look. */
  recall?(intent: Intent, said: Said): Promise<Recalled>
}

/** `open`: the question stands where a person finds it. `lost`: it does not, and nothing answers it. */
export type Recalled = 'open' | 'lost' | { belief: Belief; since?: number }

/** Three of them, with the pauses between, are the whole time. Longer than any fault that is only slow. */
const ATTEMPTS = 3
const ATTEMPT_MS = 450
const PAUSES = [50, 100]

interface Answer {
  status: number
  headers: Headers
  /** Undefined where the body is no JSON. */
  json: Json
}

/** One client's time for one change. */
class Patience {
  readonly #end = performance.now() + DEADLINE
  left = (): number => Math.max(1, Math.floor(this.#end - performance.now()))

  /** One request and its whole answer. A 401 is answered with a fresh token once, as every client library does. */
  async attempt(wire: Wire, make: () => WireRequest): Promise<Answer> {
    const first = await this.#send(make())
    if (first.status !== 401) return first
    await wire.renew()
    return this.#send(make())
  }

  async #send({ url, method, headers, body }: WireRequest): Promise<Answer> {
    const response = await fetch(url, {
      method,
      headers,
      // Nobody sends a secret on to where a redirect points.
      redirect: 'manual',
      signal: AbortSignal.timeout(Math.min(ATTEMPT_MS, this.left())),
      ...(body !== undefined && { body: JSON.stringify(body) }),
    })
    const text = await response.text()
    const { status, headers: told } = response
    try {
      return { status, headers: told, json: JSON.parse(text) }
    } catch {
      return { status, headers: told, json: undefined }
    }
  }

  /** Waits, if the time allows for that. */
  async wait(ms: number): Promise<boolean> {
    if (ms >= this.left()) return false
    await pause(ms)
    return true
  }
}

/**
 * The provider's own client library, as its README says, with the time of the others and its own refreshing of tokens. An
 * exception with an HTTP status is a failure, which is what its users take it for; one without is no answer.
 */
export async function officialSdk(sandbox: Sandbox): Promise<Contender> {
  const accessToken = async () => (await commerceLayerAs(sandbox)).token
  const client = CommerceLayerProvisioning({
    accessToken: await accessToken(),
    timeout: DEADLINE,
    refreshToken: accessToken,
    // It goes to https://provisioning.{domain} always, so that loopback can only be reached by a fetch of one's own.
    fetch: (input, init) => fetch(sandbox.urls.commerceLayer + new URL(String(input)).pathname, init),
  })
  const update = ({ wire: { type, id }, asked }: Intent): Promise<unknown> => {
    if (type === 'api_credentials') return client.api_credentials.update({ id, ...asked })
    return type === 'roles'
      ? client.roles.update({ id, ...asked })
      : client.permissions.update({ id, ...asked })
  }
  return {
    name: 'the official SDK',
    takes: (operation) => operation.startsWith('commerce layer'),
    compares: false,
    change: (intent) =>
      update(intent).then(
        (): Said => ({ belief: 'success', words: 'resolved' }),
        (error: unknown): Said => ({
          belief: CommerceLayerProvisioningStatic.isApiError(error) && error.status ? 'failure' : 'unknown',
          words: String(error),
        }),
      ),
  }
}

/** What an answer means to a careful reader, or why another attempt is due. */
type Reading = Said | { again: string; undecided: boolean; waitMs?: number }

/** Whether no part of a deployment, however deep, says that it failed. */
const isDeployed = (result: Json): boolean =>
  result?.success === true &&
  [...(result.detailList ?? []), ...(result.environmentResults ?? [])].every(isDeployed)

function read({ provider }: Wire, { status, headers, json }: Answer): Reading {
  const told = headers.get('retry-after')
  if (status === 429 || (status === 503 && told !== null))
    return { again: `${status}`, undecided: false, waitMs: Number(told) * 1000 }
  // A server that failed, or that had no patience, may have stored the change before.
  if (status === 408 || (status >= 500 && status !== 501)) return { again: `${status}`, undecided: true }
  if (status >= 300) return { belief: 'failure', words: `${status}` }
  if (json === undefined) return { again: `${status} without JSON`, undecided: true }
  if (provider !== 'apinizer') return { belief: 'success', words: `${status}` }
  if (json.status === 'FAILURE') return { belief: 'failure', words: 'FAILURE' }
  if (json.status !== 'SUCCESS') return { again: `${status} without SUCCESS`, undecided: true }
  return isDeployed(json.deploymentResult)
    ? { belief: 'success', words: 'SUCCESS, deployed' }
    : { belief: 'partial', words: 'SUCCESS, and not deployed everywhere' }
}

/**
 * A client by hand that does all that is commonly advised: time limits, repeats with pauses, `Retry-After`, fresh tokens, a
 * look at Apinizer's own words. It never takes silence or a 5xx for a refusal, nor the refusal of a repeat for the end of an
 * attempt before it. It believes a success that it can read.
 */
export const careful: Contender = {
  name: 'a careful client by hand',
  takes: () => true,
  compares: false,
  async change({ wire, asked }) {
    const patience = new Patience()
    let current: Members | undefined
    let undecided = false
    let words = ''
    for (let made = 0; made < ATTEMPTS; made++) {
      let writing = false
      let waitMs = PAUSES[made] ?? 0
      try {
        // Apinizer replaces the whole, so that what is there has to be sent back; the others take the fields alone.
        if (wire.provider === 'apinizer' && wire.read && !current) {
          const listed = await patience.attempt(wire, wire.read.request)
          current = wire.read.members(listed.json)
        }
        writing = true
        const answer = read(wire, await patience.attempt(wire, () => wire.write(asked, current)))
        if ('belief' in answer)
          return answer.belief === 'failure' && undecided
            ? { belief: 'unknown', words: `${words}, then ${answer.words}` }
            : answer
        words = answer.again
        undecided ||= answer.undecided
        waitMs = answer.waitMs || waitMs
      } catch (error) {
        words = String(error)
        undecided ||= writing
      }
      if (made + 1 < ATTEMPTS && !(await patience.wait(waitMs))) break
    }
    return { belief: undecided ? 'unknown' : 'failure', words }
  },
}

/** What is asked for and is not there. */
const difference = (asked: Members, seen: Members): string[] =>
  Object.keys(asked).filter((name) => !isDeepStrictEqual(seen[name], asked[name]))

/**
 * A loop as infrastructure tools have it: read, compare, write, start over after an error, and plan again at the end. What
 * the provider does not show, secrets and all of Discue, it knows from its own state of what it wrote last. It goes by the
 * status of an answer; as with the SDK, an error that has one is a failure, and one without is no answer.
 */
export function readThenWrite(): Contender {
  const written = new Map<string, Members>()
  async function seen({ wire, asked }: Intent, patience: Patience): Promise<Members> {
    const own = written.get(`${wire.type}/${wire.id}`) ?? {}
    if (!wire.read) return own
    const shown = wire.read.members(answeredWell(await patience.attempt(wire, wire.read.request)).json)
    return { ...shown, ...('password' in asked && { password: own['password'] }) }
  }
  return {
    name: 'a read-then-write loop',
    takes: () => true,
    compares: true,
    async change(intent) {
      const { wire, asked } = intent
      const patience = new Patience()
      let last: Said = { belief: 'failure', words: 'nothing was tried' }
      for (let made = 0; made < ATTEMPTS; made++) {
        try {
          const current = await seen(intent, patience)
          if (difference(asked, current).length === 0) return { belief: 'success', words: 'no difference' }
          answeredWell(await patience.attempt(wire, () => wire.write(asked, current)))
          written.set(`${wire.type}/${wire.id}`, asked)
          const left = difference(asked, await seen(intent, patience))
          return left.length === 0
            ? { belief: 'success', words: 'written' }
            : { belief: 'failure', words: `inconsistent result after apply: ${left.join(', ')}` }
        } catch (error) {
          last = { belief: error instanceof Refused ? 'failure' : 'unknown', words: String(error) }
        }
        if (made + 1 < ATTEMPTS && !(await patience.wait(PAUSES[made] ?? 0))) break
      }
      return last
    },
    /** Generous: where everything can be read, whoever plans again is told how it is. */
    async recall(intent) {
      if (!intent.wire.read || 'password' in intent.asked) return 'lost'
      const left = difference(intent.asked, await seen(intent, new Patience()))
      return { belief: left.length === 0 ? 'success' : 'failure' }
    },
  }
}

class Refused extends Error {}

function answeredWell(answer: Answer): Answer {
  if (answer.status >= 300) throw new Refused(`${answer.status}`)
  return answer
}

const meanings: Record<string, Belief> = { partial: 'partial', unknown: 'unknown' }
const OPEN = new Set(['unknown', 'needs_attention', 'partial', 'in_flight'])

export const GATEWAY = 'the gateway'

/** The gateway, with a key for every change. A reply without an outcome says that nothing was sent. */
export const gatewayAt = (url: string): Contender => ({
  name: GATEWAY,
  takes: () => true,
  compares: true,
  async change({ target, body, key }) {
    const reply = await answered('PUT', url + target.path, body, { headers: { 'idempotency-key': key } })
    const { outcome, changeId, type, detail } = reply.body
    return {
      belief: reply.status === 200 ? 'success' : (meanings[outcome] ?? 'failure'),
      words: `${reply.status} ${outcome ?? ''} ${type ?? ''} ${detail ?? ''}`,
      ...(changeId !== undefined && { changeId }),
    }
  },
  async recall({ target }, { changeId }) {
    const resource = encodeURIComponent(target.path.replace(/^\/\w+\//, ''))
    const { body } = await answered('GET', `${url}/changes?resource=${resource}`)
    const record = body.data.find(({ id }: Json) => id === changeId)
    if (OPEN.has(record?.state)) return 'open'
    if (record?.state !== 'applied' && record?.state !== 'rejected') return 'lost'
    return { belief: record.state === 'applied' ? 'success' : 'failure', since: Date.parse(record.since) }
  },
})

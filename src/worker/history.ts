import type { Config } from '../config/document.ts'
import { type Gathered, type History, mergeSlices, type Scope } from '../ledger/history.ts'
import type { Slice } from '../ledger/types.ts'
import { Deadline } from '../lib/deadline.ts'
import type { Log } from '../lib/log.ts'
import { GATEWAY } from '../model/resource-id.ts'
import type { Env } from './environment.ts'
import { type ConnectionObject, objectOf } from './object.ts'

/** How long one object may take to answer for its part of a list. Milliseconds. */
const PATIENCE = 3000

/** The history of all connections, each kept in its own object: asked together, merged by the time-ordered ids. */
export function workerHistory(env: Env, config: Config, log: Log): History {
  /** The answer, or undefined when the object fails or keeps silent. */
  async function ask<T>(
    name: string,
    question: (object: ConnectionObject) => Promise<T>,
  ): Promise<T | undefined> {
    const asked = question(objectOf(env, name)).catch((error) => {
      log.error('connection lost', { connection: name, error: String(error) })
      return undefined
    })
    const answer = await new Deadline(PATIENCE).within(asked)
    if (answer === undefined) log.warn('history without a connection', { connection: name })
    return answer
  }

  async function gather<T extends { id: string }>(
    {
      connections,
      except,
      touches,
      limit,
    }: Scope & { connections: readonly string[] | undefined; limit: number },
    question: (object: ConnectionObject) => Promise<Slice<T>>,
  ): Promise<Gathered<T>> {
    // A connection that is no longer configured keeps its history; `_gateway` knows which there are.
    const present = connections?.every((name) => config.connections.has(name)) || except.includes(GATEWAY)
    const former = present ? [] : await ask(GATEWAY, (object) => object.enlisted())
    const known = new Set([...config.connections.keys(), ...(former ?? []), GATEWAY])
    const names = [...known].filter(
      (name) => connections?.includes(name) !== false && !except.includes(name) && touches(name),
    )
    const answers = await Promise.all(names.map(async (name) => ({ name, slice: await ask(name, question) })))
    const silent = answers.filter(({ slice }) => !slice).map(({ name }) => name)
    const unanswered = [...new Set(former ? silent : [...silent, GATEWAY])]
    return {
      ...mergeSlices(
        answers.flatMap(({ slice }) => slice ?? []),
        limit,
      ),
      unanswered,
    }
  }

  return {
    // An object holds only its own data: it is not told which connections are asked for.
    events: ({ connections, except, touches, ...filter }) =>
      gather({ connections, except, touches, limit: filter.limit }, (object) => object.events(filter)),
    changes: ({ connections, except, touches, ...filter }) =>
      gather({ connections, except, touches, limit: filter.limit }, (object) => object.changes(filter)),
    story: (connection, changeId) => ask(connection, (object) => object.story(changeId)),
  }
}

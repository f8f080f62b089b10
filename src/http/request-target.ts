/** A host with or without a port (RFC 3986 §3.2.2), as real ones are: no user, no escapes, nothing that a URL would read otherwise. */
const HOST = /^(?:\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,255})(?::(\d{0,5}))?$/i

export function isHost(text: string): boolean {
  const read = HOST.exec(text)
  return read !== null && Number(read[1] ?? 0) <= 65_535
}

/** The path and query of a request's first line, without any host in it. */
export interface RequestTarget {
  /** Begins with a slash. */
  path: string
  /** Of the absolute form, which goes before the header (RFC 9112 §3.2.2). */
  host?: string
}

/** Reads the origin form and the absolute form (RFC 9112 §3.2); undefined for all others, which no route answers to. */
export function readTarget(target: string): RequestTarget | undefined {
  if (target.startsWith('/')) return { path: target }
  const [, host = '', path = ''] = /^https?:\/\/([^/?#]*)(.*)$/is.exec(target) ?? []
  return isHost(host) ? { path: path.startsWith('/') ? path : `/${path}`, host } : undefined
}

import { createSend, type Send } from '../upstream/send.ts'

/** workerd undoes gzip and br, asked for or not, and leaves deflate as it is. */
async function decoded(response: Response): Promise<Response> {
  const coding = response.headers.get('content-encoding')?.trim().toLowerCase()
  if (coding !== 'deflate' || !response.body) return response
  return new Response(response.body.pipeThrough(new DecompressionStream('deflate')), response)
}

/** The Worker's way out, by the runtime's `fetch`. Its errors never reveal whether the request has left. */
export const workerSend = (fetch: (url: string, init: RequestInit) => Promise<Response>): Send =>
  createSend(
    async (url, init) => decoded(await fetch(url, init)),
    () => false,
  )

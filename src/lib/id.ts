import { randomFillSync } from 'node:crypto'
import { v7 as uuidv7 } from 'uuid'

/** Random bytes that are drawn at a time: a draw costs the same for sixteen of them and for a thousand. */
const DRAWN = Buffer.alloc(4096)
let used = DRAWN.length

/** The next random bytes, to be read before the next call. They name things; they are no secrets. */
export function nextRandom(bytes: number): Buffer {
  if (used + bytes > DRAWN.length) {
    randomFillSync(DRAWN)
    used = 0
  }
  used += bytes
  return DRAWN.subarray(used - bytes, used)
}

let msecs = 0
let seq = 0

/** A UUIDv7 that sorts after every one made before it in this process (RFC 9562 §6.2, method 1). */
export function newId(): string {
  const random = nextRandom(16)
  const now = Date.now()
  if (now > msecs) {
    msecs = now
    seq = random.readUInt32BE(6) >>> 1
  } else {
    seq = (seq + 1) >>> 0
    if (seq === 0) msecs += 1
  }
  return uuidv7({ random, msecs, seq })
}

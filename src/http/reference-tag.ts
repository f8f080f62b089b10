/** Of assets/reference.js.gz: 192 bits of its SHA-256. Made by tools/reference.ts. */
export const REFERENCE_TAG = 'vwkQBr3Dr2Bnr3fC9TSBLj5jPpSpTocT'

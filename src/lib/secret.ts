const plain = (text: string): string => text.normalize('NFKC').toLowerCase()

/** A shorter secret, encoded, occurs in many texts by chance. */
const ENCODED_FROM = 6

function spellingsOf(text: string): string[] {
  const own = [text, JSON.stringify(text).slice(1, -1)]
  if (text.length < ENCODED_FROM) return own
  const bytes = Buffer.from(text)
  const escapes: Record<string, string> = {
    '&': '&amp;',
    '<': '&lt;',
    '>': '&gt;',
    '"': '&quot;',
    "'": '&#39;',
  }
  return [
    ...own,
    ...(text.isWellFormed()
      ? [encodeURIComponent(text), new URLSearchParams({ '': text }).toString().slice(1)]
      : []),
    text.replace(/[&<>"']/g, (one) => escapes[one] ?? one),
    bytes.toString('base64').replace(/=+$/, ''),
    bytes.toString('base64url'),
    bytes.toString('hex'),
  ]
}

/**
 * A value that must never be seen: it prints, serializes and inspects as `[secret]`.
 * Only the code that sends a request upstream or derives a keyed digest calls `expose`.
 */
export class Secret {
  readonly #text: string
  /** As it may stand in a text, in lower case: made when it is first looked for. */
  #spellings: string[] | undefined

  constructor(text: string) {
    this.#text = text
  }

  expose(): string {
    return this.#text
  }

  get length(): number {
    return this.#text.length
  }

  /**
   * Whether the text gives it away: in upper or lower case, without the space at its ends, in any normal form, and as URLs, JSON,
   * HTML, Base64 and hexadecimal spell it.
   */
  isIn(text: string): boolean {
    this.#spellings ??= spellingsOf(this.#text).map((spelled) => plain(spelled).trim())
    const looked = plain(text)
    return this.#spellings.some((spelled) => looked.includes(spelled))
  }

  toString(): string {
    return '[secret]'
  }

  toJSON(): string {
    return '[secret]'
  }

  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return '[secret]'
  }
}

/**
 * A value that must never be seen: it prints, serializes and inspects as `[secret]`.
 * Only the code that sends a request upstream or derives a keyed digest calls `expose`.
 */
export class Secret {
  readonly #text: string

  constructor(text: string) {
    this.#text = text
  }

  expose(): string {
    return this.#text
  }

  get length(): number {
    return this.#text.length
  }

  /** Whether the text gives it away, in upper or lower case, without the space at its ends, in any normal form. */
  isIn(text: string): boolean {
    const plain = (spelled: string) => spelled.normalize('NFKC').toLowerCase()
    return plain(text).includes(plain(this.#text).trim())
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

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

  /** Whether the text gives it away. */
  isIn(text: string): boolean {
    return text.includes(this.#text)
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

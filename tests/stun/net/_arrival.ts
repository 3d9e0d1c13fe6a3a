/** Values that come one by one, before they are waited for or after. */
export class Arrival<T> {
  readonly #waiting: ((value: T) => void)[] = [];
  readonly #values: T[] = [];
  /** Here is one. */
  put(value: T): void {
    const waiting = this.#waiting.shift();
    if (waiting === undefined) this.#values.push(value);
    else waiting(value);
  }
  /** The next one. */
  take(): Promise<T> {
    if (this.#values.length !== 0) return Promise.resolve(this.#values.shift()!);
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}

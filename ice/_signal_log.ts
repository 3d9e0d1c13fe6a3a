/** What was told to the other side so far, and is to come; each reader gets all of it. */
export class SignalLog implements AsyncIterable<string> {
  #texts: string[] = [];
  #isDone = false;
  #more = Promise.withResolvers<void>();

  push(text: string): void {
    if (this.#isDone) return;
    this.#texts.push(text);
    this.#wake();
  }

  end(): void {
    this.#isDone = true;
    this.#wake();
  }

  [Symbol.asyncIterator](): AsyncIterator<string, undefined> {
    let i = 0;
    const next = (): Promise<IteratorResult<string, undefined>> => {
      if (i < this.#texts.length) return Promise.resolve({ done: false, value: this.#texts[i++]! });
      if (this.#isDone) return Promise.resolve({ done: true, value: undefined });
      return this.#more.promise.then(next);
    };
    return { next };
  }

  #wake(): void {
    this.#more.resolve();
    this.#more = Promise.withResolvers<void>();
  }
}

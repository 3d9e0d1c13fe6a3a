const MAX_DATAGRAMS = 1024;
const MAX_BYTES = 4 * 1024 * 1024;

/** Datagrams between those that come and whoever reads them. Bounded: what does not fit is dropped and counted. */
export class DatagramQueue {
  /** Datagrams that found no room. */
  dropped = 0;
  #queue: Uint8Array[] = [];
  #bytes = 0;
  #readers: PromiseWithResolvers<IteratorResult<Uint8Array, undefined>>[] = [];
  #end: { readonly error: Error | undefined } | undefined;

  /** Takes in a copy of a datagram. */
  push(bytes: Uint8Array): void {
    if (this.#end !== undefined) return;
    const reader = this.#readers.shift();
    if (reader !== undefined) return reader.resolve({ done: false, value: bytes.slice() });
    if (this.#queue.length >= MAX_DATAGRAMS || this.#bytes + bytes.length > MAX_BYTES) {
      this.dropped++;
      return;
    }
    this.#queue.push(bytes.slice());
    this.#bytes += bytes.length;
  }

  /** Nothing more comes, by an error or without; what waits can still be read. */
  end(error?: Error): void {
    if (this.#end !== undefined) return;
    this.#end = { error };
    for (const { resolve, reject } of this.#readers.splice(0)) {
      if (error === undefined) resolve({ done: true, value: undefined });
      else reject(error);
    }
  }

  /** More may come after all. */
  reopen(): void {
    this.#end = undefined;
  }

  /** The next datagram, as soon as there is one. */
  next(): Promise<IteratorResult<Uint8Array, undefined>> {
    const value = this.#queue.shift();
    if (value !== undefined) {
      this.#bytes -= value.length;
      return Promise.resolve({ done: false, value });
    }
    if (this.#end !== undefined) {
      const { error } = this.#end;
      return error === undefined ? Promise.resolve({ done: true, value: undefined }) : Promise.reject(error);
    }
    const reader = Promise.withResolvers<IteratorResult<Uint8Array, undefined>>();
    this.#readers.push(reader);
    return reader.promise;
  }
}

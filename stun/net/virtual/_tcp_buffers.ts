/** What a receiver holds for a program that does not read, and what a sender takes from one at most, in bytes. */
export const TCP_BUFFER = 65_536;

/** What a program gave and the other end has not acknowledged. */
export class SendBuffer {
  /** The sequence number of its first byte. */
  start: number;
  length = 0;
  #memory = new Uint8Array(2048);

  constructor(start: number) {
    this.start = start;
  }

  /** The sequence number behind its last byte. */
  get end(): number {
    return this.start + this.length;
  }

  /** Takes as much as fits, and gives how much that was. */
  append(bytes: Uint8Array): number {
    const taken = Math.min(bytes.length, TCP_BUFFER - this.length);
    const needed = this.length + taken;
    if (needed > this.#memory.length) {
      const larger = new Uint8Array(Math.min(TCP_BUFFER, Math.max(needed, 2 * this.#memory.length)));
      larger.set(this.#memory.subarray(0, this.length));
      this.#memory = larger;
    }
    this.#memory.set(bytes.subarray(0, taken), this.length);
    this.length = needed;
    return taken;
  }

  /** A part of it, good until the next change. */
  view(seq: number, length: number): Uint8Array {
    return this.#memory.subarray(seq - this.start, seq - this.start + length);
  }

  /** Lets go of what lies before `seq`. */
  release(seq: number): void {
    const count = Math.min(seq - this.start, this.length);
    if (count <= 0) return;
    this.#memory.copyWithin(0, count, this.length);
    this.start += count;
    this.length -= count;
  }
}

/** What arrived and was not read: in order, and what came early. */
export class ReceiveBuffer {
  /** The sequence number that is expected next. */
  next: number;
  /** How many bytes wait to be read. */
  waiting = 0;
  /** The sequence number of the other end's FIN, when it is known. */
  finAt = Infinity;
  #ready: Uint8Array[] = [];
  #early: { readonly seq: number; readonly bytes: Uint8Array }[] = [];

  constructor(next: number) {
    this.next = next;
  }

  /** How much more may come. */
  get window(): number {
    return Math.max(0, TCP_BUFFER - this.waiting);
  }

  /** Whether the other end has said all. */
  get hasFin(): boolean {
    return this.next > this.finAt;
  }

  /** Takes in bytes: a copy of those that are new and fit the window. */
  take(seq: number, bytes: Uint8Array): void {
    const limit = this.next + this.window;
    const end = Math.min(seq + bytes.length, limit);
    if (end > Math.max(seq, this.next)) this.#early.push({ seq, bytes: bytes.slice(0, end - seq) });
    for (let i = this.#findNext(); i !== -1; i = this.#findNext()) {
      const [piece] = this.#early.splice(i, 1);
      this.#append(piece!.bytes.subarray(this.next - piece!.seq));
    }
    this.#early = this.#early.filter((piece) => piece.seq + piece.bytes.length > this.next);
    if (this.next === this.finAt) this.next++;
  }

  /** What is to be read next. */
  read(): Uint8Array | undefined {
    const bytes = this.#ready.shift();
    if (bytes !== undefined) this.waiting -= bytes.length;
    return bytes;
  }

  /** Puts back what was read and not used. */
  unread(bytes: Uint8Array): void {
    this.#ready.unshift(bytes);
    this.waiting += bytes.length;
  }

  #findNext(): number {
    return this.#early.findIndex(({ seq, bytes }) => seq <= this.next && seq + bytes.length > this.next);
  }

  #append(bytes: Uint8Array): void {
    this.#ready.push(bytes);
    this.waiting += bytes.length;
    this.next += bytes.length;
  }
}

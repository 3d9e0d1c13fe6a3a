/**
 * A socket for the load generator: many datagrams per system call, to and from many addresses.
 *
 * Written apart from `stun/net` on purpose: a fault of the fast path must not cancel itself out.
 */

const libc = Deno.dlopen("libc.so.6", {
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
  recvmmsg: { parameters: ["i32", "pointer", "u32", "i32", "pointer"], result: "i32" },
  sendmmsg: { parameters: ["i32", "pointer", "u32", "i32"], result: "i32" },
}).symbols;

export const BATCH = 64;
const SLOT = 66048;
const DONTWAIT = 0x40;
const SOL_IP = 0;
const SOL_SOCKET = 1;
const SOL_UDP = 17;
const IP_PKTINFO = 8;
const UDP_SEGMENT = 103;
const UDP_GRO = 104;
const MAX_SEGMENTS = 64;
const MAX_RUN = 60000;
/** Room for a source address and a segment size on the way out, for the size that UDP_GRO tells on the way in. */
const CONTROL = 64;

class Memory {
  static readonly #kept: Memory[] = [];
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly words: Uint32Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;
  readonly address: number;

  constructor(size: number) {
    const buffer = new ArrayBuffer(size);
    this.bytes = new Uint8Array(buffer);
    this.words = new Uint32Array(buffer);
    this.view = new DataView(buffer);
    this.address = Number(Deno.UnsafePointer.value(Deno.UnsafePointer.of(this.bytes)));
    Memory.#kept.push(this);
  }

  set(word: number, address: number): void {
    this.words[word] = address >>> 0;
    this.words[word + 1] = address / 2 ** 32;
  }

  pointer(offset: number): Deno.PointerObject {
    return Deno.UnsafePointer.create(BigInt(this.address + offset))!;
  }
}

/** 64 `mmsghdr`s with a name, an iovec and control data each. */
class Headers {
  readonly memory = new Memory(BATCH * 64);
  readonly names = new Memory(BATCH * 16);
  readonly iovecs = new Memory(BATCH * 16);
  readonly controls = new Memory(BATCH * CONTROL);
  readonly pointers = Array.from({ length: BATCH }, (_, i) => this.memory.pointer(i * 64));

  constructor() {
    for (let i = 0; i < BATCH; i++) {
      this.memory.set(i * 16, this.names.address + i * 16);
      this.memory.words[i * 16 + 2] = 16;
      this.memory.set(i * 16 + 4, this.iovecs.address + i * 16);
      this.memory.words[i * 16 + 6] = 1;
      this.memory.set(i * 16 + 8, this.controls.address + i * CONTROL);
    }
  }
}

/** An IPv4 address as the 32-bit number that a `sockaddr_in` has on a little-endian machine. */
export function ipWord(address: string): number {
  const [a, b, c, d] = address.split(".").map(Number);
  return (a! | (b! << 8) | (c! << 16) | (d! << 24)) >>> 0;
}

/** The first word of a `sockaddr_in`: family and port. */
export function portWord(port: number): number {
  return (2 | ((port >> 8) << 16) | ((port & 255) << 24)) >>> 0;
}

/** A UDP socket. What it received lies in `bytes`; `lengths`, `offsets`, `segments`, `ports` and `ips` tell of each. */
export class FloodSocket {
  readonly #fd: number;
  readonly #in = new Headers();
  readonly #out = new Headers();
  readonly #slots = new Memory(BATCH * SLOT);
  readonly #area = new Memory(BATCH * 2048);
  readonly #gro: boolean;
  /** The memory of what was received. */
  readonly bytes: Uint8Array = this.#slots.bytes;
  readonly view: DataView = this.#slots.view;
  readonly lengths: Uint32Array = new Uint32Array(BATCH);
  readonly segments: Uint32Array = new Uint32Array(BATCH);
  /** The memory of what is sent by `queue()`: 2048 bytes for each of 64. */
  readonly outBytes: Uint8Array = this.#area.bytes;
  readonly outView: DataView = this.#area.view;
  #headers = 0;
  #iovecs = 0;
  #runBytes = 0;
  #runSize = 0;
  #open = false;
  sendErrors = 0;

  constructor(ip: string, port: number, options: { gro?: boolean } = {}) {
    this.#fd = libc.socket(2, 2 | 0o4000, 0);
    this.#gro = options.gro ?? false;
    for (const option of [32, 33]) this.#set(SOL_SOCKET, option, 16 << 20);
    for (const option of [7, 8]) this.#set(SOL_SOCKET, option, 4 << 20);
    if (this.#gro) this.#set(SOL_UDP, UDP_GRO, 1);
    const name = new Uint32Array(32);
    name[0] = portWord(port);
    name[1] = ipWord(ip);
    if (libc.bind(this.#fd, new Uint8Array(name.buffer), 16) !== 0) throw new Error(`Cannot bind ${ip}:${port}`);
    for (let i = 0; i < BATCH; i++) {
      this.#in.iovecs.set(i * 4, this.#slots.address + i * SLOT);
      this.#in.iovecs.words[i * 4 + 2] = SLOT;
      this.#in.memory.words[i * 16 + 10] = this.#gro ? CONTROL : 0;
    }
  }

  #set(level: number, option: number, value: number): boolean {
    return libc.setsockopt(this.#fd, level, option, new Uint8Array(new Uint32Array(32).fill(value).buffer), 4) === 0;
  }

  /** Takes in what is there, up to 64. Gives how many messages; with GRO each may be several datagrams. */
  receive(): number {
    const count = Math.max(0, libc.recvmmsg(this.#fd, this.#in.pointers[0]!, BATCH, DONTWAIT, null));
    const { words } = this.#in.memory;
    for (let i = 0; i < count; i++) {
      const length = words[i * 16 + 14]!;
      this.lengths[i] = length;
      this.segments[i] = this.#gro && words[i * 16 + 10] !== 0
        ? this.#in.controls.words[i * (CONTROL / 4) + 4]!
        : length;
      words[i * 16 + 2] = 16;
      words[i * 16 + 10] = this.#gro ? CONTROL : 0;
    }
    return count;
  }

  /** Where the message `i` begins in `bytes`. */
  offset(i: number): number {
    return i * SLOT;
  }

  /** Sends all that `receive()` gave back to where it came from. */
  echo(count: number): void {
    for (let i = 0; i < count; i++) {
      const names = this.#in.names.words;
      this.#add(
        this.#slots.address + i * SLOT,
        this.lengths[i]!,
        this.segments[i]!,
        names[i * 4]!,
        names[i * 4 + 1]!,
        0,
      );
    }
    this.flush();
  }

  /** Queues `length` bytes of `outBytes` from `2048 * i`, for `i` the queue's place, which is given back first. */
  get place(): number {
    if (this.#iovecs === BATCH) this.flush();
    return this.#iovecs;
  }

  /** Queues what was written at `place`, from `source` (0: the socket's own address). */
  queue(length: number, port: number, ip: number, source: number): void {
    this.#add(this.#area.address + this.#iovecs * 2048, length, length, port, ip, source);
  }

  #add(address: number, length: number, segment: number, port: number, ip: number, source: number): void {
    const { names, memory, iovecs, controls } = this.#out;
    const iovec = this.#iovecs++;
    iovecs.set(iovec * 4, address);
    iovecs.words[iovec * 4 + 2] = length;
    const last = this.#headers - 1;
    const joins = this.#open && segment === this.#runSize && names.words[last * 4] === port &&
      names.words[last * 4 + 1] === ip && controls.words[last * 16 + 5] === source &&
      this.#runBytes + length <= Math.min(MAX_RUN, MAX_SEGMENTS * segment);
    if (joins) {
      this.#runBytes += length;
      memory.words[last * 16 + 6]!++;
      this.#setControl(last, source, segment);
    } else {
      const header = this.#headers++;
      names.words[header * 4] = port;
      names.words[header * 4 + 1] = ip;
      memory.set(header * 16 + 4, iovecs.address + iovec * 16);
      memory.words[header * 16 + 6] = 1;
      this.#runBytes = length;
      this.#runSize = segment;
      this.#setControl(header, source, segment < length ? segment : 0);
    }
    this.#open = length % segment === 0;
  }

  // IP_PKTINFO {ifindex, spec_dst, addr} in words 0-7, then UDP_SEGMENT in words 8-12; or the latter alone.
  #setControl(header: number, source: number, segment: number): void {
    const { words } = this.#out.controls;
    const at = header * 16;
    words.set([28, 0, SOL_IP, IP_PKTINFO, 0, source, 0, 0, 18, 0, SOL_UDP, UDP_SEGMENT, segment], at);
    const memory = this.#out.memory;
    const skip = source === 0 ? 32 : 0;
    memory.set(header * 16 + 8, this.#out.controls.address + header * CONTROL + skip);
    memory.words[header * 16 + 10] = (segment === 0 ? 32 : 56) - skip;
  }

  /** Sends what was queued. */
  flush(): void {
    const count = this.#headers;
    for (let sent = 0; sent < count;) {
      const done = libc.sendmmsg(this.#fd, this.#out.pointers[sent]!, count - sent, DONTWAIT);
      if (done <= 0) this.sendErrors++;
      sent += Math.max(1, done);
    }
    this.#headers = 0;
    this.#iovecs = 0;
    this.#open = false;
  }
}

import type { TransportAddress } from "../../address.ts";
import type { OpenFailure } from "../../machine.ts";
import type { Alarm } from "./_alarm.ts";
import { ReceiveBuffer, SendBuffer } from "./_tcp_buffers.ts";
import { ACK, FIN, RST, SYN, type TcpHeader } from "./_tcp_header.ts";
import { RetransmissionTimer } from "./_tcp_timer.ts";

/** How long SYNs are repeated: six times, as Linux does. */
const SYN_PATIENCE = 127_000;
/** R2 of RFC 9293 §3.8.3: so long without progress, and the connection is given up. */
const PATIENCE = 100_000;
const MIN_REPEATS = 3;
/** How long a connection that the program has closed waits for the other end to close it too. */
const FIN_PATIENCE = 60_000;
const MIN_MSS = 64;
const NOTHING = new Uint8Array(0);

/** Who uses a connection. Never called from inside a call to it. */
export interface TcpUser {
  onOpen(): void;
  onFailed(failure: OpenFailure): void;
  onData(bytes: Uint8Array): void;
  onSent(): void;
  onEnd(reason: "end" | "reset"): void;
}

/** What a connection needs of its host. */
export interface TcpOutput {
  readonly now: number;
  /** Sends a segment. */
  transmit(connection: TcpConnection, header: TcpHeader, bytes: Uint8Array): void;
  /** An alarm, not set. */
  alarm(ring: () => void): Alarm;
  /** It is over: what still comes for it finds nobody. */
  forget(connection: TcpConnection): void;
}

/** How a connection begins. */
export interface TcpBeginning {
  readonly local: TransportAddress;
  readonly remote: TransportAddress;
  /** The initial sequence number. */
  readonly iss: number;
  /** The largest payload. */
  readonly mss: number;
  /** The SYN that it answers; without one it sends one itself. */
  readonly syn?: TcpHeader;
}

/**
 * One end of a TCP connection (RFC 9293): handshake, simultaneous open too, order, retransmission, flow control, both closes
 * and reset. There is no congestion control and no delayed acknowledgement; windows are 64 KiB.
 */
export class TcpConnection {
  readonly local: TransportAddress;
  readonly remote: TransportAddress;
  user: TcpUser | undefined;
  state: "syn-sent" | "syn-received" | "open" | "over" = "syn-sent";
  #out: TcpOutput;
  #iss: number;
  #mss: number;
  #buffer: SendBuffer;
  #inbox: ReceiveBuffer | undefined;
  /** SND.UNA, SND.NXT and SND.WND. */
  #una: number;
  #next: number;
  #window = 0;
  #finWanted = false;
  #finSeq = Infinity;
  #pending: Uint8Array | undefined;
  #sentDue = 0;
  #isReading = false;
  #isEndTold = false;
  #isAckDue = false;
  #told = 0;
  #repeatedAcks = 0;
  /** Until all up to here is acknowledged, each gap that shows is filled at once (RFC 6582). */
  #recoverTo = 0;
  #timing = new RetransmissionTimer();
  #timer: Alarm;
  #soon: Alarm;
  #waitingSince = 0;
  #repeats = 0;

  /** Sends the first segment. */
  constructor(out: TcpOutput, user: TcpUser | undefined, { local, remote, iss, mss, syn }: TcpBeginning) {
    this.#out = out;
    this.user = user;
    this.local = local;
    this.remote = remote;
    this.#iss = this.#una = iss;
    this.#next = iss + 1;
    this.#mss = mss;
    this.#buffer = new SendBuffer(iss + 1);
    this.#timer = out.alarm(() => this.#handleTimeout());
    this.#soon = out.alarm(() => this.#tellUser());
    if (syn !== undefined) this.#handleSyn(syn);
    this.#waitingSince = out.now;
    this.#timing.handleSent(this.#next, out.now);
    this.#repeat();
    this.#arm();
  }

  /** Takes in a segment. */
  handle(header: TcpHeader, bytes: Uint8Array): void {
    if (this.state === "over") return;
    if ((header.flags & RST) !== 0) return this.#handleReset(header);
    if (this.state === "syn-sent") this.#handleInSynSent(header);
    else if ((header.flags & SYN) !== 0 && !this.#isOwnSynAck(header)) this.#isAckDue = true;
    else if ((header.flags & ACK) !== 0) this.#handleInOrder(header, bytes);
    if (!this.#isOver) this.#output();
    if (!this.#isOver) this.#deliver();
    if (this.#isAckDue && !this.#isOver) this.#acknowledge();
  }

  /** Takes what `send()` of a stream was given, and keeps it until the network has it all. */
  send(bytes: Uint8Array): void {
    if (this.#isOver || this.#finWanted) return;
    this.#pending = bytes;
    this.#fill();
    this.#output();
  }

  end(): void {
    if (this.#isOver) return;
    this.#finWanted = true;
    this.#output();
  }

  resume(): void {
    this.#isReading = true;
    this.#soon.set(this.#out.now);
  }

  pause(): void {
    this.#isReading = false;
  }

  /** Puts back what came too early for the program. */
  unread(bytes: Uint8Array): void {
    if (bytes.length !== 0) this.#inbox!.unread(bytes.slice());
  }

  /** The program is done with it: what was taken still leaves, unless the program left something unread (RFC 2525 §2.17). */
  close(): void {
    this.user = undefined;
    this.#soon.set(Infinity);
    if (this.#isOver) return;
    this.#pending = undefined;
    if (this.state === "syn-sent") return this.#finish();
    if (this.#inbox!.waiting > 0) return this.#breakOff();
    this.#finWanted = true;
    this.#output();
    if (!this.#isOver && this.#una > this.#finSeq) this.#timer.set(this.#out.now + FIN_PATIENCE);
  }

  get #isOver(): boolean {
    return this.state === "over";
  }

  #handleSyn({ seq, window }: TcpHeader): void {
    this.#inbox = new ReceiveBuffer(seq + 1);
    this.#window = window;
    this.state = "syn-received";
  }

  #handleInSynSent(header: TcpHeader): void {
    const hasAck = (header.flags & ACK) !== 0;
    if (hasAck && header.ack !== this.#iss + 1) return this.#send(RST, header.ack, NOTHING);
    if ((header.flags & SYN) === 0) return;
    this.#handleSyn(header);
    // Both SYNs have crossed (§3.5): each side acknowledges the other's.
    if (!hasAck) return this.#send(SYN | ACK, this.#iss, NOTHING);
    this.#isAckDue = true;
    this.#handleAck(header);
  }

  /** The answer to our SYN when both have crossed. */
  #isOwnSynAck({ flags, seq }: TcpHeader): boolean {
    return this.state === "syn-received" && (flags & ACK) !== 0 && seq + 1 === this.#inbox!.next;
  }

  #handleReset({ flags, seq, ack }: TcpHeader): void {
    if (this.state === "syn-sent") {
      if ((flags & ACK) !== 0 && ack === this.#iss + 1) this.#fail("refused");
      return;
    }
    const { next, window } = this.#inbox!;
    if (seq >= next && seq <= next + window) this.#lose();
  }

  #handleInOrder(header: TcpHeader, bytes: Uint8Array): void {
    this.#handleAck(header, bytes.length);
    if (this.#isOver) return;
    const inbox = this.#inbox!;
    const isFin = (header.flags & FIN) !== 0;
    if (bytes.length === 0 && !isFin) return;
    this.#isAckDue = true;
    if (this.user === undefined && this.#finWanted && header.seq + bytes.length > inbox.next) return this.#breakOff();
    if (isFin) inbox.finAt = header.seq + bytes.length;
    inbox.take(header.seq, bytes);
  }

  #handleAck({ ack, window, seq, flags }: TcpHeader, length = 0): void {
    const { now } = this.#out;
    if (ack > this.#next) return void (this.#isAckDue = true);
    if (ack < this.#una) return;
    const isRepeated = ack === this.#una && window === this.#window && length === 0 && (flags & (SYN | FIN)) === 0;
    // An older segment may tell an older window.
    if (ack > this.#una || seq >= this.#inbox!.next) this.#window = window;
    if (ack === this.#una) {
      // Whoever answers probes is alive, and may take its time; but not with what nobody waits for any more.
      if (window === 0 && this.user !== undefined) this.#heard();
      if (isRepeated && this.#next > this.#una && ++this.#repeatedAcks === 3) this.#fillGap(this.#next);
      return;
    }
    this.#repeatedAcks = 0;
    this.#una = ack;
    this.#heard();
    this.#timing.handleAcknowledged(ack, now);
    this.#buffer.release(ack);
    this.#fill();
    if (this.state !== "open") this.#handleOpened();
    if (this.#isOver) return;
    if (ack < this.#recoverTo) this.#fillGap(this.#recoverTo);
    else this.#arm();
    this.#finishIfDone();
  }

  #heard(): void {
    this.#waitingSince = this.#out.now;
    this.#repeats = 0;
  }

  #handleOpened(): void {
    this.state = "open";
    this.user?.onOpen();
  }

  /** RFC 5681 §3.2 and RFC 6582 §3.2, without the window of congestion. */
  #fillGap(recoverTo: number): void {
    this.#recoverTo = recoverTo;
    this.#timing.ignore();
    this.#repeat();
    this.#arm();
  }

  #fill(): void {
    if (this.#pending === undefined) return;
    const taken = this.#buffer.append(this.#pending);
    if (taken < this.#pending.length) {
      this.#pending = this.#pending.subarray(taken);
      return;
    }
    this.#pending = undefined;
    this.#sentDue++;
    this.#soon.set(this.#out.now);
  }

  /** Sends what may be sent. */
  #output(): void {
    if (this.state !== "open") return;
    const { now } = this.#out;
    const wasIdle = this.#next === this.#una;
    const limit = Math.min(this.#buffer.end, this.#una + this.#window);
    while (this.#next < limit) {
      const length = Math.min(this.#mss, limit - this.#next);
      const seq = this.#next;
      this.#next += length;
      this.#timing.handleSent(this.#next, now);
      this.#send(ACK, seq, this.#buffer.view(seq, length));
    }
    if (
      this.#finWanted && this.#finSeq === Infinity && this.#pending === undefined && this.#next === this.#buffer.end
    ) {
      this.#finSeq = this.#next++;
      this.#send(ACK | FIN, this.#finSeq, NOTHING);
    }
    if (!wasIdle || (this.#next === this.#una && this.#buffer.length === 0)) return;
    this.#heard();
    this.#arm();
  }

  /** Sends the first segment that is not acknowledged, or one byte into a window that is closed (§3.8.6.1). */
  #repeat(): void {
    if (this.state === "syn-sent") return this.#send(SYN, this.#iss, NOTHING);
    if (this.state === "syn-received") return this.#send(SYN | ACK, this.#iss, NOTHING);
    if (this.#una === this.#finSeq) return this.#send(ACK | FIN, this.#finSeq, NOTHING);
    this.#next = Math.max(this.#next, this.#una + 1);
    const length = Math.min(this.#mss, Math.min(this.#next, this.#buffer.end) - this.#una);
    this.#send(ACK, this.#una, this.#buffer.view(this.#una, length));
  }

  #arm(): void {
    const isWaiting = this.#next > this.#una || this.#buffer.length > 0;
    if (isWaiting) this.#timer.set(this.#out.now + this.#timing.rto);
    else this.#timer.set(this.user === undefined && this.#finWanted ? this.#out.now + FIN_PATIENCE : Infinity);
  }

  #handleTimeout(): void {
    const { now } = this.#out;
    if (this.#next === this.#una && this.#buffer.length === 0) return this.#finish();
    const waited = now - this.#waitingSince;
    if (this.state === "syn-sent" && waited >= SYN_PATIENCE) return this.#fail("timeout");
    if (this.state !== "syn-sent" && this.#repeats >= MIN_REPEATS && waited >= PATIENCE) return this.#lose();
    this.#repeats++;
    this.#timing.handleExpired();
    this.#recoverTo = this.#next;
    this.#repeat();
    this.#arm();
  }

  #acknowledge(): void {
    if (this.state === "syn-received") this.#send(SYN | ACK, this.#iss, NOTHING);
    else this.#send(ACK, this.#next, NOTHING);
  }

  #send(flags: number, seq: number, bytes: Uint8Array): void {
    const inbox = this.#inbox;
    if ((flags & ACK) !== 0) {
      this.#isAckDue = false;
      this.#told = inbox!.window;
    }
    const sentAt = this.#out.now;
    const onRefused = (why: "noRoute" | "tooBig") => this.#handleRefused(why, bytes.length, sentAt);
    const header = { flags, seq, ack: inbox?.next ?? 0, window: inbox?.window ?? 65_535, onRefused };
    this.#out.transmit(this, header, bytes);
  }

  /** What a router says takes as long to come back as the segment took to it. */
  #handleRefused(why: "noRoute" | "tooBig", length: number, sentAt: number): void {
    const { now } = this.#out;
    this.#out.alarm(() => {
      if (why === "noRoute") {
        // Later on it may pass (RFC 5461).
        if (this.state === "syn-sent") this.#fail("unreachable");
        return;
      }
      // Larger ones were under way when the first was refused.
      if (this.#isOver || length === 0 || length > this.#mss || this.#mss === MIN_MSS) return;
      this.#mss = Math.max(MIN_MSS, length >> 1);
      this.#fillGap(this.#next);
    }).set(2 * now - sentAt);
  }

  #deliver(): void {
    const inbox = this.#inbox;
    if (inbox === undefined) return;
    while (this.#isReading && this.user !== undefined) {
      const bytes = inbox.read();
      if (bytes === undefined) break;
      this.user.onData(bytes);
    }
    // RFC 9293 §3.8.6.2.2: a window that was shut is told to be open.
    if (this.#told < 2 * this.#mss && inbox.window >= 2 * this.#mss && !this.#isOver) this.#isAckDue = true;
    if (this.#isReading && inbox.hasFin && inbox.waiting === 0 && !this.#isEndTold && this.user !== undefined) {
      this.#isEndTold = true;
      this.user.onEnd("end");
    }
    this.#finishIfDone();
  }

  #tellUser(): void {
    const due = this.#sentDue;
    this.#sentDue = 0;
    for (let i = 0; i < due; i++) this.user?.onSent();
    this.#deliver();
    if (this.#isAckDue && !this.#isOver) this.#acknowledge();
  }

  #finishIfDone(): void {
    if (this.#isOver || this.#una <= this.#finSeq || this.#inbox?.hasFin !== true) return;
    if (this.#isAckDue) this.#acknowledge();
    this.#finish();
  }

  #finish(): void {
    this.state = "over";
    this.#timer.set(Infinity);
    this.#out.forget(this);
  }

  #fail(failure: OpenFailure): void {
    this.#finish();
    this.user?.onFailed(failure);
  }

  /** Says so, and breaks. */
  #breakOff(): void {
    this.#send(RST | ACK, this.#next, NOTHING);
    this.#finish();
  }

  #lose(): void {
    this.#finish();
    this.#soon.set(Infinity);
    if (this.#isEndTold) return;
    this.#isEndTold = true;
    this.user?.onEnd("reset");
  }
}

import type { TransportAddress } from "./address.ts";
import { ServerTrail } from "./alternate.ts";
import { MAPPED_ADDRESS, SOFTWARE, XOR_MAPPED_ADDRESS } from "./attributes.ts";
import { LongTermCredentials, type RequestCredentials } from "./credentials.ts";
import {
  CHANGE_REQUEST,
  CHANGED_ADDRESS,
  OTHER_ADDRESS,
  REFLECTED_FROM,
  RESPONSE_ADDRESS,
  SOURCE_ADDRESS,
} from "./discovery_attributes.ts";
import { ERROR_CODE, StunConnectionError, StunError, StunProtocolError } from "./error.ts";
import type { ServerTransport } from "./locate.ts";
import type {
  CloseReason,
  IcmpMessage,
  Machine,
  MachineIo,
  OpenFailure,
  Packet,
  SocketId,
  SocketWish,
  StreamWish,
  TlsClientOptions,
} from "./machine.ts";
import { isStunByte, METHOD, StunMessage } from "./message.ts";
import { OpenError } from "./net/transport.ts";
import { ClientRequests, printable, type RequestOutcome } from "./requests.ts";
import type { RtoCache } from "./rto_cache.ts";
import { ShortTermCredentials } from "./short_term.ts";
import type { RetransmitOptions } from "./transaction.ts";

/** The attributes below 0x8000 that an answer to a Binding request may have, those of RFC 3489 servers included. */
const KNOWN: ReadonlySet<number> = new Set(
  [
    ...[MAPPED_ADDRESS, XOR_MAPPED_ADDRESS, SOURCE_ADDRESS, CHANGED_ADDRESS, RESPONSE_ADDRESS, CHANGE_REQUEST],
    REFLECTED_FROM,
  ].map(({ type }) => type).concat([0x0006, 0x0008, 0x0009, 0x000a, 0x0014, 0x0015, 0x001c]),
);

/** What a server's answer to a Binding request says. */
export interface BindingAnswer {
  /** The address that the server saw. */
  readonly mapped: TransportAddress;
  /** The address that the answer came from. */
  readonly server: TransportAddress;
  /** Milliseconds from the first request to the answer: a round trip if `sends` is 1, else at most one. */
  readonly rtt: number;
  /** How often the request was sent. */
  readonly sends: number;
  /** What the server says it is, fit for a line that people read. */
  readonly software?: string;
  /** The server's other address and port, if it can help to find out about NATs (RFC 5780 §7.4, RFC 3489 §11.2.3). */
  readonly otherAddress?: TransportAddress;
}

/** What a Binding request is authenticated with. */
export interface BindingCredentials {
  /**
   * `"short-term"` (RFC 8489 §9.1) goes with the first request already. `"long-term"` (§9.2) goes when the server has asked
   * for it; one that does not ask is taken at its word.
   */
  readonly type: "short-term" | "long-term";
  /** 1 to 508 bytes of UTF-8. */
  readonly username: string;
  /** Not empty. */
  readonly password: string;
}

/** What a `BindingClient` reports. */
export type BindingClientEvent =
  /** Its socket is bound, and the request is on its way. */
  | { readonly type: "bound"; readonly local: TransportAddress }
  /** The server answered. */
  | { readonly type: "answered"; readonly answer: BindingAnswer }
  /**
   * It did not, or by an error: `StunError`, `StunTimeoutError` (`StunUnreachableError`), `StunIntegrityError`, `StunChallengeError`,
   * `StunConnectionError`, `StunProtocolError`, `OpenError`.
   */
  | { readonly type: "failed"; readonly error: Error };

/** What a `BindingClient` is made from. */
export interface BindingClientOptions {
  /** The server. */
  readonly server: TransportAddress;
  /** What to talk over. Default: `"udp"`. */
  readonly transport?: ServerTransport;
  /** How to use TLS or DTLS. Default: for the server's name, trusting the usual authorities. */
  readonly tls?: TlsClientOptions;
  /** The local IP address to bind. Default: for UDP all of them, for a connection the host's choice. */
  readonly localAddress?: string;
  /** The local port to bind. Default: 0, the host chooses. */
  readonly localPort?: number;
  /** How to repeat the request over UDP, and how long to wait over a connection. Default: as RFC 8489 §6.2.1 has it. */
  readonly retransmit?: RetransmitOptions;
  /** What to authenticate with. Default: nothing. */
  readonly credentials?: BindingCredentials;
  /** Where the first RTO comes from and is learnt (RFC 8489 §6.2.1), unless `retransmit` says it. Default: 500 ms each time. */
  readonly rtoCache?: RtoCache;
}

/**
 * Asks a STUN server for the address it sees (RFC 8489 §2, RFC 3489's servers too), and those that it sends to (§10). Opens
 * its own socket.
 */
export class BindingClient implements Machine<BindingClientEvent> {
  readonly #options: BindingClientOptions;
  readonly #requests: ClientRequests<BindingClientEvent>;
  readonly #credentials: RequestCredentials | undefined;
  readonly #trail: ServerTrail;
  #socket: SocketId = -1;
  /** The name in the certificate of a server that this client was sent to. */
  #domain: string | undefined;

  /**
   * A client that has done nothing yet: `request()` is next.
   *
   * @throws {SyntaxError} If user name or password is empty or has a control character.
   * @throws {RangeError} If the user name is too long.
   */
  constructor(options: BindingClientOptions) {
    this.#options = options;
    const { server, transport = "udp", retransmit = {}, credentials, rtoCache } = options;
    this.#trail = new ServerTrail(server);
    this.#credentials = credentials && credentialsOf(credentials);
    this.#requests = new ClientRequests({
      server,
      known: KNOWN,
      retransmit,
      reliable: transport !== "udp" && transport !== "dtls",
      ...(this.#credentials === undefined ? {} : { credentials: this.#credentials }),
      ...(rtoCache === undefined ? {} : { rtoCache }),
    });
  }

  /** When `handleTimeout()` is due. */
  get deadline(): number {
    return this.#requests.deadline;
  }

  /** Opens a socket and asks. An event follows, and only one. */
  request(io: MachineIo<BindingClientEvent>): void {
    this.#socket = io.open(this.#wish());
  }

  /** Its socket is bound. */
  handleOpened(socket: SocketId, localAddress: TransportAddress, io: MachineIo<BindingClientEvent>): void {
    if (socket !== this.#socket) return io.close(socket);
    io.emit({ type: "bound", local: localAddress });
    this.#requests.socket = socket;
    this.#ask(io);
  }

  /** There is no socket: this client has failed. */
  handleOpenFailed(
    socket: SocketId,
    failure: OpenFailure,
    io: MachineIo<BindingClientEvent>,
    detail: string,
  ): void {
    if (socket === this.#socket) io.emit({ type: "failed", error: new OpenError(failure, detail) });
  }

  /** The connection is gone before there was an answer: this client has failed. */
  handleClosed(socket: SocketId, reason: CloseReason, io: MachineIo<BindingClientEvent>): void {
    if (socket !== this.#socket || this.#requests.size === 0) return;
    this.#requests.clear();
    const { server } = this.#requests;
    const what = `Cannot ask ${server} for the mapped address: the connection ended without an answer (${reason})`;
    io.emit({ type: "failed", error: new StunConnectionError(what) });
  }

  /** Nobody is at the server's port: this client has failed. */
  handleIcmp(socket: SocketId, message: IcmpMessage, io: MachineIo<BindingClientEvent>): void {
    if (socket === this.#socket) this.#requests.handleIcmp(message, io);
  }

  /** Repeats or ends the request. */
  handleTimeout(io: MachineIo<BindingClientEvent>): void {
    this.#requests.handleTimeout(io);
  }

  /** Takes what arrived. What does not come from the server changes nothing. */
  handlePacket(packet: Packet, io: MachineIo<BindingClientEvent>): void {
    if (packet.socket !== this.#socket || packet.length === 0 || !isStunByte(packet.buffer[packet.offset]!)) return;
    if (!packet.from.equals(this.#requests.server)) return;
    const message = StunMessage.parse(packet.bytes);
    if (message?.class === "success" || message?.class === "error") this.#requests.handleResponse(message, io);
  }

  #wish(): SocketWish | StreamWish {
    const { transport = "udp", localAddress, localPort } = this.#options;
    const { server: remote } = this.#requests;
    // §10: without a name, the next server must have the same one.
    const tls = this.#domain === undefined ? this.#options.tls : { ...this.#options.tls, serverName: this.#domain };
    if (transport === "udp") {
      const address = localAddress ?? (remote.family === 4 ? "0.0.0.0" : "::");
      return { transport, address, port: localPort ?? 0, icmp: true };
    }
    return {
      transport,
      remote,
      ...(tls === undefined ? {} : { tls }),
      ...(localAddress === undefined ? {} : { address: localAddress }),
      ...(localPort === undefined ? {} : { port: localPort }),
    };
  }

  #ask(io: MachineIo<BindingClientEvent>): void {
    this.#requests.start({
      method: METHOD.BINDING,
      doing: `Cannot ask ${this.#requests.server} for the mapped address`,
      // No FINGERPRINT: RFC 8489 §7 keeps it away from servers that may be of RFC 3489.
      write() {},
      done: (outcome, io) => this.#handleOutcome(outcome, io),
    }, io);
  }

  /** RFC 8489 §10. */
  #tryAlternate({ code, reason, doing }: StunError, response: StunMessage, io: MachineIo<BindingClientEvent>): void {
    const { next, domain, fault } = this.#trail.follow(response);
    if (next === undefined) {
      const error = new StunError(code, `${reason || "Try Alternate"}: ${fault}`, doing);
      return io.emit({ type: "failed", error });
    }
    this.#requests.server = next;
    this.#domain = domain ?? this.#domain;
    this.#credentials?.forget();
    if ((this.#options.transport ?? "udp") === "udp") return this.#ask(io);
    io.close(this.#socket);
    this.#socket = io.open(this.#wish());
  }

  #handleOutcome(outcome: RequestOutcome, io: MachineIo<BindingClientEvent>): void {
    if (outcome.type === "error" && outcome.error.code === ERROR_CODE.TRY_ALTERNATE) {
      return this.#tryAlternate(outcome.error, outcome.response, io);
    }
    if (outcome.type !== "success") return io.emit({ type: "failed", error: outcome.error });
    const { response, startedAt, sends } = outcome;
    const { server } = this.#requests;
    // RFC 8489 §11: a server of RFC 3489 has only MAPPED-ADDRESS.
    const mapped = response.get(XOR_MAPPED_ADDRESS) ?? response.get(MAPPED_ADDRESS);
    if (mapped === undefined) {
      const error = new StunProtocolError(`Cannot use the answer of ${server} as it has no mapped address`);
      return io.emit({ type: "failed", error });
    }
    const software = response.get(SOFTWARE);
    const otherAddress = response.get(OTHER_ADDRESS) ?? response.get(CHANGED_ADDRESS);
    io.emit({
      type: "answered",
      answer: {
        mapped,
        server,
        rtt: io.now - startedAt,
        sends,
        ...(software === undefined ? {} : { software: printable(software) }),
        ...(otherAddress === undefined ? {} : { otherAddress }),
      },
    });
  }
}

function credentialsOf({ type, username, password }: BindingCredentials): RequestCredentials {
  return type === "short-term"
    ? new ShortTermCredentials(username, password)
    : new LongTermCredentials(username, password);
}

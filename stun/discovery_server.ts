import ipaddr from "ipaddr.js";
import type { TransportAddress } from "./address.ts";
import {
  ALTERNATE_DOMAIN,
  ALTERNATE_SERVER,
  ERROR_CODE_ATTRIBUTE,
  FINGERPRINT,
  MAPPED_ADDRESS,
  MESSAGE_INTEGRITY_SHA256,
  SOFTWARE,
  UNKNOWN_ATTRIBUTES,
  XOR_MAPPED_ADDRESS,
} from "./attributes.ts";
import type { AnswerProtection, RequestAuthenticator, RequestPath } from "./authenticator.ts";
import {
  CHANGE_REQUEST,
  CHANGED_ADDRESS,
  type ChangeRequest,
  OTHER_ADDRESS,
  PADDING,
  REFLECTED_FROM,
  RESPONSE_ORIGIN,
  RESPONSE_PORT,
  SOURCE_ADDRESS,
} from "./discovery_attributes.ts";
import { ERROR_CODE } from "./error.ts";
import type { AcceptedConnection, Machine, MachineIo, Packet, SocketId } from "./machine.ts";
import { isStunByte, MessageWriter, METHOD, StunMessage } from "./message.ts";
import { type AnswerIo, STUN_ATTRIBUTES, unmappedAddress } from "./server.ts";

// RFC 5780 §6.1 wants the MTU of the outgoing interface: nearly everywhere Ethernet's, and a multiple of four.
const MAX_PADDING = 1500;
const RESPONSE_SIZE = 256;
// The longest REALM, a NONCE, and ALTERNATE-DOMAIN.
const CHALLENGE_SIZE = 1024;
const zeros = new Uint8Array(MAX_PADDING);

// What RFC 3489 defines and RFC 8489 has dropped: ignored in a classic request. RESPONSE-ADDRESS is not among them.
const CLASSIC_PASSWORD = 0x0007;
const CLASSIC_KNOWN = [SOURCE_ADDRESS, CHANGED_ADDRESS, REFLECTED_FROM].map(({ type }) => type);
const DISCOVERY_KNOWN = [RESPONSE_PORT.type, PADDING.type];

/** How a `DiscoveryServer` answers. */
export interface DiscoveryServerOptions {
  /**
   * Whether requests without the magic cookie are answered, as RFC 3489 had them. RESPONSE-ADDRESS gets 420 even then:
   * it lets anyone turn the server on anyone. Default: no.
   */
  readonly classic?: boolean;
  /** Whether RESPONSE-PORT and PADDING are understood, and CHANGE-REQUEST on two addresses. Default: yes. */
  readonly discovery?: boolean;
  /** The text of SOFTWARE, up to 127 characters. Default: none, so that answers are short. */
  readonly software?: string;
  /** Who may ask. Default: anybody, as RFC 8489 §12 has it for a basic server. Does not go with `classic`. */
  readonly authenticator?: RequestAuthenticator;
  /** Another server, to which all who may ask are sent with a 300 (RFC 8489 §10). Default: none. */
  readonly alternate?: AlternateServer;
}

/** Where clients are sent instead (RFC 8489 §10). */
export interface AlternateServer {
  /** Its addresses, one for each IP version. Clients of a version without one are answered here. */
  readonly addresses: readonly TransportAddress[];
  /** The name in its certificate, if it has another one than this server. */
  readonly domain?: string;
}

/** What a `DiscoveryServer` has seen, in datagrams since it was made. */
export interface DiscoveryServerCounters {
  /** Binding requests. */
  requests: number;
  /** Success responses. */
  successes: number;
  /** Error responses. */
  errors: number;
  /** What was no Binding request, and got no answer. */
  dropped: number;
}

/** One of the server's sockets, and the three that it can answer from instead. */
interface Endpoint {
  readonly socket: SocketId;
  readonly address: TransportAddress;
  /** The address that clients reach it at. */
  readonly advertised: TransportAddress;
  otherIp: Endpoint | undefined;
  otherPort: Endpoint | undefined;
  otherBoth: Endpoint | undefined;
}

/** A request is refused: with this code, and these unknown attributes for 420. */
interface Refusal {
  readonly code: number;
  readonly reason: string;
  readonly unknown?: readonly number[];
  /** Where 401 and 438 are to be good. */
  readonly path?: RequestPath;
  /** Where 300 leads. */
  readonly alternates?: readonly TransportAddress[];
}

/**
 * The server side of Binding requests: RFC 8489, NAT behaviour discovery (RFC 5780) and, as an option, classic STUN
 * (RFC 3489).
 *
 * Tell it of its UDP sockets by `addSocket()`. As soon as two addresses with the same two ports are there, answers carry
 * OTHER-ADDRESS and CHANGE-REQUEST is obeyed; before that it gets a 420 (RFC 5780 §6).
 *
 * Pure, and without state for a client. On its own it is a machine; a server that understands more hands it the Binding
 * requests by `handleBinding()`.
 */
export class DiscoveryServer implements Machine {
  /** It has no timers. */
  readonly deadline: number = Infinity;
  /** What it has seen. */
  readonly counters: DiscoveryServerCounters = { requests: 0, successes: 0, errors: 0, dropped: 0 };
  /** Whether requests without the magic cookie are answered. */
  readonly classic: boolean;
  readonly #software: string;
  readonly #known: Set<number>;
  readonly #knownClassic: Set<number>;
  readonly #discovery: boolean;
  readonly #endpoints = new Map<SocketId, Endpoint>();
  /** What the connections came to. */
  readonly #connections = new Map<SocketId, TransportAddress>();
  readonly #authenticator: RequestAuthenticator | undefined;
  readonly #alternate: AlternateServer | undefined;

  /**
   * Made without sockets.
   *
   * @param options How to answer.
   * @throws {TypeError} If there is an `authenticator` with `classic`.
   */
  constructor(options: DiscoveryServerOptions = {}) {
    if (options.classic && options.authenticator !== undefined) {
      throw new TypeError("Cannot authenticate classic clients as RFC 3489 has other credentials than RFC 8489");
    }
    this.#authenticator = options.authenticator;
    this.#alternate = options.alternate;
    this.classic = options.classic ?? false;
    this.#software = options.software ?? "";
    this.#discovery = options.discovery ?? true;
    this.#known = new Set([...STUN_ATTRIBUTES, ...(this.#discovery ? DISCOVERY_KNOWN : [])]);
    this.#knownClassic = new Set([...STUN_ATTRIBUTES, ...CLASSIC_KNOWN, CLASSIC_PASSWORD]);
  }

  /** Whether some socket can answer from another address and another port. */
  get hasAlternate(): boolean {
    for (const endpoint of this.#endpoints.values()) if (endpoint.otherBoth !== undefined) return true;
    return false;
  }

  /** Whether one of its sockets is bound to this address. */
  hasSocketAt(address: TransportAddress): boolean {
    return this.#endpointAt(address) !== undefined;
  }

  /** Whether a request to this address can be answered from another address and another port. */
  hasAlternateFor(address: TransportAddress): boolean {
    return this.#endpointAt(address)?.otherBoth !== undefined;
  }

  /**
   * Takes in a UDP socket.
   *
   * @param socket Its number.
   * @param address What it is bound to. One that is bound to all addresses has no alternate and names no origin.
   * @param advertised The address that clients reach it at, if that is another one (a 1:1 NAT in front of the server).
   */
  addSocket(socket: SocketId, address: TransportAddress, advertised: TransportAddress = address): void {
    const fresh = { otherIp: undefined, otherPort: undefined, otherBoth: undefined };
    this.#endpoints.set(socket, { socket, address, advertised, ...fresh });
    this.#pair();
  }

  /** Forgets a socket. */
  removeSocket(socket: SocketId): void {
    this.#endpoints.delete(socket);
    this.#pair();
  }

  /** A client connected: its answers name the addresses that those over UDP to the same address do. */
  handleAccepted(socket: SocketId, { localAddress }: AcceptedConnection): void {
    this.#connections.set(socket, localAddress);
  }

  /** A client's connection is gone. */
  handleClosed(socket: SocketId): void {
    this.#connections.delete(socket);
  }

  /** Never called: there is nothing to wait for. */
  handleTimeout(): void {}

  /** Answers a Binding request and drops everything else. */
  handlePacket(packet: Packet, io: MachineIo): void {
    const message = isStunByte(packet.buffer[packet.offset]!)
      ? StunMessage.parse(packet.bytes, { classic: this.classic })
      : undefined;
    if (message === undefined || message.method !== METHOD.BINDING || message.class !== "request") {
      this.counters.dropped++;
      return;
    }
    this.handleBinding(message, packet, io);
  }

  /**
   * Answers a Binding request that somebody else has parsed.
   *
   * @param request The request. One with a wrong FINGERPRINT is dropped, as is one without the magic cookie unless
   * `classic` is on.
   * @param packet What it came in. If `addSocket()` does not know its socket, it is a connection, which is the only way
   * for the answer: CHANGE-REQUEST gets 420 there.
   * @param io Where to send the answer.
   * @param local What the connection came to. Default: as `handleAccepted()` was told.
   * @returns The error code that was sent; 0 for success; `undefined` if the request was dropped.
   */
  handleBinding(
    request: StunMessage,
    packet: Packet,
    io: AnswerIo & Pick<MachineIo, "now">,
    local?: TransportAddress,
  ): number | undefined {
    const isForged = request.has(FINGERPRINT) && !request.verifyFingerprint();
    if (isForged || packet.from.port === 0 || (!request.hasCookie && !this.classic)) {
      this.counters.dropped++;
      return undefined;
    }
    this.counters.requests++;
    const arrived = this.#endpoints.get(packet.socket);
    const at = arrived ?? this.#endpointAt(local ?? this.#connections.get(packet.socket));
    const path = { client: packet.from, server: at?.address ?? packet.from };
    const access = this.#authenticator?.authenticate(request, path, io.now);
    // RFC 8489 §6.3: what is unknown is complained of only to those who may ask.
    const refusal = access?.isAuthentic === false
      ? { code: access.code, reason: "", path }
      : this.#refuse(request, arrived) ?? this.#redirect(packet.from);
    if (refusal !== undefined) {
      this.counters.errors++;
      io.send(packet.socket, packet.from, this.#error(request, refusal, access?.protection, io));
      return refusal.code;
    }
    this.counters.successes++;
    const origin = arrived === undefined ? at : originOf(arrived, request.get(CHANGE_REQUEST));
    const socket = arrived === undefined ? packet.socket : origin!.socket;
    const responsePort = this.#discovery && request.hasCookie ? request.get(RESPONSE_PORT) : undefined;
    const to = responsePort === undefined ? packet.from : packet.from.withPort(responsePort);
    const how = { at, origin, protection: access?.protection };
    io.send(socket, to, this.#success(request, packet.from, how, io));
    return 0;
  }

  #endpointAt(address: TransportAddress | undefined): Endpoint | undefined {
    if (address === undefined) return undefined;
    for (const endpoint of this.#endpoints.values()) if (endpoint.address.equals(address)) return endpoint;
    return undefined;
  }

  #refuse(request: StunMessage, arrived: Endpoint | undefined): Refusal | undefined {
    const unknown = request.unknownRequired(request.hasCookie ? this.#known : this.#knownClassic)
      .filter((type) => type !== CHANGE_REQUEST.type || !this.#isUnderstood(request, arrived));
    if (unknown.length > 0) return { code: ERROR_CODE.UNKNOWN_ATTRIBUTE, reason: "Unknown Attribute", unknown };
    if (request.has(CHANGE_REQUEST) && request.get(CHANGE_REQUEST) === undefined) return bad("CHANGE-REQUEST");
    if (!request.hasCookie || !this.#discovery || !request.has(RESPONSE_PORT)) return undefined;
    // RFC 5780 §6.1, §10: both together would be an attack on the port that is named.
    if (request.has(PADDING)) return bad("RESPONSE-PORT with PADDING");
    return (request.get(RESPONSE_PORT) ?? 0) === 0 ? bad("RESPONSE-PORT") : undefined;
  }

  /** RFC 8489 §10: first the alternate of the client's IP version, which must be there, then the other. */
  #redirect(client: TransportAddress): Refusal | undefined {
    const { family } = unmappedAddress(client);
    const same = this.#alternate?.addresses.find((address) => address.family === family);
    if (same === undefined) return undefined;
    const other = this.#alternate!.addresses.find((address) => address.family !== family);
    return {
      code: ERROR_CODE.TRY_ALTERNATE,
      reason: "Try Alternate",
      alternates: other === undefined ? [same] : [same, other],
    };
  }

  /** Whether the request's CHANGE-REQUEST can be obeyed (RFC 5780 §6.1); a classic one that asks for no change always. */
  #isUnderstood(request: StunMessage, arrived: Endpoint | undefined): boolean {
    if (this.#discovery && arrived?.otherBoth !== undefined) return true;
    const change = request.get(CHANGE_REQUEST);
    return !request.hasCookie && change !== undefined && !change.changeIp && !change.changePort;
  }

  #success(
    request: StunMessage,
    from: TransportAddress,
    { at, origin, protection }: {
      readonly at: Endpoint | undefined;
      readonly origin: Endpoint | undefined;
      readonly protection: AnswerProtection | undefined;
    },
    io: AnswerIo,
  ): Uint8Array {
    const mapped = unmappedAddress(from);
    const padding = this.#discovery && request.hasCookie ? request.get(PADDING)?.length : undefined;
    const writer = new MessageWriter(io.scratch(this.#answerSize + (padding === undefined ? 0 : MAX_PADDING)));
    writer.beginResponse(request, "success");
    const other = this.#discovery ? at?.otherBoth?.advertised : undefined;
    if (!request.hasCookie) {
      writer.add(MAPPED_ADDRESS, mapped);
      if (origin !== undefined && !isUnspecified(origin)) writer.add(SOURCE_ADDRESS, origin.advertised);
      return (other === undefined ? writer : writer.add(CHANGED_ADDRESS, other)).finish();
    }
    writer.add(XOR_MAPPED_ADDRESS, mapped).add(MAPPED_ADDRESS, mapped);
    if (origin !== undefined && !isUnspecified(origin)) writer.add(RESPONSE_ORIGIN, origin.advertised);
    if (other !== undefined) writer.add(OTHER_ADDRESS, other);
    // Never more than was received: RFC 5780 §6.1 only asks for the MTU, and a short request must not make a long answer.
    if (padding !== undefined) writer.add(PADDING, zeros.subarray(0, Math.min(padding, MAX_PADDING)));
    return this.#seal(request, writer, protection);
  }

  #error(
    request: StunMessage,
    { code, reason, unknown, path, alternates = [] }: Refusal,
    protection: AnswerProtection | undefined,
    io: AnswerIo & Pick<MachineIo, "now">,
  ): Uint8Array {
    // RFC 3489 §11.2.9 and §11.2.10 know no padding: the text gets spaces, and an odd list repeats one.
    const text = request.hasCookie ? reason : reason.padEnd((reason.length + 3) & ~3);
    // As many as fit into a small answer: what an attacker can make us send stays below what was received.
    const listed = unknown?.slice(0, 16);
    const writer = new MessageWriter(io.scratch(this.#answerSize));
    writer.beginResponse(request, "error").add(ERROR_CODE_ATTRIBUTE, { code, reason: text });
    if (listed !== undefined) {
      if (!request.hasCookie && (listed.length & 1) === 1) listed.push(listed[0]!);
      writer.add(UNKNOWN_ATTRIBUTES, listed);
    }
    if (path !== undefined && code !== ERROR_CODE.BAD_REQUEST) {
      this.#authenticator!.writeChallenge?.(writer, path, io.now);
    }
    for (const address of alternates) writer.add(ALTERNATE_SERVER, address);
    // §10: only such a client knows what it is. It matters over TLS alone, but does no harm otherwise.
    const domain = alternates.length > 0 && request.has(MESSAGE_INTEGRITY_SHA256) ? this.#alternate!.domain : undefined;
    if (domain !== undefined) writer.add(ALTERNATE_DOMAIN, domain);
    return this.#seal(request, writer, protection);
  }

  get #answerSize(): number {
    const isShort = this.#authenticator === undefined && this.#alternate === undefined;
    return RESPONSE_SIZE + 3 * this.#software.length + (isShort ? 0 : CHALLENGE_SIZE);
  }

  #seal(request: StunMessage, writer: MessageWriter, protection: AnswerProtection | undefined): Uint8Array {
    if (this.#software !== "" && request.hasCookie) writer.add(SOFTWARE, this.#software);
    if (protection !== undefined) writer.addIntegrity(protection.key, protection.hash);
    if (request.has(FINGERPRINT)) writer.addFingerprint();
    return writer.finish();
  }

  /** Finds for each socket two others: one on another address, one on another port, such that the fourth is there too. */
  #pair(): void {
    const all = [...this.#endpoints.values()];
    const at = new Map(all.filter((one) => !isUnspecified(one)).map((one) => [one.address.key, one]));
    for (const one of all) {
      one.otherIp = one.otherPort = one.otherBoth = undefined;
      for (const both of at.values()) {
        const { address } = both;
        if (address.port === one.address.port || scopeOf(both.advertised) !== scopeOf(one.advertised)) continue;
        const otherIp = at.get(address.withPort(one.address.port).key);
        const otherPort = at.get(one.address.withPort(address.port).key);
        if (otherIp === undefined || otherPort === undefined || otherIp === one || !at.has(one.address.key)) continue;
        one.otherIp = otherIp;
        one.otherPort = otherPort;
        one.otherBoth = both;
        break;
      }
    }
  }
}

/** RFC 5780 §6.1, table 1. */
function originOf(arrived: Endpoint, change: ChangeRequest | undefined): Endpoint {
  const { changeIp = false, changePort = false } = change ?? {};
  if (!changeIp && !changePort) return arrived;
  return (changeIp && changePort ? arrived.otherBoth : changeIp ? arrived.otherIp : arrived.otherPort) ?? arrived;
}

/**
 * From where an address can be reached, with its family, as `"4 loopback"`, `"4 private"` or `"6 unicast"`: two that differ
 * are no alternates of each other, as whoever reaches one need not reach the other.
 */
export function scopeOf({ family, bytes }: TransportAddress): string {
  return `${family} ${ipaddr.fromByteArray([...bytes]).range()}`;
}

function bad(what: string): Refusal {
  return { code: ERROR_CODE.BAD_REQUEST, reason: `Bad ${what}` };
}

function isUnspecified({ address }: { readonly address: TransportAddress }): boolean {
  return address.bytes.every((byte) => byte === 0);
}

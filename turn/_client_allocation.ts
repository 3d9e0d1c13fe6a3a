import type { AddressFamily, TransportAddress } from "../stun/address.ts";
import type { Attribute } from "../stun/attribute.ts";
import { SOFTWARE, UNKNOWN_ATTRIBUTES, XOR_MAPPED_ADDRESS } from "../stun/attributes.ts";
import { ERROR_CODE } from "../stun/error.ts";
import type { MessageWriter, StunMessage } from "../stun/message.ts";
import { printable } from "../stun/requests.ts";
import { DEFAULT_LIFETIME } from "./_client_lifetime.ts";
import {
  ADDITIONAL_ADDRESS_FAMILY,
  ADDRESS_ERROR_CODE,
  type AddressError,
  DONT_FRAGMENT,
  EVEN_PORT,
  LIFETIME,
  MOBILITY_TICKET,
  REQUESTED_ADDRESS_FAMILY,
  REQUESTED_TRANSPORT,
  RESERVATION_TOKEN,
  TRANSPORT_PROTOCOL,
  XOR_RELAYED_ADDRESS,
} from "./attributes.ts";
import type { TurnClientOptions } from "./client_options.ts";

// The numbers from before IANA gave them others, under which servers in use know the two. The rest ignores them.
const FORMER_ADDITIONAL_ADDRESS_FAMILY: Attribute<AddressFamily> = { ...ADDITIONAL_ADDRESS_FAMILY, type: 0x8032 };
const FORMER_ADDRESS_ERROR_CODE: Attribute<AddressError> = { ...ADDRESS_ERROR_CODE, type: 0x8033 };

/** What a server granted. */
export interface Grant {
  /** At least one, and at most one of each IP version; IPv4 first. */
  readonly relayedAddresses: readonly TransportAddress[];
  readonly mapped: TransportAddress;
  /** In seconds. */
  readonly lifetime: number;
  readonly software: string | undefined;
  readonly reservationToken: Uint8Array | undefined;
  /** Why one of two IP versions is missing. */
  readonly addressError: AddressError | undefined;
  /** What takes the allocation to another socket, if the server does that. */
  readonly ticket: Uint8Array | undefined;
}

/** What a client asks for in an Allocate request, less what a server did not understand, and what it makes of the answer. */
export class AllocationWish {
  readonly #options: TurnClientOptions;
  /** What is still asked for. */
  #family: AddressFamily | undefined;
  #isDual: boolean;
  #dontFragment: boolean;
  #mobility: boolean;

  /**
   * What the options say.
   *
   * @throws {RangeError} If a value cannot be written.
   * @throws {TypeError} If two of them exclude each other (RFC 8656 §7.1).
   */
  constructor(options: TurnClientOptions) {
    const { requestedFamily, dontFragment = false, mobility = false } = options;
    checkOptions(options);
    this.#options = options;
    this.#isDual = requestedFamily === "dual";
    this.#family = requestedFamily === "dual" ? undefined : requestedFamily;
    this.#dontFragment = dontFragment;
    this.#mobility = mobility;
  }

  /** Whether DONT-FRAGMENT is asked for, and was not refused. */
  get dontFragment(): boolean {
    return this.#dontFragment;
  }

  /** RFC 8656 §7.1. */
  write(writer: MessageWriter): void {
    const { evenPort, reservationToken, peerTransport } = this.#options;
    writer.add(REQUESTED_TRANSPORT, peerTransport === "tcp" ? TRANSPORT_PROTOCOL.TCP : TRANSPORT_PROTOCOL.UDP);
    if (this.#family !== undefined) writer.add(REQUESTED_ADDRESS_FAMILY, this.#family);
    if (this.#isDual) writer.add(ADDITIONAL_ADDRESS_FAMILY, 6).add(FORMER_ADDITIONAL_ADDRESS_FAMILY, 6);
    if (this.#dontFragment) writer.add(DONT_FRAGMENT, true);
    if (evenPort !== undefined) writer.add(EVEN_PORT, evenPort === "pair");
    if (reservationToken !== undefined) writer.add(RESERVATION_TOKEN, reservationToken);
    // RFC 8016 §3.1.1: an empty one asks for a ticket.
    if (this.#mobility) writer.add(MOBILITY_TICKET, new Uint8Array());
    this.writeCommon(writer);
  }

  /** What an Allocate and a Refresh request have both. */
  writeCommon(writer: MessageWriter): void {
    const { lifetime, software = "natkit" } = this.#options;
    if (lifetime !== undefined) writer.add(LIFETIME, lifetime);
    if (software !== "") writer.add(SOFTWARE, software);
  }

  /** Whether the server may be asked once more, without what it does not know and the client can do without. */
  isWorthAnotherTry(code: number, response: StunMessage): boolean {
    if (code === ERROR_CODE.MOBILITY_FORBIDDEN && this.#mobility) {
      // RFC 8016 §3.1.3: it allocates, but not for clients that move.
      this.#mobility = false;
      return true;
    }
    if (code !== ERROR_CODE.UNKNOWN_ATTRIBUTE) return false;
    const unknown = new Set(response.get(UNKNOWN_ATTRIBUTES));
    const before = [this.#dontFragment, this.#isDual, this.#family];
    if (unknown.has(DONT_FRAGMENT.type)) this.#dontFragment = false;
    // It is optional to know, but who knows.
    if (unknown.has(ADDITIONAL_ADDRESS_FAMILY.type)) this.#isDual = false;
    // A server from before RFC 6156: IPv4 is all that it has.
    if (this.#family === 4 && unknown.has(REQUESTED_ADDRESS_FAMILY.type)) this.#family = undefined;
    return [this.#dontFragment, this.#isDual, this.#family].some((now, i) => now !== before[i]);
  }

  /** RFC 8656 §7.3. Gives what was granted, or what is wrong with it. */
  read(response: StunMessage): Grant | string {
    const found = response.getAll(XOR_RELAYED_ADDRESS).filter((one) => one !== undefined);
    const relayedAddresses = ([4, 6] as const).flatMap((family) => {
      return found.find((one) => one.family === family) ?? [];
    });
    const [relayed] = relayedAddresses;
    const mapped = response.get(XOR_MAPPED_ADDRESS);
    const lifetime = response.get(LIFETIME) ?? DEFAULT_LIFETIME;
    const { requestedFamily } = this.#options;
    if (relayed === undefined || mapped === undefined) return "it does not name the relayed and the mapped address";
    if (lifetime === 0) return "its lifetime is 0";
    if (typeof requestedFamily === "number" && relayed.family !== requestedFamily) {
      return `the relayed address is IPv${relayed.family}`;
    }
    const software = response.get(SOFTWARE);
    return {
      relayedAddresses,
      mapped,
      lifetime,
      software: software === undefined ? undefined : printable(software),
      reservationToken: response.get(RESERVATION_TOKEN)?.slice(),
      addressError: response.get(ADDRESS_ERROR_CODE) ?? response.get(FORMER_ADDRESS_ERROR_CODE),
      ticket: this.#mobility ? ticketOf(response) : undefined,
    };
  }
}

/** The ticket of a response; `undefined` if there is none, or an empty one. */
function ticketOf(response: StunMessage): Uint8Array | undefined {
  const ticket = response.get(MOBILITY_TICKET);
  return ticket === undefined || ticket.length === 0 ? undefined : ticket.slice();
}

function checkOptions(options: TurnClientOptions): void {
  const { lifetime = 0, software = "", requestedFamily, evenPort, reservationToken } = options;
  if (!Number.isInteger(lifetime) || lifetime < 0 || lifetime > 0xffffffff) {
    throw new RangeError(`Cannot use lifetime as it must be in 0 to 2^32-1 seconds: current value is ${lifetime}`);
  }
  if ([...software].length > 127) throw new RangeError("Cannot use software with over 127 characters");
  if (reservationToken !== undefined) {
    if (reservationToken.length !== 8) {
      throw new RangeError(
        `Cannot use reservationToken as it must have 8 bytes: current length is ${reservationToken.length}`,
      );
    }
    if (evenPort !== undefined || requestedFamily !== undefined) {
      throw new TypeError("Cannot use reservationToken with evenPort or an IP version: the port is chosen already");
    }
  }
  if (options.peerTransport === "tcp") {
    if ((options.transport ?? "udp") === "udp") {
      throw new TypeError("Cannot use peerTransport tcp over UDP: the server must be talked to over TCP or TLS");
    }
    // RFC 6062 §5.1.
    if (evenPort !== undefined || reservationToken !== undefined || options.dontFragment === true) {
      throw new TypeError("Cannot use evenPort, reservationToken or dontFragment with peerTransport tcp");
    }
  }
  if (requestedFamily === "dual" && evenPort === "pair") {
    throw new TypeError("Cannot reserve a pair of ports on two addresses at once");
  }
}

import { IntegrityKey } from "../stun/integrity.ts";
import type { Random } from "../stun/machine.ts";
import { randomBytes, randomIceChars } from "../stun/random.ts";
import type { IceParameters } from "./sdp.ts";

/** 48 bits; RFC 8445 §5.3 asks for 24 at least. */
const UFRAG_LENGTH = 8;
/** 144 bits; RFC 8445 §5.3 asks for 128 at least. */
const PWD_LENGTH = 24;

/** The short-term credentials of one ICE session, both sides (RFC 8445 §7.2.2). A restart makes new ones. */
export class IceCredentials {
  /** Our username fragment. */
  readonly ufrag: string;
  /** Our password. Secret. */
  readonly pwd: string;
  /** The key of requests to us and of our answers. */
  readonly localKey: IntegrityKey;
  /** The peer's username fragment; `undefined` before it is known. */
  remoteUfrag: string | undefined;
  /** The key of our requests and of the answers to them; `undefined` before it is known. */
  remoteKey: IntegrityKey | undefined;

  /**
   * Credentials for one generation of a session.
   *
   * @param random Makes what is not given.
   * @param given Credentials that were chosen elsewhere.
   */
  constructor(random: Random, given: { readonly ufrag?: string; readonly pwd?: string } = {}) {
    this.ufrag = given.ufrag ?? randomIceChars(random, UFRAG_LENGTH);
    this.pwd = given.pwd ?? randomIceChars(random, PWD_LENGTH);
    if (!/^[A-Za-z0-9+/]{4,32}$/.test(this.ufrag)) {
      throw new RangeError(`Cannot use ufrag as it must have 4 to 32 letters, digits, "+" or "/": "${this.ufrag}"`);
    }
    if (!/^[A-Za-z0-9+/]{22,256}$/.test(this.pwd)) {
      throw new RangeError(
        `Cannot use pwd as it must have 22 to 256 letters, digits, "+" or "/": current length is ${this.pwd.length}`,
      );
    }
    this.localKey = IntegrityKey.shortTerm(this.pwd);
  }

  /** Takes in the peer's. */
  setRemote({ ufrag, pwd }: IceParameters): void {
    this.remoteUfrag = ufrag;
    this.remoteKey = IntegrityKey.shortTerm(pwd);
  }

  /** The USERNAME of our requests: the peer's fragment first. */
  get username(): string {
    return `${this.remoteUfrag}:${this.ufrag}`;
  }
}

/** A tie-breaker for conflicts of roles: 64 random bits (RFC 8445 §7.1.3). */
export function randomTieBreaker(random: Random): bigint {
  let value = 0n;
  for (const byte of randomBytes(random, 8)) value = (value << 8n) | BigInt(byte);
  return value;
}

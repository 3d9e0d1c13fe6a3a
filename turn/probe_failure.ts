import type { AddressFamily, TransportAddress } from "../stun/address.ts";
import { StunChallengeError } from "../stun/credentials.ts";
import {
  ERROR_CODE,
  StunConnectionError,
  StunError,
  StunIntegrityError,
  StunProtocolError,
  StunTimeoutError,
} from "../stun/error.ts";
import type { OpenFailure } from "../stun/machine.ts";
import type { ServerTransport } from "../stun/locate.ts";
import { OpenError } from "../stun/net/transport.ts";
import { TurnError } from "./error.ts";
import type { TurnFailure, TurnFailureKind } from "./probe_report.ts";

/** What is known about an attempt to get a relay, besides its error. */
export interface Attempt {
  readonly transport: ServerTransport;
  readonly server: TransportAddress;
  /** The IP version of the relayed address that was asked for. */
  readonly relayFamily: AddressFamily;
  /** The name that a certificate must be for. */
  readonly serverName: string;
  readonly username: string | undefined;
  /** The `kid` of the access token, if there is one in place of the user name. */
  readonly kid?: string | undefined;
  /** The realm that the caller expects. */
  readonly expectedRealm: string | undefined;
  /** Whether the server answered a Binding request. */
  readonly isStun: boolean;
  /** When the user name ceased to be good, if it says so itself and has. */
  readonly expiredAt: string | undefined;
}

type Words = { readonly kind: TurnFailureKind; readonly text: string };

/** Why an attempt failed, in words that lead on. */
export function explainFailure(error: unknown, attempt: Attempt): TurnFailure {
  const code = error instanceof StunError ? error.code : null;
  return { ...words(error, attempt), code };
}

/** `UDP 192.0.2.1:3478`. */
export function placeName({ transport, server }: Pick<Attempt, "transport" | "server">): string {
  return `${transport.toUpperCase()} ${server}`;
}

function words(error: unknown, attempt: Attempt): Words {
  const text = error instanceof Error ? error.message : String(error);
  if (error instanceof OpenError) return openWords(error.failure, text, attempt);
  if (error instanceof StunTimeoutError) return silenceWords(attempt);
  if (error instanceof StunError) return codeWords(error, attempt);
  if (error instanceof StunIntegrityError) return integrityWords(error, attempt);
  if (error instanceof StunConnectionError) return connectionWords(attempt);
  return {
    kind: error instanceof StunChallengeError || error instanceof StunProtocolError ? "malformed" : "local",
    text,
  };
}

/** It answers, but not with what can be trusted. */
function integrityWords(error: StunIntegrityError, attempt: Attempt): Words {
  if (error.isSigned) {
    return {
      kind: "wrong-credentials",
      text:
        `User name "${attempt.username}" or its password is wrong: the server's answers are not signed with it, unless ` +
        `somebody changes them on their way (${error.message})`,
    };
  }
  // Not even asked who is there.
  return attempt.isStun ? silenceWords(attempt) : { kind: "not-authentic", text: error.message };
}

function openWords(failure: OpenFailure, text: string, attempt: Attempt): Words {
  const place = placeName(attempt);
  switch (failure) {
    case "refused":
      return { kind: "closed", text: `${place} is closed: nothing listens there, or a firewall refuses it` };
    case "timeout":
      return silenceWords(attempt);
    case "unreachable":
      return { kind: "local", text: `${place} cannot be reached: there is no way there from here` };
    case "certificate":
      // What is no TLS at all can look like this too.
      if (!/certificate/i.test(text)) break;
      return {
        kind: "certificate",
        text: `The certificate of ${place} is not good for "${attempt.serverName}": ${certificateFault(text)}`,
      };
  }
  return attempt.transport === "tls" || attempt.transport === "dtls"
    ? { kind: "tls", text: `${text}: is that a port for ${attempt.transport.toUpperCase()}?` }
    : { kind: "local", text };
}

/** What is wrong with a certificate, by what the error says. */
function certificateFault(text: string): string {
  if (/has expired/.test(text)) return "it has expired";
  if (/not valid yet/.test(text)) return "it is not valid yet";
  if (/for another name/.test(text)) return "it is for another name";
  if (/vouches/.test(text)) return "nobody who is trusted here vouches for it";
  return text.replace(/^.*: /, "");
}

/** It takes connections, and ends them. */
function connectionWords(attempt: Attempt): Words {
  const place = placeName(attempt);
  if (!attempt.isStun) {
    return {
      kind: "not-stun",
      text: `${place} takes connections, but does not speak STUN: something else listens there`,
    };
  }
  return {
    kind: "not-turn",
    text: `${place} answers STUN, but ends the connection at an Allocate request: is TURN switched on there?`,
  };
}

function silenceWords(attempt: Attempt): Words {
  const place = placeName(attempt);
  if (attempt.isStun) {
    return {
      kind: "not-turn",
      text: `${place} is a STUN server, but takes no Allocate requests: is TURN switched on there?`,
    };
  }
  const { transport, server: { port } } = attempt;
  const protocol = transport === "udp" || transport === "dtls" ? "UDP" : "TCP";
  return {
    kind: "silent",
    text: `Nothing answers on ${place}: is the server running, and do firewalls let ${protocol} port ${port} through?`,
  };
}

function codeWords(error: StunError, attempt: Attempt): Words {
  const place = placeName(attempt);
  const who = attempt.kid === undefined ? `user "${attempt.username}"` : "this access token";
  switch (error.code) {
    case ERROR_CODE.UNAUTHENTICATED:
      return credentialWords(error, attempt);
    case ERROR_CODE.FORBIDDEN:
      return { kind: "forbidden", text: `The server does not let ${who} allocate (403): its rules forbid it` };
    case ERROR_CODE.ALLOCATION_QUOTA_REACHED:
      return {
        kind: "quota",
        text: `The quota of ${who} is reached (486): close other relays, wait some minutes until forgotten ones have ` +
          `expired, or raise the quota`,
      };
    case ERROR_CODE.INSUFFICIENT_CAPACITY:
      return {
        kind: "capacity",
        text: "The server has nothing left to give (508): all relay ports or its whole capacity are in use",
      };
    case ERROR_CODE.ADDRESS_FAMILY_NOT_SUPPORTED:
      return { kind: "family", text: `The server has no IPv${attempt.relayFamily} addresses to relay by (440)` };
    case ERROR_CODE.TRY_ALTERNATE:
      return { kind: "redirected", text: error.message };
    case ERROR_CODE.BAD_REQUEST:
      if (!(error instanceof TurnError) || error.realm !== undefined || !attempt.isStun) break;
      // Not even asked who is there.
      return {
        kind: "not-turn",
        text: `${place} is a STUN server, but takes Allocate for a mistake (400): is TURN switched on there?`,
      };
  }
  return { kind: "refused", text: error.message };
}

function credentialWords(error: StunError, { username, kid, expectedRealm, expiredAt }: Attempt): Words {
  const realm = error instanceof TurnError ? error.realm : undefined;
  const where = `the realm "${realm ?? "?"}"`;
  if (kid !== undefined) {
    return {
      kind: "wrong-credentials",
      text: `The server does not take this access token (401): it must know the key "${kid}", the token must be for ` +
        `this server's name, and not have ended; and the clocks must agree`,
    };
  }
  if (username === undefined) {
    return { kind: "no-credentials", text: `The server wants user name and password for ${where} (401)` };
  }
  if (expectedRealm !== undefined && realm !== undefined && realm !== expectedRealm) {
    return {
      kind: "wrong-realm",
      text:
        `The server's realm is "${realm}" and not "${expectedRealm}", and it refuses user "${username}" (401): keys ` +
        `that were made for one realm do not fit another`,
    };
  }
  if (expiredAt !== undefined) {
    return {
      kind: "expired-credentials",
      text: `User name "${username}" was good until ${expiredAt} (401): get a new one`,
    };
  }
  return {
    kind: "wrong-credentials",
    text: `User name "${username}" or its password is wrong in ${where} (401); keys that a server stores in place of ` +
      `passwords must have been made for that realm`,
  };
}

/** When a time-limited user name, `SECONDS:NAME`, ceases to be good: seconds since 1970. */
export function credentialEnd(username: string): number | undefined {
  const match = /^(\d{9,11})(:|$)/.exec(username);
  return match === null ? undefined : Number(match[1]);
}

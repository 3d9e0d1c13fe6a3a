import type { AccessToken } from "../stun/access_token.ts";
import type { ServerTransport } from "../stun/locate.ts";
import type { TlsClientOptions } from "../stun/machine.ts";
import type { Host } from "../stun/net/transport.ts";

/** How `probeTurn()` goes about it. */
export interface ProbeTurnOptions {
  /** The server: `turn:HOST[:PORT]`, or `turns:` for TLS, with `?transport=udp` for DTLS. */
  readonly server: string;
  /** The user name. */
  readonly username?: string;
  /** The password. */
  readonly password?: string;
  /** An access token of an authorization server (RFC 7635), in place of user name and password. */
  readonly accessToken?: AccessToken;
  /** The realm that the server should have. Default: any. */
  readonly realm?: string;
  /** What to try. Default: what the URI says, and all three if it leaves that open. */
  readonly transports?: readonly ServerTransport[];
  /** How to use TLS or DTLS. Default: for the host in the URI, trusting the usual authorities. */
  readonly tls?: TlsClientOptions;
  /** The local IP address to ask from; only server addresses of its IP version are tried then. Default: any. */
  readonly localAddress?: string;
  /** Datagrams that are sent through the relay on each path. Default: 100. */
  readonly count?: number;
  /** Bytes of each, 8 to 65,000. Default: 200. */
  readonly size?: number;
  /** How many a second. Default: 100. */
  readonly rate?: number;
  /** For how many ms the server is waited for in each step. Default: 5000. */
  readonly timeout?: number;
  /** Is told what is being done, in a few words. */
  readonly onProgress?: (doing: string) => void;
  /** Ends it early: the promise is rejected with the signal's reason. */
  readonly signal?: AbortSignal;
  /** The computer to ask from. Default: `denoHost()`. */
  readonly host?: Host;
}

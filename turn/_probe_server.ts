// Shell of probeTurn(): what it gets from the server, one way or another.
import type { AccessToken } from "../stun/access_token.ts";
import { type BindingResult, requestBinding } from "../stun/request.ts";
import type { ServerEndpoint } from "../stun/resolve.ts";
import type { RetransmitOptions } from "../stun/transaction.ts";
import type { RelayWishes } from "./_probe_features.ts";
import { patiently, type ProbeScope, Tap } from "./_probe_relay.ts";
import { allocate, allocateTcp } from "./allocate.ts";
import type { ProbeTurnOptions } from "./probe_options.ts";

/** Repetitions as usual, all of them within this time. */
function within(ti: number): RetransmitOptions {
  const rto = Math.min(500, ti / 2);
  // The n-th leaves at (2^(n-1) - 1) RTO.
  const rc = Math.floor(Math.log2(ti / rto)) + 1;
  return { rto, rc, rm: ti / rto - (2 ** (rc - 1) - 1), ti };
}

/** The server, as the user that probes it sees it. Gives back the relays that were got there when it is disposed of. */
export class ProbedServer implements AsyncDisposable {
  #options: ProbeTurnOptions;
  #scope: ProbeScope;
  #taps = new AsyncDisposableStack();

  constructor(options: ProbeTurnOptions, scope: ProbeScope) {
    this.#options = options;
    this.#scope = scope;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#taps.disposeAsync();
  }

  /** Sends a Binding request. */
  async bind(endpoint: ServerEndpoint): Promise<BindingResult> {
    const { host } = this.#scope;
    return await patiently(this.#scope, (signal) => {
      return requestBinding({ ...this.#endpointOptions(endpoint), host, signal });
    });
  }

  /** Gets a relay. Gives it, and the ms that it took. */
  async allocate(endpoint: ServerEndpoint, wishes: RelayWishes = {}): Promise<{ tap: Tap; setup: number }> {
    const { host } = this.#scope;
    const start = host.now();
    const options = { ...this.#endpointOptions(endpoint), ...this.#credentials(), ...wishes };
    const retransmit = within(this.#scope.timeout);
    // The client gives up by itself, and knows best why; challenges and redirections give it time anew.
    const scope = { ...this.#scope, timeout: 2 * this.#scope.timeout };
    const relay = await patiently(scope, (signal) => allocate({ ...options, retransmit, host, signal }));
    return { tap: this.#taps.use(new Tap(relay)), setup: host.now() - start };
  }

  /** Gets one for connections, to be given back by who asks for it. */
  async allocateTcp(endpoint: ServerEndpoint): Promise<AsyncDisposable> {
    const { transport, ...others } = this.#endpointOptions(endpoint);
    const { host } = this.#scope;
    return await patiently(this.#scope, (signal) => {
      const stream = transport === "tls" ? "tls" : "tcp";
      return allocateTcp({ ...others, transport: stream, ...this.#credentials(), host, signal });
    });
  }

  #credentials(): { username?: string; password?: string; accessToken?: AccessToken } {
    const { username, password, accessToken } = this.#options;
    if (accessToken !== undefined) return { accessToken };
    return username !== undefined && password !== undefined ? { username, password } : {};
  }

  #endpointOptions({ address, transport, serverName }: ServerEndpoint) {
    const { localAddress, tls } = this.#options;
    return {
      server: address,
      transport,
      // One protocol name for both, as there may be servers that only take this one.
      tls: { serverName, alpn: ["stun.turn"], ...tls },
      ...localAddress !== undefined && { localAddress },
    };
  }
}

import type { AccessToken } from "../stun/access_token.ts";
import type { TransportAddress } from "../stun/address.ts";
import { XOR_MAPPED_ADDRESS } from "../stun/attributes.ts";
import type { LongTermCredentials } from "../stun/credentials.ts";
import { ERROR_CODE, StunConnectionError, StunError } from "../stun/error.ts";
import type { CloseReason, MachineIo, OpenFailure, SocketId } from "../stun/machine.ts";
import { METHOD } from "../stun/message.ts";
import { OpenError } from "../stun/net/transport.ts";
import { ClientRequests, type RequestOutcome } from "../stun/requests.ts";
import type { RetransmitOptions } from "../stun/transaction.ts";
import { ClientAllocating } from "./_client_allocating.ts";
import { AllocationWish, type Grant } from "./_client_allocation.ts";
import { TURN_ATTRIBUTES_WITH_DF } from "./_known_attributes.ts";
import { ClientConnections } from "./_client_connections.ts";
import { credentialsOf } from "./_client_credentials.ts";
import { ClientLifetime, DEFAULT_LIFETIME } from "./_client_lifetime.ts";
import { ClientMigration, dataForNobody, type MigrateOptions } from "./_client_migration.ts";
import { ClientPeers } from "./_client_peers.ts";
import { isReliable, isStream, type SocketPlace, socketWish } from "./_client_socket.ts";
import { LIFETIME } from "./attributes.ts";
import { TURN_CLIENT_TRANSITIONS, type TurnClientEvent, type TurnClientState } from "./client_events.ts";
import type { TurnClientOptions } from "./client_options.ts";
import type { TurnClientStats } from "./client_stats.ts";

/** Giving an allocation back is a courtesy: it ends by itself. So this is quick: at 0 and 500 ms, over after 1500 ms. */
const RELEASE: RetransmitOptions = { rto: 500, rc: 2, rm: 2, ti: 1500 };

type Io = MachineIo<TurnClientEvent>;
type Success = Extract<RequestOutcome, { type: "success" }>;

/** The life of a TURN client's allocation: its states, its socket, what was granted, and the parts that see to the rest. */
export class ClientLife {
  readonly requests: ClientRequests<TurnClientEvent>;
  readonly peers: ClientPeers;
  readonly migration: ClientMigration;
  readonly connections: ClientConnections;
  state: TurnClientState = "new";
  /** Where the allocation is; -1 before there is a socket. */
  socket: SocketId = -1;
  localAddress: TransportAddress | undefined;
  grant: Grant | undefined;
  readonly #options: TurnClientOptions;
  readonly #credentials: LongTermCredentials | undefined;
  readonly #wish: AllocationWish;
  readonly #allocating: ClientAllocating;
  readonly #lifetime: ClientLifetime;

  constructor(options: TurnClientOptions, stats: TurnClientStats) {
    const { server, retransmit, rtoCache } = options;
    this.#wish = new AllocationWish(options);
    this.#options = options;
    this.#credentials = credentialsOf(options);
    const requests = {
      server,
      known: TURN_ATTRIBUTES_WITH_DF,
      reliable: isReliable(options),
      ...(this.#credentials === undefined ? {} : { credentials: this.#credentials }),
      ...(retransmit === undefined ? {} : { retransmit }),
      ...(rtoCache === undefined ? {} : { rtoCache }),
    };
    this.requests = new ClientRequests(requests);
    this.#allocating = new ClientAllocating({
      requests: this.requests,
      wish: this.#wish,
      credentials: this.#credentials,
      isStream: isStream(options),
      reopen: (io) => {
        io.close(this.socket);
        this.#open(0, io);
      },
      granted: (grant, startedAt, io) => this.#handleAllocated(grant, startedAt, io),
      useless: (error, io) => this.#lose(error, io),
      failed: (error, io) => this.#fail(error, io),
    });
    this.peers = new ClientPeers(this.requests, stats, {
      lost: (error, io) => {
        if (error.code === ERROR_CODE.ALLOCATION_MISMATCH) this.#losePath(error, io);
        else this.#lose(error, io);
      },
      doubt: (io) => this.#lifetime.doubt(io),
    });
    this.#lifetime = new ClientLifetime(this.requests, {
      write: (writer) => this.#wish.writeCommon(writer),
      confirmed: (io) => this.migration.leave(io),
      silent: (io) => this.canMigrate && this.migration.start(io),
      lost: (error, io) => {
        if (error instanceof StunError && error.code === ERROR_CODE.ALLOCATION_MISMATCH) this.#losePath(error, io);
        else this.#fail(error, io);
      },
    });
    const newRequests = () => new ClientRequests<TurnClientEvent>({ ...requests, server: this.requests.server });
    const lifetime = this.#lifetime;
    this.migration = new ClientMigration({
      open: (localAddress, io) => io.open(socketWish(options, { ...this.#place(0), localAddress })),
      newRequests,
      write: (writer) => this.#wish.writeCommon(writer),
      moved: (socket, localAddress, outcome, io) => this.#handleMoved(socket, localAddress, outcome, io),
      stayed: (error, io) => io.emit({ type: "migration-failed", error }),
      lost: (error, io) => this.#fail(error, io),
      get expiresAt() {
        return lifetime.expiresAt;
      },
    });
    this.connections = new ClientConnections({
      requests: this.requests,
      stats,
      open: (io) => io.open(socketWish(options, this.#place(0))),
      newRequests,
      lost: (error, io) => this.#losePath(error, io),
    });
  }

  get realm(): string | undefined {
    return this.#credentials?.realm;
  }

  /** In seconds. */
  get grantedLifetime(): number | undefined {
    return this.#lifetime.granted;
  }

  get canSendUnfragmented(): boolean {
    return this.grant !== undefined && this.#wish.dontFragment;
  }

  get canMigrate(): boolean {
    return this.state === "allocated" && this.migration.ticket !== undefined;
  }

  get deadline(): number {
    const { deadline } = this.requests;
    const upkeep = Math.min(this.peers.deadline, this.#lifetime.deadline);
    return Math.min(deadline, upkeep, this.migration.deadline, this.connections.deadline);
  }

  handleTimeout(io: Io): void {
    this.#lifetime.handleTimeout(io);
    this.migration.handleTimeout(io);
    this.requests.handleTimeout(io);
    this.peers.handleTimeout(io);
    this.connections.handleTimeout(io);
  }

  begin(io: Io): void {
    if (this.state !== "new") throw new Error(`Cannot allocate as this client is ${this.state} already`);
    this.#open(this.#options.localPort ?? 0, io);
  }

  migrate(io: Io, options: MigrateOptions): void {
    if (!this.canMigrate) {
      throw new Error(`Cannot migrate as ${this.requests.server} gave no ticket, or there is no allocation`);
    }
    if (options.cause !== undefined) this.peers.suspend();
    this.migration.start(io, options);
  }

  setAccessToken(token: AccessToken, io: Io): void {
    if (this.#options.accessToken === undefined) throw new Error("Cannot use token as this client has none to replace");
    this.#credentials!.setToken(token);
    if (this.state === "allocated") this.#lifetime.doubt(io);
  }

  close(io: Io): void {
    if (this.state === "closing" || this.state === "closed") return;
    if (this.state === "allocating" || this.state === "allocated") {
      this.#become("closing");
      this.#release(io, (io) => this.#closed(io));
    } else this.#closed(io);
  }

  handleOpened(socket: SocketId, localAddress: TransportAddress, io: Io): void {
    if (socket !== this.socket || this.state !== "opening") return io.close(socket);
    this.localAddress = localAddress;
    this.requests.socket = socket;
    this.#become("allocating");
    this.#allocating.ask(io);
  }

  handleOpenFailed(socket: SocketId, failure: OpenFailure, detail: string, io: Io): void {
    if (socket !== this.socket || this.state !== "opening") return;
    this.#fail(new OpenError(failure, detail), io);
  }

  handleClosed(socket: SocketId, reason: CloseReason, io: Io): void {
    if (socket !== this.socket) return;
    if (this.state === "closing") this.#closed(io);
    else if (this.state === "allocating" || this.state === "allocated") {
      const what = this.state === "allocated" ? "Cannot keep the allocation" : "Cannot allocate";
      const { server } = this.requests;
      this.#losePath(new StunConnectionError(`${what} on ${server}: the connection ended (${reason})`), io);
    }
  }

  #become(state: TurnClientState): void {
    if (!TURN_CLIENT_TRANSITIONS[this.state].includes(state)) {
      throw new Error(`Cannot become ${state} as the TURN client is ${this.state}`);
    }
    this.state = state;
  }

  #open(port: number, io: Io): void {
    this.#become("opening");
    this.socket = io.open(socketWish(this.#options, this.#place(port)));
  }

  /** The part that has this socket, if it is not the client's own. */
  partOf(socket: SocketId): ClientMigration | ClientConnections | undefined {
    return this.migration.owns(socket) ? this.migration : this.connections.owns(socket) ? this.connections : undefined;
  }

  #place(port: number): SocketPlace {
    return { server: this.requests.server, domain: this.#allocating.domain, port };
  }

  #handleAllocated(grant: Grant, startedAt: number, io: Io): void {
    this.#become("allocated");
    this.grant = grant;
    const { relayedAddresses, mapped, lifetime, software } = grant;
    this.#lifetime.set(lifetime, startedAt);
    this.migration.ticket = grant.ticket;
    this.peers.open(relayedAddresses, this.#options.peerTransport !== "tcp");
    io.emit({
      type: "allocated",
      relayed: relayedAddresses[0]!,
      relayedAddresses,
      mapped,
      lifetime,
      ...software !== undefined && { software },
    });
  }

  /** RFC 8016 §3.2.3. */
  #handleMoved(socket: SocketId, localAddress: TransportAddress, outcome: Success, io: Io): void {
    const { response, startedAt } = outcome;
    this.migration.former = this.socket;
    this.socket = this.requests.socket = socket;
    this.localAddress = localAddress;
    const mapped = response.get(XOR_MAPPED_ADDRESS);
    if (mapped !== undefined) this.grant = { ...this.grant!, mapped };
    this.#lifetime.set(response.get(LIFETIME) ?? DEFAULT_LIFETIME, startedAt);
    io.send(socket, this.requests.server, dataForNobody(this.grant!.relayedAddresses[0]!.family, io));
    this.peers.resume(io);
    // Over a connection they would not be repeated, and their answers would be looked for on the old path.
    this.requests.repeat(io);
    // Its answer says that the server has followed.
    this.#lifetime.doubt(io);
    io.emit({ type: "migrated", local: localAddress });
  }

  /** The server does not know this 5-tuple any more. */
  #losePath(error: Error, io: Io): void {
    if (this.canMigrate) this.migrate(io, { cause: error });
    else this.#fail(error, io);
  }

  #fail(error: Error, io: Io): void {
    this.#end(io);
    this.#become("failed");
    io.close(this.socket);
    io.emit({ type: "failed", error });
  }

  /** Fails, and gives back what the server may hold (RFC 8656 §7.3, §12.3). */
  #lose(error: Error, io: Io): void {
    this.#become("failed");
    this.#release(io, (io) => io.close(this.socket));
    io.emit({ type: "failed", error });
  }

  #closed(io: Io): void {
    this.#end(io);
    this.#become("closed");
    if (this.socket !== -1) io.close(this.socket);
    io.emit({ type: "closed" });
  }

  #end(io: Io): void {
    this.#lifetime.clear();
    this.migration.cancel(io);
    this.requests.clear();
    this.peers.clear();
    this.connections.clear(io);
  }

  #release(io: Io, done: (io: Io) => void): void {
    this.#end(io);
    this.requests.start({
      method: METHOD.REFRESH,
      doing: `Cannot give back the allocation on ${this.requests.server}`,
      retransmit: RELEASE,
      write: (writer) => void writer.add(LIFETIME, 0),
      // Whatever is answered: what is not deleted now expires.
      done: (_outcome, io) => done(io),
    }, io);
  }
}

// A worker of `serveTurnWorkers()`: a TURN server of its own on ports that it shares.
import { TokenUsers } from "../stun/access_token.ts";
import { TransportAddress } from "../stun/address.ts";
import { pickHost } from "../stun/net/linux_host.ts";
import { OpenError } from "../stun/net/transport.ts";
import { RestUsers } from "../stun/rest_users.ts";
import { type UserCredential, UserDirectories, type UserDirectory, UserTable } from "../stun/users.ts";
import { serveTurn, type TurnServerHandle } from "./serve.ts";
import { SharedState } from "./shared_state.ts";
import { type PlainError, toPlain, type WorkerOrder, type WorkerReport, type WorkerStart } from "./_worker_messages.ts";

/** How often counters are told, in ms. */
const STATS_EVERY = 1000;

interface Thread {
  onmessage: ((message: MessageEvent<WorkerOrder>) => void) | null;
  postMessage(report: WorkerReport): void;
  close(): void;
}

const thread = self as unknown as Thread;
const searches = new Map<number, PromiseWithResolvers<UserCredential | undefined>>();
let lastSearch = 0;

thread.onmessage = ({ data: order }) => {
  if (order.t !== "start") return;
  try {
    run(order);
  } catch (error) {
    thread.postMessage({ t: "failed", error: plainError(error) });
    thread.close();
  }
};

function run(start: WorkerStart): void {
  const { options, io, setup, memory, secret, epoch, asksForUsers, reports } = start;
  const { host, io: picked, reason } = pickHost(io, setup);
  if (picked !== "linux" && options.transports?.includes("udp") !== false) {
    throw new TypeError(
      `Cannot share UDP ports between workers without the Linux back end: UDP is carried by ${reason}`,
    );
  }
  const { realm, users, restSecrets = [], alternates, tokens: tokenOptions, ...rest } = options;
  const known = new UserTable(realm, users);
  const restUsers = restSecrets.length === 0 ? undefined : new RestUsers({ realm, secrets: restSecrets });
  const directories: UserDirectory[] = restUsers === undefined ? [known] : [known, restUsers];
  const tokens = tokenOptions === undefined ? undefined : new TokenUsers(tokenOptions);
  const server = serveTurn({
    ...rest,
    ...(tokens === undefined ? {} : { tokens }),
    realm,
    users: new UserDirectories(directories),
    host,
    common: { shared: new SharedState(memory, { secret, clock: performance.timeOrigin - epoch }), secret },
    ...(alternates === undefined ? {} : {
      alternates: { ...alternates, addresses: alternates.addresses.map((text) => TransportAddress.parse(text)) },
    }),
    ...(asksForUsers ? { lookUpUser } : {}),
    ...(reports ? { onEvent: (event) => thread.postMessage({ t: "event", event: toPlain(event) }) } : {}),
  });
  const tick = setInterval(() => tellStats(server, "stats"), STATS_EVERY);
  thread.onmessage = ({ data: order }) => {
    switch (order.t) {
      case "drain":
        void server.drain().then(() => thread.postMessage({ t: "drained" }));
        break;
      case "shutdown":
        clearInterval(tick);
        void server.shutdown().then(() => {
          tellStats(server, "finished");
          thread.close();
        });
        break;
      case "sync":
        thread.postMessage({ t: "synced" });
        break;
      case "tls":
        server.setTls(order.tls);
        break;
      case "users":
        known.replace(order.users);
        break;
      case "secrets":
        restUsers?.setSecrets(order.secrets);
        break;
      case "tokenKeys":
        tokens?.setKeys(order.keys);
        break;
      case "found":
        searches.get(order.id)?.resolve(order.credential);
        searches.delete(order.id);
        break;
      case "notFound":
        searches.get(order.id)?.reject(new Error(order.why));
        searches.delete(order.id);
        break;
    }
  };
  thread.postMessage({
    t: "listening",
    addresses: server.addresses.map(String),
    transports: server.transports,
    reason,
  });
}

/** Asks whoever runs the workers. The server gives up by itself what takes too long. */
function lookUpUser(username: string, client: TransportAddress): Promise<UserCredential | undefined> {
  const search = Promise.withResolvers<UserCredential | undefined>();
  const id = ++lastSearch;
  searches.set(id, search);
  thread.postMessage({ t: "wanted", id, username, client: String(client) });
  return search.promise;
}

function tellStats(server: TurnServerHandle, t: "stats" | "finished"): void {
  thread.postMessage({ t, stats: { turn: server.stats(), streams: server.streamStats() } });
}

function plainError(error: unknown): PlainError {
  const { name, message } = error instanceof Error ? error : new Error(String(error));
  return { name, message, ...(error instanceof OpenError ? { failure: error.failure } : {}) };
}

import { type IoChoice, pickHost } from "../stun/mod.ts";
import { type AllocationEvent, serveTurn, serveTurnWorkers, type TurnServerHandle } from "../turn/mod.ts";
import { choiceOption, numberOption, type Options, usage } from "./config.ts";
import type { ServerAccess } from "./serve_access.ts";
import type { ServeSettings } from "./serve_settings.ts";
import { UsageError } from "./terminal.ts";

const MAX_WORKERS = 256;
/** How long datagrams may be gathered, in ms: more would be felt. */
const MAX_GATHER = 5;

/** A server that runs, in this thread or in several. */
export interface StartedServer {
  readonly server: TurnServerHandle;
  /** Which back end carries UDP. */
  readonly io: "linux" | "deno";
  /** The same and why, for people. */
  readonly reason: string;
  /** How many threads there are. */
  readonly workers: number;
  /** Hands on what the files say now. */
  reload(access: ServerAccess): Promise<void>;
}

/**
 * Starts the server that options ask for.
 *
 * @throws {UsageError} If they do not fit.
 * @throws {OpenError} If a socket can not be bound.
 */
export async function startServer(
  options: Options,
  settings: ServeSettings,
  { access, onEvent }: { access: ServerAccess; onEvent: ((event: AllocationEvent) => void) | undefined },
): Promise<StartedServer> {
  const choice = choiceOption("io", options.value("io") ?? "auto", ["auto", "linux", "deno"] as const);
  const workers = workerCount(options.value("workers"));
  const setup = { gather: gatherTime(options.value("gather")) };
  const { lookUpUser, tokens, tls } = access;
  const common = {
    ...settings,
    ...(lookUpUser === undefined ? {} : { lookUpUser }),
    ...(tokens === undefined ? {} : { tokens }),
    ...(tls === undefined ? {} : { tls }),
    ...(onEvent === undefined ? {} : { onEvent }),
  };
  if (workers > 1) return await startWorkers(workers, choice, { common, access, setup });
  const { host, io, reason } = pickHost(choice, setup);
  const server = usage(() => serveTurn({ ...common, users: access.users, host }));
  const reload = () => {
    if (access.tls !== undefined) server.setTls(access.tls);
    return Promise.resolve();
  };
  return { server, io, reason, workers, reload };
}

async function startWorkers(
  workers: number,
  io: IoChoice,
  { common, access, setup }: {
    common: Omit<Parameters<typeof serveTurn>[0], "users">;
    access: ServerAccess;
    setup: { readonly gather: number };
  },
): Promise<StartedServer> {
  const { io: picked, reason } = pickHost(io);
  if (picked !== "linux") throw new UsageError(`Option --workers needs the Linux back end: UDP by ${reason}`);
  const { entries, secrets } = access;
  const restSecrets = secrets.length === 0 ? {} : { restSecrets: secrets };
  const server = await serveTurnWorkers({ ...common, workers, io, setup, users: entries, ...restSecrets }).catch((
    error,
  ) =>
    usage<never>(() => {
      throw error;
    })
  );
  const reload = async () => {
    if (access.tls !== undefined) await server.setTls(access.tls);
    await server.setUsers(access.entries);
    if (access.secrets.length > 0) await server.setRestSecrets(access.secrets);
    if (access.tokens !== undefined) await server.setTokenKeys(access.tokens.keys);
  };
  return { server, io: picked, reason, workers, reload };
}

function workerCount(text: string | undefined): number {
  if (text === undefined) return 1;
  if (text === "auto") return Math.min(MAX_WORKERS, navigator.hardwareConcurrency);
  return numberOption("workers", text, { min: 1, max: MAX_WORKERS });
}

/** In ms. */
function gatherTime(text: string | undefined): number {
  if (text === undefined) return 0;
  const time = Number(text);
  if (/^\d+(\.\d+)?$/.test(text) && time <= MAX_GATHER) return time;
  throw new UsageError(`Option --gather must be a number of ms from 0 to ${MAX_GATHER}: "${text}"`);
}

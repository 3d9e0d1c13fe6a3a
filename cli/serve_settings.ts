import { TransportAddress } from "../stun/mod.ts";
import type { ServeTurnOptions } from "../turn/mod.ts";
import { choiceOption, numberOption, type Options, type OptionSpec, usage } from "./config.ts";
import { UsageError } from "./terminal.ts";

/** What `natkit serve` takes. */
export const SERVE_OPTIONS: OptionSpec = {
  command: "serve",
  value: [
    ...[
      "realm",
      "alternate-port",
      "relay-ports",
      "quota",
      "total-quota",
      "max-lifetime",
      "io",
      "users-file",
      "workers",
      "metrics",
      "gather",
    ],
    ...[
      "rest-secret-file",
      "auth-url",
      "cert",
      "key",
      "max-bps",
      "user-bps",
      "total-bps",
      "challenge-rate",
      "binding-rate",
    ],
    ...["oauth-key-file", "oauth-name", "alternate-domain", "connections", "total-connections", "dtls"],
    ...["permissions", "channels", "max-clients", "max-clients-per-address"],
  ],
  list: [
    "listen",
    "listen-tls",
    "user",
    "rest-secret",
    "oauth-key",
    "relay-address",
    "allow-peer",
    "deny-peer",
    "alternate-server",
  ],
  flag: ["classic", "tcp-relay", "no-mobility", "quiet", "json"],
};

/** What of it is for `serveTurn()` as it is, users and certificates aside. */
export type ServeSettings = Omit<ServeTurnOptions, "users" | "tls" | "relayAddresses"> & {
  readonly listen: readonly string[];
  readonly allowPeers: readonly string[];
  readonly denyPeers: readonly string[];
  readonly relayAddresses?: readonly { readonly address: string; readonly external?: string }[];
};

const DEFAULT_PORT = 3478;
/** So many times the rate may be saved up. */
const BURST = 10;

/**
 * The settings that options ask for.
 *
 * @throws {UsageError} If they do not fit.
 */
export function serverSettings(options: Options): ServeSettings {
  const number = (name: string, min: number, max: number) => {
    const text = options.value(name);
    return text === undefined ? undefined : numberOption(name, text, { min, max });
  };
  const listen = options.list("listen");
  const listenTls = options.list("listen-tls");
  if (listenTls.length > 0 && options.value("cert") === undefined) {
    throw new UsageError("Option --listen-tls needs --cert and --key");
  }
  const relayAddresses = options.list("relay-address").map((text) => {
    const [address = "", external] = text.split("=");
    return external === undefined ? { address } : { address, external };
  });
  const ports = options.value("relay-ports");
  const rate = number("challenge-rate", 0, 1_000_000);
  const bindingRate = number("binding-rate", 1, 1_000_000);
  const alternates = usage(() =>
    options.list("alternate-server").map((text) => TransportAddress.parse(text, DEFAULT_PORT))
  );
  const domain = options.value("alternate-domain");
  const dtls = choiceOption("dtls", options.value("dtls") ?? "auto", ["auto", "on", "off"]);
  if (dtls === "on" && options.value("cert") === undefined) {
    throw new UsageError("Option --dtls needs --cert and --key");
  }
  return {
    listen: listen.length === 0 ? [`127.0.0.1:${DEFAULT_PORT}`] : listen,
    realm: options.value("realm") ?? "localhost",
    allowPeers: options.list("allow-peer"),
    denyPeers: options.list("deny-peer"),
    classic: options.flag("classic"),
    tcpRelay: options.flag("tcp-relay"),
    limits: defined({
      allocationsPerUser: number("quota", 0, 1_000_000),
      allocations: number("total-quota", 0, 1_000_000),
      permissions: number("permissions", 1, 1_000_000),
      channels: number("channels", 1, 4096),
      connectionsPerAllocation: number("connections", 1, 1_000_000),
      connections: number("total-connections", 1, 1_000_000),
      allocationBandwidth: number("max-bps", 1, 1e12),
      userBandwidth: number("user-bps", 1, 1e12),
      serverBandwidth: number("total-bps", 1, 1e12),
    }),
    streamLimits: defined({
      maxConnections: number("max-clients", 1, 1_000_000),
      maxPerAddress: number("max-clients-per-address", 1, 1_000_000),
    }),
    ...defined({
      dtls: dtls === "auto" ? undefined : dtls === "on",
      listenTls: listenTls.length === 0 ? undefined : listenTls,
      mobility: options.flag("no-mobility") ? false as const : undefined,
      alternatePort: number("alternate-port", 1, 65535),
      relayAddresses: relayAddresses.length === 0 ? undefined : relayAddresses,
      relayPorts: ports === undefined ? undefined : parsePorts(ports),
      maxLifetime: number("max-lifetime", 600, 86400),
      bindingRate: bindingRate === undefined ? undefined : { rate: bindingRate, burst: BURST * bindingRate },
      challengeRate: rate === 0 ? false as const : rate === undefined ? undefined : { rate, burst: BURST * rate },
      alternates: alternates.length === 0 ? undefined : { addresses: alternates, ...defined({ domain }) },
    }),
  };
}

/** Without what is not there. */
function defined<T extends object>(options: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}

function parsePorts(text: string): { min: number; max: number } {
  const [, low, high] = /^(\d{1,5})-(\d{1,5})$/.exec(text) ?? [];
  const [min, max] = [Number(low), Number(high)];
  if (!(min >= 1 && max >= min && max <= 65535)) {
    throw new UsageError(`Option --relay-ports must be MIN-MAX within 1-65535: "${text}"`);
  }
  return { min, max };
}

import { bold, dim } from "@std/fmt/colors";
import { type AllocationEvent, type AllocationReport, serveTurn, type TurnServerStats } from "../turn/mod.ts";
import { pickHost } from "../stun/mod.ts";
import { choiceOption, numberOption, type Options, parseOptions, usage } from "./config.ts";
import { type Command, type Terminal, UsageError } from "./terminal.ts";

const HELP = `natkit serve: a STUN and TURN server

Usage: natkit serve --realm REALM --user NAME:PASSWORD [OPTIONS]

Answers STUN Binding requests (RFC 8489) for everybody and relays (TURN, RFC 8656) for its users, over UDP.

Options:
  --listen ADDRESS:PORT    serve clients here; may be given several times (default: 127.0.0.1:3478);
                           0.0.0.0 and [::] stand for each address of this machine
  --alternate-port PORT    the second port for NAT behaviour discovery (RFC 5780), which is on when --listen names two
                           addresses with the same port (default: the port above)
  --classic                answer classic STUN clients (RFC 3489) as well
  --realm REALM            the realm, usually a domain name (default: localhost)
  --user NAME:PASSWORD     somebody who may relay; may be given several times; without one it is a STUN server only
  --relay-address ADDRESS  lend relayed addresses on this local address (default: those of --listen);
                           ADDRESS=EXTERNAL tells clients EXTERNAL instead, for a server behind a 1:1 NAT
  --relay-ports MIN-MAX    the ports of relayed addresses (default: 49152-65535)
  --allow-peer CIDR        relay to these addresses too, although they are loopback, private or otherwise not public
  --deny-peer CIDR         never relay to these addresses; wins over --allow-peer
  --quota N                allocations of one user at a time (default: 4096)
  --total-quota N          allocations of all users at a time (default: 65536)
  --max-lifetime SECONDS   the longest lifetime of an allocation (default: 3600)
  --io auto|linux|deno     how UDP is carried (default: auto): linux moves many datagrams per system call and needs
                           Linux and --allow-ffi
  --quiet                  no line for each allocation
  --json                   JSON lines: {"t": "listening" | "allocated" | "ended" | "stats", ...}

Relaying to loopback, private, link-local, multicast and other non-public addresses is refused unless allowed here.
Ctrl-C ends it and prints what it did.

Example:
  natkit serve --listen 127.0.0.1:3478 --realm example.org --user alice:secret --allow-peer 127.0.0.0/8`;

/** `natkit serve`. */
export const serveCommand: Command = {
  name: "serve",
  summary: "A STUN and TURN server",
  help: HELP,
  async run(args, terminal) {
    const options = parseOptions(args, {
      command: "serve",
      value: ["realm", "alternate-port", "relay-ports", "quota", "total-quota", "max-lifetime", "io"],
      list: ["listen", "user", "relay-address", "allow-peer", "deny-peer"],
      flag: ["classic", "quiet", "json"],
    });
    const json = options.flag("json");
    const settings = serverSettings(options);
    const onEvent = options.flag("quiet") ? undefined : (event: AllocationEvent) => report(event, json, terminal);
    const { host, io, reason } = pickHost(
      choiceOption("io", options.value("io") ?? "auto", ["auto", "linux", "deno"] as const),
    );
    await using server = usage(() => serveTurn({ ...settings, host, ...(onEvent === undefined ? {} : { onEvent }) }));
    const { addresses } = server;
    if (json) terminal.out(JSON.stringify({ t: "listening", addresses, realm: settings.realm, io }));
    else {
      greet(addresses.map(String), settings, terminal);
      terminal.out(dim(`  UDP by ${reason}`));
    }
    if (!terminal.interrupted.aborted) {
      await new Promise((resolve) => terminal.interrupted.addEventListener("abort", resolve, { once: true }));
    }
    const stats = server.stats();
    terminal.out(json ? JSON.stringify({ t: "stats", ...stats }) : farewell(stats));
    return 0;
  },
};

type Settings = ReturnType<typeof serverSettings>;

function serverSettings(options: Options) {
  const listen = options.list("listen");
  const allowPeers = options.list("allow-peer");
  const denyPeers = options.list("deny-peer");
  const relayAddresses = options.list("relay-address").map((text) => {
    const [address = "", external] = text.split("=");
    return external === undefined ? { address } : { address, external };
  });
  const quota = (name: string) => {
    const text = options.value(name);
    return text === undefined ? undefined : numberOption(name, text, { min: 0, max: 1_000_000 });
  };
  const [allocationsPerUser, allocations] = [quota("quota"), quota("total-quota")];
  const maxLifetime = options.value("max-lifetime");
  const ports = options.value("relay-ports");
  const alternatePort = options.value("alternate-port");
  return {
    listen: listen.length === 0 ? ["127.0.0.1:3478"] : listen,
    realm: options.value("realm") ?? "localhost",
    users: options.list("user").map(parseUser),
    allowPeers,
    denyPeers,
    limits: {
      ...(allocationsPerUser === undefined ? {} : { allocationsPerUser }),
      ...(allocations === undefined ? {} : { allocations }),
    },
    classic: options.flag("classic"),
    ...(alternatePort === undefined
      ? {}
      : { alternatePort: numberOption("alternate-port", alternatePort, { min: 1, max: 65535 }) }),
    ...(relayAddresses.length === 0 ? {} : { relayAddresses }),
    ...(ports === undefined ? {} : { relayPorts: parsePorts(ports) }),
    ...(maxLifetime === undefined
      ? {}
      : { maxLifetime: numberOption("max-lifetime", maxLifetime, { min: 600, max: 86400 }) }),
  };
}

function parseUser(text: string): [string, string] {
  const colon = text.indexOf(":");
  if (colon < 1 || colon === text.length - 1) {
    throw new UsageError(`Option --user must be NAME:PASSWORD: "${colon === -1 ? text : text.slice(0, colon + 1)}"`);
  }
  return [text.slice(0, colon), text.slice(colon + 1)];
}

function parsePorts(text: string): { min: number; max: number } {
  const [, low, high] = /^(\d{1,5})-(\d{1,5})$/.exec(text) ?? [];
  const [min, max] = [Number(low), Number(high)];
  if (!(min >= 1 && max >= min && max <= 65535)) {
    throw new UsageError(`Option --relay-ports must be MIN-MAX within 1-65535: "${text}"`);
  }
  return { min, max };
}

function greet(addresses: readonly string[], settings: Settings, terminal: Terminal): void {
  const users = settings.users.length;
  const uses = users === 0
    ? "STUN only, as there is no --user"
    : `STUN and TURN for ${users} user${users > 1 ? "s" : ""}`;
  terminal.out(`${bold("natkit serve")}: ${uses}, realm ${settings.realm}`);
  for (const address of addresses) terminal.out(`  ${bold(address)} udp`);
  if (users === 0) return;
  const { min, max } = settings.relayPorts ?? { min: 49152, max: 65535 };
  const where = settings.relayAddresses?.map(({ address }) => address).join(", ") ?? "the same addresses";
  terminal.out(dim(`  relays on ${where}, ports ${min}-${max}`));
  const allowed = settings.allowPeers.length === 0 ? "" : ` and ${settings.allowPeers.join(", ")}`;
  const denied = settings.denyPeers.length === 0 ? "" : `, never to ${settings.denyPeers.join(", ")}`;
  terminal.out(dim(`  relays to public addresses${allowed}${denied}`));
}

function report(event: AllocationEvent, json: boolean, terminal: Terminal): void {
  const { type: t, allocation, ...rest } = event;
  if (json) return terminal.out(JSON.stringify({ t, ...allocation, ...rest }));
  const { username, client, relayedAddresses } = allocation;
  const who = `${username} at ${client}, relayed ${relayedAddresses.join(" and ")}`;
  terminal.out(event.type === "allocated" ? `+ ${who}` : `- ${who}: ${event.why}${traffic(allocation)}`);
}

function traffic(allocation: AllocationReport): string {
  const { packetsToPeers, bytesToPeers, packetsToClient, bytesToClient } = allocation;
  return dim(`, out ${packetsToPeers} (${size(bytesToPeers)}), in ${packetsToClient} (${size(bytesToClient)})`);
}

function farewell(stats: TurnServerStats): string {
  const dropped = Object.entries(stats.drops).filter(([, count]) => count > 0);
  const errors = Object.entries(stats.errors);
  return [
    `${stats.bindings} Binding requests, ${stats.requests} TURN requests, ${stats.allocationsTotal} allocations`,
    `relayed ${stats.packetsToPeers} datagrams (${size(stats.bytesToPeers)}) to peers, ` +
    `${stats.packetsToClients} (${size(stats.bytesToClients)}) to clients`,
    ...errors.map(([code, count]) => `error ${code}: ${count}`),
    ...dropped.map(([reason, count]) => `dropped, ${reason}: ${count}`),
  ].join("\n");
}

function size(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  if (bytes < 1_000_000) return `${(bytes / 1000).toFixed(1)} kB`;
  return `${(bytes / 1_000_000).toFixed(1)} MB`;
}

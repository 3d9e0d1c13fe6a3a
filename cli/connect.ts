import { bold, cyan, dim, green, red, yellow } from "@std/fmt/colors";
import { type CandidatePair, type IceConnection, type IceEvent, openIce, type OpenIceOptions } from "../ice/mod.ts";
import { pickHost, TransportAddress } from "../stun/mod.ts";
import { isIpv4 } from "../stun/address.ts";
import { choiceOption, loginOption, numberOption, type Options, parseOptions, serverUri, usage } from "./config.ts";
import { connectJson } from "./connect_json.ts";
import { type Command, type Terminal, UsageError } from "./terminal.ts";

const HELP = `natkit connect: two terminals connect

Usage: natkit connect [OPTIONS]            the same on the other side

Prints a one-line session description. Paste each side's line into the other. Then each line that is typed travels to the
other side as a datagram, along the best path that ICE (RFC 8445) finds. Ctrl-D ends it.

The description and what the other side sends go to stdout, all else to stderr, so that programs can be piped together.
An SDP offer or answer, ended by an empty line, is taken as well.

Options:
  --stun HOST:PORT          a STUN server, to learn the public address; may be given several times
  --turn HOST:PORT          a TURN server, to relay where nothing direct works; may be given several times
  --turn-transport udp|tcp|tls|dtls  how to reach it (default: udp)
  --user NAME:PASSWORD      the credentials for it
  --pass PASSWORD           the password, for names with a colon: all of --user is the name then
  --policy all|relay        relay: use relayed candidates only (default: all)
  --tcp none|active|passive|both  connect by TCP too, for networks that block UDP: active connects, passive listens
                            (default: active, for an other side that listens)
  --io auto|linux|deno      which sockets: with those of Linux, which need --allow-ffi, --tcp both connects from both
                            sides at once, through NATs and firewalls (default: deno)
  --bind ADDRESS[,ADDRESS]  use these local addresses only (default: those of all interfaces)
  --interface NAME[,NAME]   use these network interfaces only (default: all)
  --ip 4|6                  use this IP version only (default: both)
  --ports FIRST-LAST        the ports to bind (default: any)
  --external [FROM=]IP      tell the other side this address in place of FROM, an address, a range as 10.0.0.0/8 or an
                            interface, or of all: for a 1:1 NAT, as in a cloud; may be given several times
  --mdns off|resolve|hide   names in place of addresses: look up the other side's, and with hide tell none of this
                            computer's own (default: resolve)
  --predict N               behind a NAT with a port for each destination (symmetric), tell N ports that are likely next; takes
                            two STUN servers (default: 0; 8 is a good number)
  --map-ports               ask the router for ports, by PCP or NAT-PMP, and give them back at the end
  --router ADDRESS          the router to ask (default: that of the default route)
  --role auto|controlling|controlled  who decides which path to use (default: auto, so that both sides agree by
                            their descriptions)
  --path first|priority|quality  which path to use when several work: the first that was agreed on, the best by priority, or
                            by round trip, jitter and loss; but for first, another takes over when it goes silent
                            (default: priority)
  --standby N               how many other paths to keep ready, 0 to 8 (default: 2)
  --stay                    go on after the end of the input, until Ctrl-C
  --json                    JSON lines, for programs: see docs/cli.md

No server is used but those named here.

When the network changes, as from Wi-Fi to mobile, another way is looked for: each side prints a new line then, which is to
be pasted into the other. At a terminal that may take 10 minutes; else the connection is given up after one.

Example, in two terminals:
  natkit connect --stun 127.0.0.1:3478 --turn 127.0.0.1:3478 --user alice:secret`;

/** How long somebody may take to carry a line over to the other side, in ms. */
const BY_HAND = 600_000;

const VALUE_OPTIONS = [
  "bind",
  "interface",
  "ip",
  "ports",
  "predict",
  "mdns",
  "router",
  "tcp",
  "io",
  "turn-transport",
  "user",
  "pass",
  "policy",
  "path",
  "standby",
  "role",
] as const;

/** `natkit connect`. */
export const connectCommand: Command = {
  name: "connect",
  summary: "Two terminals connect by each other's one-line description",
  help: HELP,
  run(args, terminal) {
    const options = parseOptions(args, {
      command: "connect",
      value: VALUE_OPTIONS,
      list: ["stun", "turn", "external"],
      flag: ["stay", "json", "map-ports"],
    });
    const settings = iceSettings(options);
    return options.flag("json") ? connectJson(settings, terminal) : connect(settings, options.flag("stay"), terminal);
  },
};

function iceSettings(options: Options): OpenIceOptions {
  const transport = choiceOption("turn-transport", options.value("turn-transport") ?? "udp", [
    "udp",
    "tcp",
    "tls",
    "dtls",
  ]);
  const [tcp, io, bind] = [options.value("tcp"), options.value("io"), options.value("bind")];
  const login = loginOption(options);
  const router = options.value("router");
  if (router !== undefined && !isIpv4(router)) throw new UsageError("Option --router needs an IPv4 address");
  const turn = options.list("turn");
  if (turn.length > 0 && login === undefined) {
    throw new UsageError("Option --turn needs --user NAME:PASSWORD");
  }
  const predict = options.value("predict");
  if (predict !== undefined && options.list("stun").length < 2) {
    throw new UsageError("Option --predict needs two --stun servers: one shows no order of ports");
  }
  const policy = choiceOption("policy", options.value("policy") ?? "all", ["all", "relay"]);
  if (policy === "relay" && turn.length === 0) throw new UsageError("Option --policy relay needs --turn");
  return {
    stunServers: options.list("stun").map((text) => serverUri(text, "stun")),
    turnServers: turn.length === 0 ? [] : [{
      urls: turn.map((text) => turnUrl(text, transport)),
      username: login!.username,
      credential: login!.password,
    }],
    policy,
    ...(predict === undefined ? {} : { predictPorts: numberOption("predict", predict, { min: 0, max: 16 }) }),
    ...pathSettings(options),
    portMapping: options.flag("map-ports") && (router === undefined ? true : { gateway: router }),
    mdns: choiceOption("mdns", options.value("mdns") ?? "resolve", ["off", "resolve", "hide"]),
    ...(tcp === undefined ? {} : { tcp: choiceOption("tcp", tcp, ["none", "active", "passive", "both"]) }),
    ...(io === undefined ? {} : { host: pickHost(choiceOption("io", io, ["auto", "linux", "deno"] as const)).host }),
    role: choiceOption("role", options.value("role") ?? "auto", ["auto", "controlling", "controlled"]),
    ...(bind === undefined ? {} : { bind: usage(() => bindAddresses(bind)) }),
    ...addressSettings(options),
    autoRestart: true,
  };
}

function pathSettings(options: Options): OpenIceOptions {
  const [path, standby] = [options.value("path"), options.value("standby")];
  return {
    ...(path === undefined
      ? {}
      : { pathPolicy: choiceOption("path", path, ["first", "priority", "quality"] as const) }),
    ...(standby === undefined ? {} : { standby: numberOption("standby", standby, { min: 0, max: 8 }) }),
  };
}

function addressSettings(options: Options): OpenIceOptions {
  const [names, ip, ports] = [options.value("interface")?.split(","), options.value("ip"), options.value("ports")];
  const [, first, last] = /^(\d+)-(\d+)$/.exec(ports ?? "") ?? [];
  if (ports !== undefined && last === undefined) {
    throw new UsageError(`Option --ports must be like 50000-50099: current value is "${ports}"`);
  }
  const addressRules = options.list("external").map((text) => {
    const [, from, to] = /^(?:(.*)=)?(.*)$/.exec(text)!;
    return { to: to!, ...(from === undefined ? {} : { from }) };
  });
  return {
    ...(names === undefined ? {} : { interfaceFilter: ({ name }) => names.includes(name) }),
    ...(ip === undefined ? {} : { ipVersion: choiceOption("ip", ip, ["4", "6"]) === "4" ? 4 : 6 }),
    ...(last === undefined ? {} : { portRange: [Number(first), Number(last)] }),
    ...(addressRules.length === 0 ? {} : { addressRules }),
  };
}

function bindAddresses(text: string): string[] {
  return text.split(",").map((address) => String(TransportAddress.parse(address, 0)));
}

function turnUrl(text: string, transport: "udp" | "tcp" | "tls" | "dtls"): string {
  if (/^turns?:/.test(text)) return text;
  if (transport === "tls") return `turns:${text}?transport=tcp`;
  if (transport === "dtls") return `turns:${text}?transport=udp`;
  return transport === "tcp" ? `turn:${text}?transport=tcp` : `turn:${text}`;
}

async function connect(settings: OpenIceOptions, stay: boolean, terminal: Terminal): Promise<number> {
  const narrator = new Narrator(terminal);
  const decoder = new TextDecoder();
  terminal.progress("Looking for addresses ...");
  let printed = "";
  const print = (description: string) => {
    if (description === printed) return;
    printed = description;
    terminal.err(dim("Give this line to the other side:"));
    terminal.out(description);
  };
  await using connection = usage(() =>
    openIce({
      ...settings,
      // Whoever has to carry a line over there by hand is not hurried.
      ...(terminal.isTerminal ? { recoverWithin: BY_HAND } : {}),
      signal: terminal.interrupted,
      onEvent: (event) => {
        narrator.tell(event);
        // The other side's line may have asked for it: it waits for ours.
        if (event.type === "restart") queueMicrotask(() => connection.localDescription().then(print, () => {}));
      },
      onDatagram: (bytes) => {
        const text = decoder.decode(bytes);
        if (terminal.isTerminal) terminal.say(text);
        else terminal.out(text);
      },
    })
  );
  print(await connection.localDescription());
  const lines = terminal.lines(terminal.interrupted)[Symbol.asyncIterator]();
  terminal.err(dim("Paste the other side's line here:"));
  await readDescription(connection, { lines, terminal, ours: () => printed });
  narrator.start();
  terminal.progress("Checking paths ...");
  const pair = await connection.connected;
  terminal.progress("");
  terminal.err(`${green("connected")} in ${narrator.elapsed} ms: ${narrator.describe(pair)}`);
  connection.nominated.then((nominated) => {
    terminal.err(`${green("nominated")} after ${narrator.elapsed} ms: ${narrator.describe(nominated)}`);
    terminal.err(dim("Lines that you type go to the other side; Ctrl-D ends."));
  }, () => {});
  const failed = connection.closed.then(() => true);
  if (await Promise.race([sendLines(connection, lines), failed]) !== true && stay) await failed;
  const { selectedPair } = connection.stats();
  if (selectedPair !== undefined) {
    terminal.err(dim(`sent ${selectedPair.packetsSent} and received ${selectedPair.packetsReceived} datagrams`));
  }
  return 0;
}

/** Reads lines until they make a description. At a terminal, whoever mistypes may try again. */
async function readDescription(
  connection: IceConnection,
  { lines, terminal, ours }: { lines: AsyncIterator<string>; terminal: Terminal; ours: () => string },
): Promise<void> {
  for (;;) {
    const text = await nextDescription(lines);
    if (text === undefined) {
      terminal.interrupted.throwIfAborted();
      throw new Error("The input ended before the other side's description came");
    }
    try {
      if (text.replaceAll(/\s/g, "") === ours()) {
        throw new SyntaxError("This is this side's own line: paste it into the other one, and that one's here");
      }
      return connection.addRemoteDescription(text);
    } catch (error) {
      if (!(error instanceof SyntaxError) || !terminal.isTerminal) throw error;
      terminal.err(red(error.message));
      terminal.err(dim("Paste the other side's line again:"));
    }
  }
}

/**
 * One line, which may have been broken where it was copied from, or the lines of an SDP blob: they end with an empty
 * one, or with `end-of-candidates` of the one-line form.
 */
async function nextDescription(lines: AsyncIterator<string>): Promise<string | undefined> {
  const blob: string[] = [];
  for (;;) {
    const { done, value } = await lines.next();
    if (done) return blob.length === 0 ? undefined : blob.join("\n");
    const line = value.trim();
    if (line === "" && blob.length > 0) return blob.join("\n");
    if (line === "") continue;
    blob.push(line);
    if (/^[a-z]=/.test(blob[0]!)) continue;
    const text = blob.join("");
    if (!/^ice-[a-z]+[:,]/.test(text) || text.endsWith("end-of-candidates")) return text;
  }
}

async function sendLines(connection: IceConnection, lines: AsyncIterator<string>): Promise<void> {
  const encoder = new TextEncoder();
  for (;;) {
    const { done, value } = await lines.next();
    if (done) return;
    if (!takeDescription(connection, value)) connection.send(encoder.encode(value));
  }
}

/** Takes in a line if it is the other side's description, as it is after a restart; tells whether it is one. */
function takeDescription(connection: IceConnection, line: string): boolean {
  if (!/^ice-[a-z]+[:,]/.test(line) || !line.includes("ice-ufrag:") || !line.includes("ice-pwd:")) return false;
  try {
    connection.addRemoteDescription(line);
    return true;
  } catch (error) {
    if (error instanceof SyntaxError) return false;
    throw error;
  }
}

/** Tells on stderr what the agent does. */
class Narrator {
  #terminal: Terminal;
  #start = 0;
  #wasConnected = false;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  /** The clock starts when both descriptions are there. */
  start(): void {
    this.#start = performance.now();
  }

  get elapsed(): string {
    return (performance.now() - this.#start).toFixed(0);
  }

  tell(event: IceEvent): void {
    switch (event.type) {
      case "local-candidate": {
        const { type, tcpType, address, base, server } = event.candidate;
        const from = type === "host"
          ? tcpType === undefined ? "" : dim(` TCP ${tcpType}`)
          : dim(type === "relay" ? ` lent by ${server}` : ` of ${base}, by ${server}`);
        return this.#terminal.err(`  ${cyan(type.padEnd(5))} ${address}${from}`);
      }
      case "gathering-error":
        return this.#terminal.err(`  ${yellow("none")}  from ${event.url}: ${event.text}`);
      case "pair":
        return this.#tellPair(event.pair);
      case "role":
        return this.#terminal.err(dim(`  role: ${event.role}`));
      case "network-change":
        return this.#terminal.err(yellow(`The network has changed: ${changeText(event)}`));
      case "restart":
        return this.#terminal.err(dim("Looking for another way ..."));
      case "selected-pair":
        if (event.pair !== undefined && this.#wasConnected) {
          this.#terminal.err(`${green("path")} ${this.describe(event.pair)}`);
        }
        return;
      case "state":
        return this.#tellState(event);
    }
  }

  #tellState({ state, reason = "" }: Extract<IceEvent, { type: "state" }>): void {
    if (state === "connected" || state === "completed") this.#wasConnected = true;
    else if (state === "disconnected") {
      this.#terminal.err(yellow(reason === "" ? "disconnected" : `disconnected: ${reason}`));
    } else if (state === "checking" && this.#wasConnected) {
      this.#terminal.err(
        yellow("There is no path at the moment, or the other side has ended; Ctrl-C ends this one"),
      );
    }
  }

  /** Both ends of a pair, their types, and the round trip. */
  describe(pair: CandidatePair): string {
    const { local, remote, rtt, isTcp } = pair;
    const transport = isTcp ? "TCP " : "";
    const trip = rtt === undefined ? "" : `, round trip ${rtt.toFixed(1)} ms`;
    return bold(
      `${local.address} (${transport}${local.type}) <-> ${remote.address} (${transport}${remote.type})`,
    ) + trip;
  }

  #tellPair(pair: CandidatePair): void {
    const { local, remote, state } = pair;
    if (state === "frozen" || state === "waiting") return;
    const paint = state === "succeeded" ? green : state === "failed" ? red : dim;
    this.#terminal.err(
      `  ${paint("check")} ${local.address} ${dim(local.type)} -> ${remote.address} ${dim(remote.type)} ${
        paint(state)
      }`,
    );
  }
}

/** As `192.0.2.1 is gone, 198.51.100.7 is new`. */
function changeText(
  { gained, lost }: { readonly gained: readonly string[]; readonly lost: readonly string[] },
): string {
  return [...lost.map((address) => `${address} is gone`), ...gained.map((address) => `${address} is new`)].join(", ");
}

import { type AccessToken, isIpAddress, parseStunUri, readAccessToken, type ServerTransport } from "../stun/mod.ts";
import { probeTurn } from "../turn/mod.ts";
import { choiceOption, loginOption, numberOption, type Options, parseOptions, serverUri, usage } from "./config.ts";
import { type Command, type Terminal, UsageError } from "./terminal.ts";
import { tlsOptions } from "./tls_options.ts";
import { describeTurn } from "./turn_text.ts";

const HELP = `natkit turn: what a TURN server does, and what is wrong with it

Usage: natkit turn turn:HOST[:PORT] --user NAME:PASSWORD [OPTIONS]

Gets two relays from the server (RFC 8656), over UDP, TCP and TLS each, sends datagrams from one to the other, looks for
the largest one that passes, asks for an IPv6 relay, knocks on the relayed address from outside, and asks for permissions
that a server should refuse. Nothing is sent to anybody but the server and this computer. Exit code 0: it relays.

Options:
  --user NAME:PASSWORD   who to be; with --pass all of it is the name
  --pass PASSWORD        the password, for names with a colon (time-limited ones, as 1735689600:alice)
  --token FILE           an access token (RFC 7635) in place of that, as JSON; needs --allow-read
  --realm REALM          the realm that the server should have
  --transport LIST       what to try, of udp,tcp,tls,dtls (default: what the URI says, else the first three)
  --count N              datagrams to send on each path (default: 100)
  --size BYTES           bytes of each (default: 200)
  --rate N               how many a second (default: 100)
  --timeout SECONDS      how long to wait for the server in each step (default: 5)
  --local ADDRESS        ask from this local IP address
  --ca FILE              trust the certificates in this file (PEM), not the usual ones; needs --allow-read
  --server-name NAME     the name that the certificate must have (default: HOST)
  --insecure             accept any certificate
  --json                 one JSON object: see docs/turn-check.md

Example, with a server of our own:
  natkit serve --user alice:secret --allow-peer 127.0.0.1 &
  natkit turn turn:127.0.0.1 --user alice:secret`;

/** `natkit turn`. */
export const turnCommand: Command = {
  name: "turn",
  summary: "What a TURN server does, and what is wrong with it",
  help: HELP,
  async run(args, terminal) {
    const options = parseOptions(args, {
      command: "turn",
      value: [
        "user",
        "pass",
        "realm",
        "transport",
        "count",
        "size",
        "rate",
        "timeout",
        "local",
        "ca",
        "server-name",
        "token",
      ],
      flag: ["insecure", "json"],
      positional: { name: "server URI, as turn:HOST[:PORT]", min: 1, max: 1 },
    });
    const report = await probeTurn({ ...await probeOptions(options), ...feedback(options, terminal) });
    terminal.progress("");
    if (options.flag("json")) terminal.out(JSON.stringify(report));
    else for (const line of describeTurn(report)) terminal.say(line);
    return report.works ? 0 : 1;
  },
};

function feedback(options: Options, terminal: Terminal) {
  const server = serverUri(options.positional[0]!, "turn");
  terminal.progress(`Looking for ${server} ...`);
  return { signal: terminal.interrupted, onProgress: (doing: string) => terminal.progress(`${doing} ...`) };
}

async function probeOptions(options: Options) {
  const server = serverUri(options.positional[0]!, "turn");
  const { scheme } = usage(() => parseStunUri(server));
  if (!scheme.startsWith("turn")) throw new UsageError(`The server must begin with turn: or turns:, not "${scheme}:"`);
  const local = options.value("local");
  if (local !== undefined && !isIpAddress(local)) {
    throw new UsageError(`Option --local must be an IP address: "${local}"`);
  }
  const realm = options.value("realm");
  const number = (name: string, fallback: string, min: number, max: number) =>
    numberOption(name, options.value(name) ?? fallback, { min, max });
  return {
    server,
    ...loginOption(options),
    ...await accessToken(options),
    ...transports(options, scheme),
    ...realm !== undefined && { realm },
    ...local !== undefined && { localAddress: local },
    count: number("count", "100", 1, 100_000),
    size: number("size", "200", 8, 65_000),
    rate: number("rate", "100", 1, 10_000),
    timeout: number("timeout", "5", 1, 60) * 1000,
    tls: await tlsOptions(options),
  };
}

async function accessToken(options: Options): Promise<{ accessToken?: AccessToken }> {
  const path = options.value("token");
  if (path === undefined) return {};
  if (options.value("user") !== undefined) throw new UsageError("Options --token and --user exclude each other");
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (cause) {
    const hint = cause instanceof Deno.errors.NotCapable ? `: give Deno --allow-read=${path}` : "";
    throw new UsageError(`Cannot read ${path}${hint}`);
  }
  return { accessToken: usage(() => readAccessToken(text, Date.now() / 1000)) };
}

function transports(options: Options, scheme: string): { transports?: ServerTransport[] } {
  const text = options.value("transport");
  if (text === undefined) return {};
  const transports = text.split(",").map((one) =>
    choiceOption<ServerTransport>("transport", one, ["udp", "tcp", "tls", "dtls"])
  );
  if (scheme === "turns" && transports.some((one) => one !== "tls" && one !== "dtls")) {
    throw new UsageError("Option --transport must be tls or dtls for a server that begins with turns:");
  }
  return { transports };
}

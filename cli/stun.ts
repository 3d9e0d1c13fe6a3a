import { bold, dim } from "@std/fmt/colors";
import {
  type BindingCredentials,
  parseStunUri,
  requestBinding,
  type ServerTransport,
  transportsOf,
} from "../stun/mod.ts";
import { choiceOption, loginOption, numberOption, type Options, parseOptions, serverUri, usage } from "./config.ts";
import { type Command, UsageError } from "./terminal.ts";
import { tlsOptions } from "./tls_options.ts";

const HELP = `natkit stun: what address the world sees

Usage: natkit stun stun:HOST[:PORT] [OPTIONS]

Sends a STUN Binding request (RFC 8489) and shows the address that the server saw it come from. A server that begins with
stuns: is asked over TLS, or DTLS if --transport says so.

Options:
  --transport T      udp, tcp, tls or dtls (default: udp, or tls for stuns:); dtls needs stuns: and
                     --allow-ffi
  --local ADDRESS    send from this local IP address; only over UDP
  --user NAME:PASSWORD  authenticate by long-term credentials, if the server asks for them
  --pass PASSWORD    the password, for names with a colon: all of --user is the name then
  --short-term       these are short-term credentials, which the first request has already
  --ca FILE          trust the certificates in this file (PEM), not the usual ones; needs --allow-read
  --server-name NAME the name that the certificate must have (default: HOST)
  --insecure         accept any certificate
  --timeout SECONDS  give up after this long (default: 10)
  --json             one JSON object: {server, local, mapped, rtt, software}; rtt in ms

Example:
  natkit stun stun:127.0.0.1:3478`;

/** `natkit stun`. */
export const stunCommand: Command = {
  name: "stun",
  summary: "What address the world sees",
  help: HELP,
  async run(args, terminal) {
    const options = parseOptions(args, {
      command: "stun",
      value: ["transport", "local", "timeout", "user", "pass", "ca", "server-name"],
      flag: ["json", "short-term", "insecure"],
      positional: { name: "server URI, as stun:HOST[:PORT]", min: 1, max: 1 },
    });
    const server = serverUri(options.positional[0]!, "stun");
    const wish = options.value("transport");
    const transport = wish === undefined
      ? undefined
      : choiceOption<ServerTransport>("transport", wish, ["udp", "tcp", "tls", "dtls"]);
    const [used] = usage(() =>
      transportsOf(parseStunUri(server), transport === undefined ? ["udp", "tcp", "tls"] : [transport])
    );
    const tls = await tlsOptions(options);
    const seconds = numberOption("timeout", options.value("timeout") ?? "10", { min: 1, max: 3600 });
    const local = options.value("local");
    const credentials = credentialsOf(options);
    const timeout = AbortSignal.timeout(seconds * 1000);
    terminal.progress(`Asking ${server} ...`);
    try {
      const answer = await requestBinding({
        server,
        tls,
        ...(transport === undefined ? {} : { transport }),
        ...(local === undefined ? {} : { localAddress: local }),
        ...(credentials === undefined ? {} : { credentials }),
        signal: AbortSignal.any([timeout, terminal.interrupted]),
      });
      terminal.progress("");
      if (options.flag("json")) {
        const { server, local, mapped, rtt, software } = answer;
        terminal.out(JSON.stringify({ server, local, mapped, rtt, software }));
        return 0;
      }
      terminal.say(`${bold(String(answer.mapped))}  ${dim("the address that the server sees")}`);
      if (answer.local !== undefined) terminal.say(`${answer.local}  ${dim("the local address it was sent from")}`);
      const software = answer.software === undefined ? "" : `, ${answer.software}`;
      terminal.say(dim(`${answer.server} answered in ${answer.rtt.toFixed(1)} ms${software}`));
      return 0;
    } catch (error) {
      if (!timeout.aborted) throw error;
      throw new Error(
        `No answer from ${server} within ${seconds} s: is it a STUN server, and does ${used!.toUpperCase()} get there?`,
      );
    }
  },
};

function credentialsOf(options: Options): BindingCredentials | undefined {
  const login = loginOption(options);
  const isShortTerm = options.flag("short-term");
  if (login !== undefined) return { type: isShortTerm ? "short-term" : "long-term", ...login };
  if (isShortTerm) throw new UsageError("Option --short-term needs --user");
  return undefined;
}

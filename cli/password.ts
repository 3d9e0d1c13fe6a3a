import { denoHost, randomBytes, randomIceChars, restCredential, sealAccessToken, userLine } from "../stun/mod.ts";
import { numberOption, parseOptions, usage } from "./config.ts";
import { parseTokenKey } from "./oauth_keys.ts";
import { type Command, type Terminal, UsageError } from "./terminal.ts";

const HELP = `natkit password: a line for a users file, a time-limited credential, or an access token

Usage: natkit password --user NAME --realm REALM [--json]
       natkit password --rest [--user NAME] [--ttl SECONDS] [--json]
       natkit password --token --server-name NAME [--ttl SECONDS]

The first reads a password from stdin and prints the line for NAME in a file for "natkit serve --users-file": with keys
in place of the password, good for this realm only. The second reads a secret that is shared with a server, as
"natkit serve --rest-secret-file" has it, and prints user name and password of a credential that ends by itself. The
third reads a key, KID:KEY as "natkit serve --oauth-key-file" has it, and prints an access token (RFC 7635) as JSON, as
an authorization server would.

Options:
  --user NAME     whose it is
  --realm REALM   the server's realm
  --rest          make a time-limited credential
  --token         make an access token
  --server-name NAME  for which server: what it has as --oauth-name, or its realm
  --ttl SECONDS   how long it is good (default: 86400)
  --json          one JSON object

Examples:
  echo secret | natkit password --user alice --realm example.org >>users
  natkit password --rest --user alice <secret
  natkit password --token --server-name example.org <key >token`;

/** `natkit password`. */
export const passwordCommand: Command = {
  name: "password",
  summary: "A line for a users file, a time-limited credential, or an access token",
  help: HELP,
  async run(args, terminal) {
    const options = parseOptions(args, {
      command: "password",
      value: ["user", "realm", "ttl", "server-name"],
      flag: ["rest", "token", "json"],
    });
    const user = options.value("user");
    const realm = options.value("realm");
    const json = options.flag("json");
    const ttl = numberOption("ttl", options.value("ttl") ?? "86400", { min: 1, max: 31_536_000 });
    if (options.flag("token")) {
      const serverName = options.value("server-name");
      if (serverName === undefined) throw new UsageError("Option --token needs --server-name");
      const line = await firstLine(terminal);
      terminal.out(usage(() => makeToken(line, serverName, ttl)));
      return 0;
    }
    if (!options.flag("rest") && (user === undefined || realm === undefined)) {
      throw new UsageError('Options --user and --realm are needed, or --rest: see "natkit password --help"');
    }
    const secret = await firstLine(terminal);
    if (options.flag("rest")) {
      const expires = Math.floor(Date.now() / 1000) + ttl;
      const credential = restCredential(secret, { expires, ...(user === undefined ? {} : { user }) });
      if (json) terminal.out(JSON.stringify({ ...credential, ttl }));
      else terminal.out(`${credential.username} ${credential.password}`);
    } else {
      const line = usage(() => userLine(user!, realm!, secret));
      terminal.out(json ? JSON.stringify({ line }) : line);
    }
    return 0;
  },
};

/** A token as in RFC 7635 Appendix B, whose key is text: there it is taken as it is. */
function makeToken(line: string, serverName: string, lifetime: number): string {
  const [kid, key] = parseTokenKey(line);
  const { random } = denoHost();
  const macKey = randomIceChars(random, 20);
  const token = sealAccessToken(key, {
    serverName,
    nonce: randomBytes(random, 12),
    macKey: new TextEncoder().encode(macKey),
    timestamp: Math.floor(Date.now() / 1000),
    lifetime,
  });
  return JSON.stringify({ access_token: token.toBase64(), token_type: "pop", expires_in: lifetime, kid, key: macKey });
}

async function firstLine(terminal: Terminal): Promise<string> {
  for await (const line of terminal.lines(terminal.interrupted)) {
    if (line !== "") return line;
    break;
  }
  throw new UsageError("Cannot go on as the first line of stdin must be the password, secret or key");
}

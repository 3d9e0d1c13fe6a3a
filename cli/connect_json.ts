import { formatCandidate, type IceConnection, type IceEvent, openIce, type OpenIceOptions } from "../ice/mod.ts";
import type { Terminal } from "./terminal.ts";

/** A line on stdin. */
interface Input {
  readonly t: string;
  readonly ufrag?: string;
  readonly pwd?: string;
  readonly c?: string;
  readonly d?: string;
}

/**
 * `natkit connect --json`: the protocol of docs/cli.md, for programs.
 *
 * @returns The exit code: 0 after `close` or the end of the input, 1 when the connection failed.
 */
export async function connectJson(settings: OpenIceOptions, terminal: Terminal): Promise<number> {
  const emit = (message: Record<string, unknown>) => terminal.out(JSON.stringify(message));
  const decoder = new TextDecoder();
  let startedAt = performance.now();
  await using connection = openIce({
    ...settings,
    signal: terminal.interrupted,
    onEvent: (event) => report(event, emit),
    onDatagram: (bytes) => emit({ t: "recv", d: decoder.decode(bytes) }),
  });
  const { ufrag, pwd } = connection.localParameters;
  emit({ t: "params", ufrag, pwd });
  connection.nominated.then(({ local, remote, rtt }) => {
    const ms = Math.round(performance.now() - startedAt);
    emit({ t: "connected", local: candidateText(local), remote: candidateText(remote), ms, rtt });
  }, () => {});
  const ended = new AbortController();
  const failed = connection.closed.then(() => 0, (error: Error) => {
    emit({ t: "failed", e: error.message });
    return 1;
  });
  const read = async () => {
    for await (const line of terminal.lines(AbortSignal.any([ended.signal, terminal.interrupted]))) {
      if (line.trim() === "") continue;
      let message: Input;
      try {
        message = JSON.parse(line);
        if (message.t === "params") startedAt = performance.now();
        if (message.t === "close") return 0;
        handle(message, connection);
      } catch (error) {
        emit({ t: "warn", e: error instanceof Error ? error.message : String(error) });
      }
    }
    return 0;
  };
  const code = await Promise.race([read(), failed]);
  ended.abort();
  return code;
}

function handle(message: Input, connection: IceConnection): void {
  switch (message.t) {
    case "params":
      return connection.setRemoteParameters({ ufrag: message.ufrag ?? "", pwd: message.pwd ?? "" });
    case "cand":
      return void connection.addRemoteCandidate(message.c ?? "");
    case "eoc":
      return connection.endOfCandidates();
    case "restart":
      // What goes wrong with it ends the connection, which is told then.
      return void connection.restart().catch(() => {});
    case "send":
      return void connection.send(new TextEncoder().encode(message.d ?? ""));
    default:
      throw new SyntaxError(`Unknown message "${message.t}": it must be params, cand, eoc, restart, send or close`);
  }
}

function report(event: IceEvent, emit: (message: Record<string, unknown>) => void): void {
  switch (event.type) {
    case "local-candidate":
      return emit({ t: "cand", c: formatCandidate(event.candidate) });
    case "network-change":
      return emit({ t: "network", gained: event.gained, lost: event.lost });
    case "restart":
      return emit({ t: "params", ufrag: event.parameters.ufrag, pwd: event.parameters.pwd });
    case "gathering-done":
      return emit({ t: "eoc" });
    case "gathering-error":
      return emit({ t: "warn", e: `${event.url}: ${event.text}` });
    case "state":
      return emit({ t: "state", s: event.state });
    case "pair":
      return emit({
        t: "pair",
        s: event.pair.state,
        local: candidateText(event.pair.local),
        remote: candidateText(event.pair.remote),
      });
  }
}

/** A candidate line without `candidate:`, as the other agents write it. */
function candidateText(candidate: Parameters<typeof formatCandidate>[0]): string {
  return formatCandidate(candidate).replace(/^candidate:/, "");
}

// Crosses two ICE agents that speak JSON lines (agents/README.md) and sends five messages each way.

/** What an agent said when it was connected. */
export interface Connected {
  /** Its side of the pair, as a candidate line. */
  readonly local: string;
  /** The other side of the pair, as a candidate line. */
  readonly remote: string;
  /** How long it took by its own clock, in ms. */
  readonly ms: number;
}

interface Message {
  t: string;
  d?: string;
  e?: string;
  error?: string;
  local?: string;
  remote?: string;
  ms?: number | string;
}

const MESSAGES = 5;
const TIME_LIMIT = 30_000;

/**
 * Runs two commands, hands each one's parameters and candidates to the other, and waits until both are connected and
 * each has got the other's messages.
 *
 * @throws {Error} If that does not come about, with the end of what both wrote to stderr.
 */
export async function crossAgents(commands: readonly [string[], string[]]): Promise<[Connected, Connected]> {
  const agents = commands.map((command) => new Agent(command)) as [Agent, Agent];
  const timer = setTimeout(() => agents.forEach((agent) => agent.fail("time is up")), TIME_LIMIT);
  try {
    const reading = agents.map((agent, i) => agent.pump(agents[1 - i]!));
    const connected = await Promise.all(agents.map((agent) => agent.connected.promise));
    for (const agent of agents) for (let i = 0; i < MESSAGES; i++) agent.write({ t: "send", d: `ping${i}` });
    await Promise.all(agents.map((agent) => agent.received.promise));
    for (const agent of agents) agent.write({ t: "close" });
    await Promise.all(reading);
    return connected as [Connected, Connected];
  } catch (error) {
    const said = await Promise.all(agents.map((agent) => agent.stop()));
    throw new Error(`${error instanceof Error ? error.message : error}\n${said.join("\n")}`);
  } finally {
    clearTimeout(timer);
    await Promise.all(agents.map((agent) => agent.stop()));
  }
}

class Agent {
  readonly connected = Promise.withResolvers<Connected>();
  readonly received = Promise.withResolvers<void>();
  #command: string;
  #process: Deno.ChildProcess;
  #writer: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;
  #stderr: Promise<string>;
  #seen: string[] = [];
  #pings = 0;
  #ended = false;

  constructor(command: string[]) {
    this.#command = command[0]!;
    this.#process = new Deno.Command(command[0]!, {
      args: command.slice(1),
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#writer = this.#process.stdin.getWriter();
    this.#stderr = new Response(this.#process.stderr).text();
    // Whoever fails first is waited for; the others' failures must not end the test run.
    this.connected.promise.catch(() => {});
    this.received.promise.catch(() => {});
  }

  write(message: Message): void {
    this.#writer.write(new TextEncoder().encode(JSON.stringify(message) + "\n")).catch(() => {});
  }

  fail(why: string): void {
    const error = new Error(`${this.#command}: ${why}; it said:\n${this.#seen.slice(-12).join("\n")}`);
    this.connected.reject(error);
    this.received.reject(error);
  }

  async pump(other: Agent): Promise<void> {
    const decoder = new TextDecoder();
    let rest = "";
    for await (const chunk of this.#process.stdout) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = lines.pop()!;
      for (const line of lines) this.#handle(line, other);
    }
    this.fail("it ended");
  }

  async stop(): Promise<string> {
    if (!this.#ended) {
      this.#ended = true;
      await this.#writer.close().catch(() => {});
      try {
        this.#process.kill("SIGKILL");
      } catch {
        // It has ended by itself.
      }
      await this.#process.status;
    }
    return `${this.#command} stderr: ${(await this.#stderr).slice(-600)}`;
  }

  #handle(line: string, other: Agent): void {
    this.#seen.push(line);
    let message: Message;
    try {
      message = JSON.parse(line);
    } catch {
      return;
    }
    if (["params", "cand", "eoc"].includes(message.t)) other.write(message);
    else if (message.t === "connected") {
      this.connected.resolve({ local: message.local!, remote: message.remote!, ms: Number(message.ms) });
    } else if (message.t === "recv" && message.d?.startsWith("ping")) {
      if (++this.#pings === MESSAGES) this.received.resolve();
    } else if (message.t === "failed") this.fail(message.e ?? message.error ?? "failed");
  }
}

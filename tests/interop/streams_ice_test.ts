// Several data streams and components (RFC 8445 §2.4): openIce() and libnice, both roles.
import { assertEquals } from "@std/assert";
import { formatCandidate, type IceConnection, openIce, parseCandidate } from "../../ice/mod.ts";
import { iceProgram } from "./ice_agents.ts";
import { peerTest } from "./_peers.ts";

/** A line of agents/README.md. */
interface Message {
  readonly t: string;
  readonly m?: string;
  readonly k?: string;
  readonly c?: string;
  readonly d?: string;
  readonly e?: string;
  readonly ufrag?: string;
  readonly pwd?: string;
}

const STREAMS = [{ components: 2, mid: "audio" }, { components: 2, mid: "video" }];
const PLACES = ["0.1", "0.2", "1.1", "1.2"];

/** libnice on the other side of a connection of ours: what it says becomes ours, what we say goes to it. */
class Nice implements AsyncDisposable {
  readonly heard: string[] = [];
  /** All four components have got something. */
  readonly all = Promise.withResolvers<void>();
  readonly #process: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;
  #read: Promise<void> = Promise.resolve();

  constructor(command: readonly string[], role: string) {
    const [program, ...args] = command;
    this.#process = new Deno.Command(program!, {
      args: [...args, "--role", role, "--bind", "127.0.0.1", "--streams", "2", "--components", "2"],
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    this.#writer = this.#process.stdin.getWriter();
    this.all.promise.catch(() => {});
  }

  write(message: Message): void {
    this.#writer.write(new TextEncoder().encode(`${JSON.stringify(message)}\n`)).catch(() => {});
  }

  /** Begins to read what it says. */
  meet(connection: IceConnection): void {
    this.#read = this.#listen(connection);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.write({ t: "close" });
    await this.#writer.close().catch(() => {});
    const timer = setTimeout(() => this.#process.kill("SIGKILL"), 5000);
    await this.#process.status;
    clearTimeout(timer);
    await this.#read;
  }

  async #listen(connection: IceConnection): Promise<void> {
    let rest = "";
    for await (const chunk of this.#process.stdout.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop()!;
      for (const line of lines) this.#handle(JSON.parse(line), connection);
    }
    this.all.reject(new Error("libnice has ended"));
  }

  #handle({ t, m = "0", k, c = "", d, e, ufrag = "", pwd = "" }: Message, connection: IceConnection): void {
    if (t === "failed") this.all.reject(new Error(`libnice: ${e}`));
    if (t === "recv" && this.heard.push(`${m}.${k} heard ${d}`) === PLACES.length) this.all.resolve();
    if (t !== "params" && t !== "cand" && t !== "eoc") return;
    const stream = {
      index: Number(m),
      ...(t === "params" ? { parameters: { ufrag, pwd } } : {}),
      candidates: t === "cand" ? [parseCandidate(c)] : [],
      endOfCandidates: t === "eoc",
    };
    connection.addRemoteDescription({ candidates: [], endOfCandidates: false, ignored: [], streams: [stream] });
  }
}

peerTest(
  "RFC 8445 §2.4: openIce() and libnice, two streams of two components",
  iceProgram("libnice").peers,
  async (t) => {
    await using program = await iceProgram("libnice").build();
    for (const role of ["controlling", "controlled"] as const) {
      await t.step(`natkit ${role}`, async () => {
        await using nice = new Nice(program.command, role === "controlling" ? "controlled" : "controlling");
        const heard: string[] = [];
        const done = Promise.withResolvers<void>();
        await using connection = openIce({
          ...{ role, streams: STREAMS, bind: ["127.0.0.1"], tcp: "none" },
          onEvent: (event) => {
            if (event.type !== "local-candidate") return;
            nice.write({ t: "cand", m: String(event.candidate.stream), c: formatCandidate(event.candidate) });
          },
          onDatagram: (bytes, { stream, component }) => {
            if (heard.push(`${stream}.${component} heard ${new TextDecoder().decode(bytes)}`) === PLACES.length) {
              done.resolve();
            }
          },
        });
        const { ufrag, pwd } = connection.localParameters;
        for (const m of ["0", "1"]) nice.write({ t: "params", m, ufrag, pwd });
        nice.meet(connection);
        await connection.nominated;
        for (const one of connection.streams.flatMap(({ components }) => components)) {
          one.send(new TextEncoder().encode(`${one.stream}.${one.component}`));
        }
        await nice.all.promise;
        for (const place of PLACES) {
          const [m, k] = place.split(".") as [string, string];
          nice.write({ t: "send", m, k, d: place });
        }
        await done.promise;
        const expected = PLACES.map((place) => `${place} heard ${place}`);
        assertEquals([heard.sort(), nice.heard.sort()], [expected, expected]);
        assertEquals(connection.streams.map(({ state }) => state), ["completed", "completed"]);
      });
    }
  },
);

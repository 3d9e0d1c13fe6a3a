// A network of its own for some computers, in network namespaces: broadcast and multicast reach them all, and nobody else.
import { runPeer } from "./_peers.ts";

let lans = 0;

/** A local network that is up. Needs what a `NatLab` needs. */
export class Lan implements AsyncDisposable {
  readonly #name = `nk${Deno.pid}l${++lans}`;
  readonly #count: number;

  constructor(count: number) {
    this.#count = count;
  }

  /** Sets one up, with computers 10.3.0.1, 10.3.0.2 and so on. Dispose of it when done. */
  static async up(count: number): Promise<Lan> {
    const lan = new Lan(count);
    const ip = lan.#ip;
    try {
      await ip("netns", "add", lan.#switch);
      await ip("-n", lan.#switch, "link", "add", "br0", "type", "bridge");
      await ip("-n", lan.#switch, "link", "set", "br0", "up");
      for (let i = 1; i <= count; i++) {
        const node = lan.#node(i);
        await ip("netns", "add", node);
        await ip("-n", node, "link", "set", "lo", "up");
        await ip("link", "add", "eth", "netns", node, "type", "veth", "peer", "name", `port${i}`, "netns", lan.#switch);
        await ip("-n", lan.#switch, "link", "set", `port${i}`, "master", "br0", "up");
        await ip("-n", node, "link", "set", "eth", "up");
        await ip("-n", node, "addr", "add", `10.3.0.${i}/24`, "dev", "eth");
        // A way out that leads nowhere: without one some programs take the network for none.
        await ip(
          "-n",
          node,
          "neigh",
          "add",
          "10.3.0.254",
          "lladdr",
          "02:00:00:00:00:fe",
          "dev",
          "eth",
          "nud",
          "permanent",
        );
        await ip("-n", node, "route", "add", "default", "via", "10.3.0.254");
      }
      return lan;
    } catch (error) {
      await lan[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** The command line that runs a command on a computer, counted from 1. */
  on(computer: number, ...command: readonly string[]): string[] {
    return ["ip", "netns", "exec", this.#node(computer), ...command];
  }

  /** Takes the network down. */
  async [Symbol.asyncDispose](): Promise<void> {
    const nodes = Array.from({ length: this.#count }, (_, i) => this.#node(i + 1));
    for (const node of [...nodes, this.#switch]) await runPeer("ip", ["netns", "del", node]);
  }

  get #switch(): string {
    return `${this.#name}-sw`;
  }

  #node(computer: number): string {
    return `${this.#name}-${computer}`;
  }

  #ip = async (...args: readonly string[]): Promise<void> => {
    const { code, output } = await runPeer("ip", [...args]);
    if (code !== 0) throw new Error(`Cannot set up a network: ip ${args.join(" ")}: ${output}`);
  };
}

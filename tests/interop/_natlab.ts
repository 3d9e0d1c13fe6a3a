// The network-namespace lab of natlab.sh, for tests. Without root, iproute2 and nftables they are skipped by name.
import { findProgram, runPeer } from "./_peers.ts";

/** A home's NAT or firewall: see the top of natlab.sh. */
export type LabKind =
  | "open"
  | "firewall"
  | "fullcone"
  | "restricted"
  | "port"
  | "symmetric"
  | "blocked"
  | "tlsonly";

/** How a lab is made. */
export interface LabOptions {
  /** The home of node `a`. Default: `"port"`. */
  readonly a?: LabKind;
  /** The home of node `b`. Default: `"port"`. */
  readonly b?: LabKind;
  /** natlab.sh's variables, as `{ HAIRPIN: "1" }`. */
  readonly env?: Readonly<Record<string, string>>;
}

const script = new URL("natlab.sh", import.meta.url).pathname;
/** What a test with a lab needs, for `peerTest()`: with more programs, `{ programs: [...LAB.programs, "stun"], ... }`. */
export const LAB = {
  programs: ["bash", "ip", "nft", "sysctl"],
  install: "apt-get install -y iproute2 nftables procps, and be root",
} as const;

let labs = 0;

/** A lab that is up. */
export class NatLab implements AsyncDisposable {
  /** What its namespaces are called, with `-NODE` behind it. */
  readonly name: string;

  private constructor(name: string) {
    this.name = name;
  }

  /** Sets one up. Dispose of it when done. */
  static async up({ a = "port", b = "port", env = {} }: LabOptions = {}): Promise<NatLab> {
    const lab = new NatLab(`nk${Deno.pid}x${++labs}`);
    const variables = Object.entries({ ...env, LAB: lab.name }).map(([name, value]) => `${name}=${value}`);
    const { code, output } = await runPeer("env", [...variables, script, "up", a, b]);
    if (code !== 0) {
      await lab[Symbol.asyncDispose]();
      throw new Error(`Cannot set up a lab: ${output}`);
    }
    return lab;
  }

  /** The arguments with which `ip` runs a command in a node: `runPeer("ip", lab.in("a", "ping", ...))`. */
  in(node: "a" | "b" | "natA" | "natB" | "pub", ...command: readonly string[]): string[] {
    return ["netns", "exec", `${this.name}-${node}`, ...command];
  }

  /** Takes the lab down. What still runs in it loses its network. */
  async [Symbol.asyncDispose](): Promise<void> {
    await runPeer("env", [`LAB=${this.name}`, script, "down"]);
  }
}

/** Why there can be no lab here; `undefined` if there can. */
export async function labObstacle(): Promise<string | undefined> {
  if (Deno.build.os !== "linux") return "needs Linux";
  if (Deno.uid() !== 0) return "needs root for network namespaces";
  if (findProgram("ip") === undefined) return `needs ip: ${LAB.install}`;
  await sweep();
  const name = `nk${Deno.pid}-try`;
  const { code, output } = await runPeer("ip", ["netns", "add", name]).catch((error) => ({
    code: 1,
    output: String(error),
  }));
  if (code !== 0) return `needs network namespaces: ${output.trim()}`;
  await runPeer("ip", ["netns", "del", name]);
  return undefined;
}

/** Removes the namespaces of test runs that were interrupted, which their names tell: nothing of them runs any more. */
async function sweep(): Promise<void> {
  const { code, output } = await runPeer("ip", ["netns", "list"]).catch((error) => ({
    code: 1,
    output: String(error),
  }));
  if (code !== 0) return;
  for (const [name, pid] of output.matchAll(/^nk(\d+)[xl-][^\s]*/gm)) {
    const isRunning = await Deno.stat(`/proc/${pid}`).then(() => true, () => false);
    // Another run may have done it meanwhile.
    if (!isRunning) await runPeer("ip", ["netns", "del", name]);
  }
}

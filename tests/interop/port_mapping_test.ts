// Ports on a router by PCP and UPnP: two homes behind symmetric NATs, one with miniupnpd, connect without a relay.
import { assertEquals, assertMatch } from "@std/assert";
import { LAB, labObstacle, NatLab } from "./_natlab.ts";
import { peerTest, runPeer } from "./_peers.ts";
import { crossAgents, NATKIT } from "./ice_agents.ts";

const root = new URL("../../", import.meta.url).pathname;
const PEERS_NPM = Deno.env.get("PEERS_NPM") ?? "$PEERS_NPM";
/** miniupnpd serves no addresses that are for documentation, as the lab's are. Nothing of it leaves the namespaces. */
const EXTERNAL = "45.0.2.1";
const MINIUPNPD = {
  programs: [...LAB.programs, "miniupnpd"],
  install: `${LAB.install}; apt-get install -y miniupnpd-nftables`,
};
const UPNP_PACKAGE = `${PEERS_NPM}/node_modules/@achingbrain/nat-port-mapper/package.json`;
const obstacle = await labObstacle();

function labTest(name: string, peers: typeof MINIUPNPD, fn: () => Promise<void>): void {
  if (obstacle === undefined) peerTest(name, peers, fn);
  else Deno.test({ name: `${name} (skipped, ${obstacle})`, ignore: true, fn });
}

async function ip(...args: readonly string[]): Promise<void> {
  const { code, output } = await runPeer("ip", args);
  assertEquals(code, 0, output);
}

const RULES = `
insert rule ip natlab through iifname wan ct status dnat accept
table inet filter {
  chain forward { type filter hook forward priority 10; jump miniupnpd; }
  chain miniupnpd { }
  chain prerouting { type nat hook prerouting priority -110; jump prerouting_miniupnpd; }
  chain prerouting_miniupnpd { }
  chain postrouting { type nat hook postrouting priority 90; jump postrouting_miniupnpd; }
  chain postrouting_miniupnpd { }
}`;

/** A lab of two symmetric NATs, with miniupnpd on the first. */
async function routerLab(): Promise<{ readonly lab: NatLab; readonly router: Router }> {
  const lab = await NatLab.up({ a: "symmetric", b: "symmetric" });
  try {
    await ip("-n", `${lab.name}-natA`, "addr", "add", `${EXTERNAL}/32`, "dev", "wan");
    for (const node of ["pub", "natB"]) {
      await ip("-n", `${lab.name}-${node}`, "route", "add", `${EXTERNAL}/32`, "via", "198.51.100.11");
    }
    const folder = await Deno.makeTempDir({ prefix: "natkit-upnp-" });
    await Deno.writeTextFile(`${folder}/rules`, RULES);
    await ip(...lab.in("natA", "nft", "-f", `${folder}/rules`));
    return { lab, router: await Router.start(lab, folder) };
  } catch (error) {
    await lab[Symbol.asyncDispose]();
    throw error;
  }
}

/** miniupnpd, and what it says. */
class Router {
  #process: Deno.ChildProcess;
  #folder: string;
  #reading: Promise<void>;
  #text = "";
  #hasEnded = false;
  #heard: (() => void) | undefined;

  constructor(process: Deno.ChildProcess, folder: string) {
    this.#process = process;
    this.#folder = folder;
    this.#reading = this.#read();
  }

  static async start(lab: NatLab, folder: string): Promise<Router> {
    const settings = [
      "ext_ifname=wan",
      `ext_ip=${EXTERNAL}`,
      "listening_ip=lan",
      "enable_natpmp=yes",
      "enable_upnp=yes",
    ];
    const rules = ["allow 1024-65535 10.0.0.0/8 1024-65535", "deny 0-65535 0.0.0.0/0 0-65535"];
    const lines = [...settings, "secure_mode=yes", "uuid=00000000-0000-0000-0000-000000000001", ...rules, ""];
    await Deno.writeTextFile(`${folder}/conf`, lines.join("\n"));
    const args = lab.in("natA", "timeout", "60", "miniupnpd", "-d", "-f", `${folder}/conf`, "-P", `${folder}/pid`);
    const process = new Deno.Command("ip", { args, stdin: "null", stdout: "null", stderr: "piped" }).spawn();
    const router = new Router(process, folder);
    await router.says("Listening for NAT-PMP/PCP");
    return router;
  }

  /** Resolves when it has said this. */
  async says(text: string): Promise<void> {
    while (!this.#text.includes(text)) {
      if (this.#hasEnded) throw new Error(`miniupnpd has ended without "${text}": ${this.#text.slice(-1000)}`);
      await new Promise<void>((resolve) => this.#heard = resolve);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill("SIGTERM");
    await this.#reading;
    await this.#process.status;
    await Deno.remove(this.#folder, { recursive: true });
  }

  async #read(): Promise<void> {
    for await (const chunk of this.#process.stderr.pipeThrough(new TextDecoderStream())) {
      this.#text += chunk;
      this.#heard?.();
    }
    this.#hasEnded = true;
    this.#heard?.();
  }
}

/** Both connect, and see the same path: from home a's port on the router, or from wherever b comes. */
async function connect(lab: NatLab, agent: readonly string[]): Promise<void> {
  const agents = [agent, [...NATKIT, "--role", "controlled"]] as const;
  const [a, b] = await crossAgents([["ip", ...lab.in("a", ...agents[0])], ["ip", ...lab.in("b", ...agents[1])]]);
  assertMatch(a.remote, / typ prflx/);
  assertMatch(b.remote, new RegExp(` ${EXTERNAL} \\d+ typ (srflx|prflx)`));
}

labTest(
  "Port mapping by PCP, miniupnpd: two symmetric NATs connect directly; the port is given back",
  MINIUPNPD,
  async () => {
    const { lab: up, router: daemon } = await routerLab();
    await using lab = up;
    await using router = daemon;
    await connect(lab, [...NATKIT, "--role", "controlling", "--map-ports", "--router", "10.1.0.1"]);
    await router.says("mapping removed");
  },
);

const UPNP = {
  programs: [...MINIUPNPD.programs, UPNP_PACKAGE],
  install: `${MINIUPNPD.install}; npm i @achingbrain/nat-port-mapper, in the folder that PEERS_NPM names`,
};
labTest("Port mapping by UPnP, miniupnpd and nat-port-mapper: the same", UPNP, async () => {
  const { lab: up, router: daemon } = await routerLab();
  await using lab = up;
  await using router = daemon;
  const script = `${root}tests/interop/_upnp_agent.ts`;
  const name = `npm:@achingbrain/nat-port-mapper@${JSON.parse(await Deno.readTextFile(UPNP_PACKAGE)).version}`;
  const options = ["--quiet", "--no-lock", `--config=${root}deno.json`];
  // In the lab there is no registry to get it from.
  const { code, output } = await runPeer(Deno.execPath(), ["cache", ...options, name]);
  assertEquals(code, 0, output);
  // Nobody is at the address that is asked by PCP.
  await connect(lab, [Deno.execPath(), "run", "-A", ...options, script, name, "10.1.0.77", "controlling"]);
  await router.says("removing redirect rule port");
});

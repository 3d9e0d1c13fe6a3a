// NATs made by the Linux kernel, in network namespaces. Our report names each one; two independent clients that ask our
// server agree; and our report says the same when it asks two independent servers.
import { assertEquals, assertStringIncludes } from "@std/assert";
import type { ClassicNatType } from "../../stun/nat_report.ts";
import { LAB, type LabKind, labObstacle, NatLab } from "./_natlab.ts";
import { type PeerPrograms, peerTest, runPeer, startPeer } from "./_peers.ts";

const root = new URL("../../", import.meta.url).pathname;
const RUN = [
  "run",
  "--quiet",
  "--no-check",
  "--unstable-net",
  "--allow-net",
  "--allow-sys",
  `--config=${root}deno.json`,
];
const obstacle = await labObstacle();

function labTest(name: string, peers: PeerPrograms, fn: (t: Deno.TestContext) => Promise<void>): void {
  if (obstacle === undefined) peerTest(name, peers, fn);
  else Deno.test({ name: `${name} (skipped, ${obstacle})`, ignore: true, fn });
}

interface Expected {
  readonly kind: LabKind;
  readonly classic: ClassicNatType;
  readonly mapping: string;
  readonly filtering: string;
  readonly portAllocation: string;
  /** What turnutils_natdiscovery says. */
  readonly theirs: readonly [mapping: string, filtering: string];
  /** What stun says. */
  readonly primary: string;
}

const [EI, AD, APD] = ["endpoint-independent", "address-dependent", "address-and-port-dependent"] as const;
const [THEIR_EI, THEIR_AD, THEIR_APD] = [
  "Endpoint Independent",
  "Address Dependent",
  "Address and Port Dependent",
] as const;
const KINDS: readonly Expected[] = [
  {
    kind: "open",
    classic: "open",
    mapping: EI,
    filtering: EI,
    portAllocation: "preserving",
    theirs: [THEIR_EI, THEIR_EI],
    primary: "Open",
  },
  {
    kind: "firewall",
    classic: "symmetric firewall",
    mapping: EI,
    filtering: APD,
    portAllocation: "preserving",
    theirs: [THEIR_EI, THEIR_APD],
    primary: "Firewall",
  },
  {
    kind: "fullcone",
    classic: "full cone",
    mapping: EI,
    filtering: EI,
    portAllocation: "preserving",
    theirs: [THEIR_EI, THEIR_EI],
    primary: "Independent Mapping, Independent Filter, preserves ports",
  },
  {
    kind: "restricted",
    classic: "restricted cone",
    mapping: EI,
    filtering: AD,
    portAllocation: "preserving",
    theirs: [THEIR_EI, THEIR_AD],
    primary: "Independent Mapping, Address Dependent Filter, preserves ports",
  },
  {
    kind: "port",
    classic: "port restricted cone",
    mapping: EI,
    filtering: APD,
    portAllocation: "preserving",
    theirs: [THEIR_EI, THEIR_APD],
    primary: "Independent Mapping, Port Dependent Filter, preserves ports",
  },
  {
    kind: "symmetric",
    classic: "symmetric",
    mapping: APD,
    filtering: APD,
    portAllocation: "random",
    theirs: [THEIR_APD, THEIR_APD],
    primary: "Dependent Mapping, random port",
  },
];

const COTURN = [
  ...[
    "turnserver",
    "-n",
    "--no-cli",
    "--log-file=stdout",
    "--no-tls",
    "--no-dtls",
    "--pidfile=/dev/null",
    "--db=:memory:",
  ],
  ...["--listening-ip=198.51.100.1", "--listening-ip=198.51.100.2", "--relay-ip=198.51.100.1"],
];

/** Our server in the public network, or another one. Ready when this resolves. */
async function startServer(lab: NatLab): Promise<AsyncDisposable> {
  const child = new Deno.Command("ip", {
    args: lab.in(
      "pub",
      Deno.execPath(),
      ...RUN,
      `${root}tests/interop/_stun_server.ts`,
      "198.51.100.1",
      "198.51.100.2",
    ),
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const output = child.stdout.getReader();
  await output.read();
  return {
    async [Symbol.asyncDispose]() {
      await child.stdin.close();
      await output.cancel();
      await child.status;
    },
  };
}

/** Our report, made by the command line in the home. */
async function report(lab: NatLab, ...options: readonly string[]): Promise<Record<string, unknown>> {
  const args = [...RUN, `${root}cli/main.ts`, "nat", "stun:198.51.100.1", "--json", ...options];
  const { code, output } = await runPeer("ip", lab.in("a", Deno.execPath(), ...args));
  assertEquals(code, 0, output);
  return JSON.parse(output);
}

/** Waits for all, so that no lab is left behind when one fails. */
async function together<T>(promises: Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(promises);
  return await Promise.all(promises);
}

function named({ classic, mapping, filtering, portAllocation }: Record<string, unknown>): unknown {
  return { classic, mapping, filtering, portAllocation };
}

labTest("Each NAT of the kernel's is named right by our report, and by two clients that ask our server", {
  programs: [...LAB.programs, "turnutils_natdiscovery", "stun"],
  install: `${LAB.install}; apt-get install -y coturn stun-client`,
}, async (t) => {
  // All labs at once: what is waited for is silence.
  const runs = await together(KINDS.map(async ({ kind }) => {
    await using lab = await NatLab.up({ a: kind });
    await using _server = await startServer(lab);
    return await Promise.all([
      report(lab),
      runPeer("ip", lab.in("a", "turnutils_natdiscovery", "-m", "-f", "198.51.100.1")),
      runPeer("ip", lab.in("a", "stun", "198.51.100.1")),
    ]);
  }));
  for (const [i, { theirs, primary, ...expected }] of KINDS.entries()) {
    await t.step(expected.kind, () => {
      const [ours, natdiscovery, stun] = runs[i]!;
      assertEquals(named(ours), named({ ...expected }));
      assertStringIncludes(natdiscovery.output, `NAT with ${theirs[0]} Mapping!`);
      assertStringIncludes(natdiscovery.output, `NAT with ${theirs[1]} Filtering!`);
      assertStringIncludes(stun.output, `Primary: ${primary}`);
    });
  }
});

labTest("UDP blocked is told so within its 7.5 s, and that coturn answers over TCP", {
  programs: [...LAB.programs, "turnserver"],
  install: `${LAB.install}; apt-get install -y coturn`,
}, async () => {
  await using lab = await NatLab.up({ a: "blocked" });
  await using _server = startPeer("ip", lab.in("pub", ...COTURN));
  const ours = await report(lab);
  assertEquals([ours.classic, ours.nat, ours.mapped, ours.answersTcp], ["blocked", false, null, true]);
  assertEquals((ours.duration as number) < 8500, true, String(ours.duration));
});

labTest("A kernel NAT that hairpins is told to, one that does not is not", LAB, async () => {
  const kinds = ["fullcone", "restricted"] as const;
  const cases = kinds.flatMap((kind) => [true, false].map((hairpin) => ({ kind, hairpin })));
  const found = await together(cases.map(async ({ kind, hairpin }) => {
    await using lab = await NatLab.up({ a: kind, env: { HAIRPIN: hairpin ? "1" : "0" } });
    await using _server = await startServer(lab);
    return { kind, hairpin: (await report(lab)).hairpin };
  }));
  assertEquals(found, cases);
});

labTest("A kernel NAT's lifetime is found to the second", LAB, async () => {
  const kinds = ["port", "symmetric", "fullcone"] as const;
  const found = await together(kinds.map(async (kind) => {
    await using lab = await NatLab.up({ a: kind, env: { UDP_TIMEOUT: "6" } });
    await using _server = await startServer(lab);
    const { lifetimeSeconds, lifetime } = await report(lab, "--lifetime-max", "12");
    return [kind, lifetimeSeconds, (lifetime as { method: string }).method];
  }));
  assertEquals(found, kinds.map((kind) => [kind, 6, "response-port"]));
});

labTest("Our report says the same of a NAT when it asks coturn or stund", {
  programs: [...LAB.programs, "turnserver", "stund"],
  install: `${LAB.install}; apt-get install -y coturn stun-server`,
}, async (t) => {
  const servers = {
    coturn: COTURN,
    stund: ["stund", "-h", "198.51.100.1", "-a", "198.51.100.2"],
  };
  const cases = KINDS.flatMap((expected) =>
    Object.entries(servers).map(([name, command]) => ({ expected, name, command }))
  );
  const reports = await together(cases.map(async ({ expected, command }) => {
    await using lab = await NatLab.up({ a: expected.kind });
    await using _server = startPeer("ip", lab.in("pub", ...command));
    return await report(lab);
  }));
  for (const [i, { expected, name }] of cases.entries()) {
    await t.step(`${expected.kind}, ${name}`, () => assertEquals(named(reports[i]!), named({ ...expected })));
  }
});

// `natkit nat` as its users run it, against `natkit serve` on two loopback addresses.
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { freePort } from "../free_port.ts";

const path = (file: string) => new URL(`../../${file}`, import.meta.url).pathname;
const NATKIT = [
  ...["run", "--quiet", "--no-prompt", "--allow-net", "--allow-sys=networkInterfaces"],
  ...["--config", path("deno.json"), path("cli/main.ts")],
];

/** The fields that programs may rely on, with what they may hold. */
const BEHAVIORS = ["endpoint-independent", "address-dependent", "address-and-port-dependent", "unknown"];
const FIELDS: Readonly<Record<string, (value: unknown) => boolean>> = {
  family: (value) => value === 4 || value === 6,
  local: (value) => typeof value === "string",
  mapped: (value) => typeof value === "string",
  nat: (value) => typeof value === "boolean",
  mapping: (value) => BEHAVIORS.includes(value as string),
  filtering: (value) => BEHAVIORS.includes(value as string),
  classic: (value) => typeof value === "string",
  hairpin: (value) => value === null || typeof value === "boolean",
  lifetimeSeconds: (value) => value === null || typeof value === "number",
  portAllocation: (value) => typeof value === "string",
  alg: (value) => value === null || typeof value === "boolean",
  fragments: (value) => typeof value === "string",
  reachableBy: (value) => Array.isArray(value),
};

function start(...args: string[]): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: [...NATKIT, ...args],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

async function run(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const { code, stdout, stderr } = await start(...args).output();
  return { code, stdout: new TextDecoder().decode(stdout), stderr: new TextDecoder().decode(stderr) };
}

Deno.test("natkit nat against natkit serve on 127.0.0.1 and 127.0.0.2: open; --json has the agreed fields", async () => {
  const port = freePort();
  const listen = ["--listen", `127.0.0.1:${port}`, "--listen", `127.0.0.2:${port}`];
  await using server = start("serve", "--json", "--io", "deno", ...listen);
  const reader = server.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let said = "";
  while (!said.includes("\n")) {
    const { done, value } = await reader.read();
    assert(!done, `natkit serve ended: ${said}`);
    said += value;
  }
  const addresses = [[1, port], [2, port], [1, port + 1], [2, port + 1]].map(([host, port]) =>
    `127.0.0.${host}:${port}`
  );
  assertEquals(JSON.parse(said).addresses, addresses);

  const json = await run("nat", `stun:127.0.0.1:${port}`, "--json");
  assertEquals([json.code, json.stderr], [0, ""]);
  const report = JSON.parse(json.stdout);
  for (const [field, fits] of Object.entries(FIELDS)) assert(fits(report[field]), `${field}: ${report[field]}`);
  const { family, nat, mapping, filtering, classic, alg, fragments, servers } = report;
  assertEquals(
    { family, nat, mapping, filtering, classic, alg, fragments },
    {
      family: 4,
      nat: false,
      mapping: "endpoint-independent",
      filtering: "endpoint-independent",
      classic: "open",
      alg: false,
      fragments: "pass",
    },
  );
  assertEquals([report.mapped, servers[0].otherAddress], [report.local, addresses[3]]);

  const words = await run("nat", `stun:127.0.0.2:${port}`);
  assertEquals([words.code, words.stderr], [0, ""]);
  assertStringIncludes(words.stdout, "Open: no NAT, and nothing filters UDP.");

  server.kill("SIGTERM");
  while (!(await reader.read()).done);
  await server.stderr.cancel();
  assertEquals((await server.status).code, 0);
});

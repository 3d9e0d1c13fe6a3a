import { assert, assertEquals, assertThrows } from "@std/assert";
import { IceAgent } from "../../ice/agent.ts";
import { openIce } from "../../ice/connect.ts";
import type { OpenIceOptions } from "../../ice/connection_options.ts";
import { predictMappings } from "../../ice/prediction.ts";
import { TransportAddress } from "../../stun/address.ts";
import { addHostBehind, type HostBehindOptions, VirtualWorld } from "../../stun/net/virtual/mod.ts";
import { serveTurn } from "../../turn/serve.ts";
import { seededRandom } from "../_recorder.ts";

const SERVER = "198.51.100.1";

/** What is predicted after ports were seen in this order. */
function predicted(ports: readonly number[], count = 4): number[] {
  const seen = ports.map((port, i) => ({ askedAt: i, mapped: TransportAddress.of("203.0.113.1", port) }));
  // Answers come in any order.
  return predictMappings(seen.toReversed(), count).map(({ port }) => port);
}

Deno.test("Port prediction: ports that follow each other go on, up or down, with others' mappings in between", () => {
  assertEquals(predicted([5000, 5001]), [5002, 5003, 5004, 5005]);
  assertEquals(predicted([5000, 5002, 5004]), [5006, 5008, 5010, 5012]);
  assertEquals(predicted([5010, 5009]), [5008, 5007, 5006, 5005]);
  assertEquals(predicted([5000, 5003, 5004]), [5005, 5006, 5007, 5008]);
  assertEquals(predicted([5000, 5004, 5010]), [5012, 5014, 5016, 5018]);
  assertEquals(predicted([5000, 5002]), [5003, 5004, 5005, 5006], "two alone: somebody else may have had 5001");
  assertEquals(predicted([5000, 5010]), [5020, 5030, 5040, 5050]);
  assertEquals(predicted([65533, 65534]), [65535]);
});

Deno.test("Port prediction: nothing is guessed of one answer, of one port for all, or of dice", () => {
  for (const ports of [[], [5000], [5000, 5000], [5000, 9000], [5000, 5001, 4999], [5000, 5001, 5030]]) {
    assertEquals(predicted(ports), [], String(ports));
  }
  const other = { askedAt: 5, mapped: TransportAddress.of("203.0.113.9", 5001) };
  assertEquals(predictMappings([{ askedAt: 1, mapped: TransportAddress.of("203.0.113.1", 5000) }, other], 4), []);
});

Deno.test("Port prediction: 0 to 16 guesses", () => {
  for (const predictPorts of [-1, 17, 1.5]) {
    assertThrows(
      () => new IceAgent({ role: "controlling", random: seededRandom(1), predictPorts }),
      RangeError,
      "0 to 16",
    );
  }
});

/** Two agents behind NATs with two STUN servers: how they got together, and what each sent. */
async function meet(
  a: { nat: HostBehindOptions["nat"]; type: HostBehindOptions["type"]; options?: OpenIceOptions },
  b: { nat: HostBehindOptions["nat"]; type: HostBehindOptions["type"]; options?: OpenIceOptions },
) {
  const world = new VirtualWorld({ seed: 1, link: { delay: 10 } });
  const host = world.addHost("server", { addresses: [SERVER] });
  const sides = [a, b].map(({ type, nat }, i) =>
    addHostBehind(world, {
      name: i === 0 ? "a" : "b",
      type,
      external: `203.0.113.${i + 1}`,
      internal: "192.168.1.2",
      ...(nat === undefined ? {} : { nat }),
    })
  );
  return await world.run(async () => {
    await using _server = serveTurn({
      host,
      listen: [`${SERVER}:3478`, `${SERVER}:3480`],
      realm: "example.org",
      users: { alice: "secret" },
      allowPeers: ["198.51.100.0/24", "203.0.113.0/24"],
    });
    const open = (i: 0 | 1, options: OpenIceOptions = {}) =>
      openIce({
        host: sides[i]!.host,
        role: i === 0 ? "controlling" : "controlled",
        stunServers: [`stun:${SERVER}`, `stun:${SERVER}:3480`],
        turnServers: [{ urls: `turn:${SERVER}`, username: "alice", credential: "secret" }],
        ...options,
      });
    await using one = open(0, a.options);
    await using other = open(1, b.options);
    const [ofOne, ofOther] = await Promise.all([one.localDescription(), other.localDescription()]);
    const startedAt = world.now;
    one.addRemoteDescription(ofOther);
    other.addRemoteDescription(ofOne);
    const [pair] = await Promise.all([one.nominated, other.nominated]);
    const guessed = [ofOne, ofOther].map((text) => text.match(/typ srflx|srflx/g)?.length ?? 0);
    return { path: `${pair.local.type}/${pair.remote.type}`, ms: world.now - startedAt, guessed };
  });
}

const sequential = { portAllocation: "sequential" } as const;
const predictPorts = 8;

Deno.test("Port prediction: symmetric NAT with ports in sequence and port restricted cone: directly, without it by relay", async () => {
  const symmetric = { type: "symmetric", nat: sequential } as const;
  const cone = { type: "port restricted cone", nat: {} } as const;
  const relayed = await meet(symmetric, cone);
  assert(relayed.path.includes("relay"), relayed.path);
  for (const isSwapped of [false, true]) {
    const guessing = { ...symmetric, options: { predictPorts } };
    const { path, ms } = isSwapped ? await meet(cone, guessing) : await meet(guessing, cone);
    assert(!path.includes("relay"), path);
    assert(ms < 1500, `${ms} ms`);
  }
});

Deno.test("Port prediction: two symmetric NATs with ports in sequence: directly; with random ports by relay as ever", async () => {
  const guessing = { type: "symmetric", nat: sequential, options: { predictPorts } } as const;
  const direct = await meet(guessing, guessing);
  assert(!direct.path.includes("relay"), direct.path);
  const dice = { ...guessing, nat: { portAllocation: "random" } } as const;
  assert((await meet(dice, dice)).path.includes("relay"));
});

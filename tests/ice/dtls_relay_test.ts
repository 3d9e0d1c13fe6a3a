// ICE by relays that are reached over DTLS, in virtual time.
import { assertEquals } from "@std/assert";
import { openIce } from "../../ice/mod.ts";
import { VirtualWorld } from "../../stun/net/virtual/mod.ts";
import { serveTurn } from "../../turn/serve.ts";

const SERVER = "198.51.100.1";
const TURN = { urls: `turns:${SERVER}:5349?transport=udp`, username: "alice", credential: "secret" };

Deno.test("RFC 7065 §3.1: turns:...?transport=udp is a relay over DTLS, and two agents meet by it", async () => {
  const world = new VirtualWorld({ link: { delay: 10 } });
  const server = world.addHost("server", { addresses: [SERVER] });
  const [one, other] = [1, 2].map((i) =>
    world.addNat(`nat${i}`, { external: [`203.0.113.${i}`] }).addHost(`host${i}`, { addresses: ["192.168.1.2"] })
  );
  const seen = new Set<string>();
  world.trace = ({ node, step, bytes, tcp }) => {
    if (node === "host1" && step === "sent") seen.add(tcp === undefined ? bytes[0]! >= 20 ? "dtls" : "plain" : "tcp");
  };
  await world.run(async () => {
    await using serving = serveTurn({
      ...{ host: server, listen: [`${SERVER}:3478`], listenTls: [`${SERVER}:5349`], realm: "example.org" },
      ...{ users: { alice: "secret" }, tls: { certificate: SERVER, key: "" } },
    });
    assertEquals(serving.transports, [["udp", "tcp", "tls", "dtls"], ["tls", "dtls"]]);
    const common = { policy: "relay", turnServers: [TURN], tcp: "none" } as const;
    await using a = openIce({ host: one!, role: "controlling", ...common });
    await using b = openIce({ host: other!, role: "controlled", ...common });
    a.addRemoteDescription(await b.localDescription());
    b.addRemoteDescription(await a.localDescription());
    await Promise.all([a.connected, b.connected]);
    a.send(new TextEncoder().encode("hello"));
    for await (const data of b) {
      assertEquals(new TextDecoder().decode(data), "hello");
      break;
    }
    assertEquals([serving.streamStats().accepted, serving.stats().allocations], [2, 2]);
  });
  assertEquals([...seen], ["dtls"]);
});

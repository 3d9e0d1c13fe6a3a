import { assertEquals, assertThrows } from "@std/assert";
import { OpenError } from "../../../../stun/net/transport.ts";
import { VirtualWorld } from "../../../../stun/net/virtual/mod.ts";
import { answer, dial } from "./stream_rig.ts";

const SERVER = "198.51.100.1:3478";

function direct() {
  const world = new VirtualWorld({ link: { delay: 10 } });
  const server = world.addHost("server", { addresses: ["198.51.100.1"] });
  const alice = world.addHost("alice", { addresses: ["203.0.113.1"] });
  return { world, server, alice };
}

const TLS = { tls: { certificate: "one.example *.two.example", key: "" } };

Deno.test("TLS takes two round trips more, and is for certain names", () => {
  const { world, server, alice } = direct();
  const { ends } = answer(server, "198.51.100.1:443", { transport: "tls", ...TLS });
  const to = (serverName?: string, more = {}) =>
    dial(alice, "198.51.100.1:443", { transport: "tls", tls: { ...(serverName && { serverName }), ...more } });
  const one = to("ONE.example", { alpn: ["stun.turn"] });
  const two = to("a.two.example");
  const wrong = [to("two.example"), to("a.b.two.example"), to()];
  const lax = to(undefined, { insecureAcceptAnyCertificate: true });
  world.advance(1000);
  assertEquals([one.log, two.log, lax.log], [["120 open"], ["120 open"], ["120 open"]]);
  for (const { log, error } of wrong) {
    assertEquals(log, ["80 certificate"]);
    assertEquals(error!.message, "Cannot connect to TLS 198.51.100.1:443: its certificate can not be trusted");
  }
  assertEquals([one.stream!.transport, one.stream!.alpn, two.stream!.alpn], ["tls", "stun.turn", undefined]);
  one.say("hello");
  world.runUntilIdle();
  assertEquals(ends[0]!.log.slice(0, 2), ["60 open", "1020 hello"]);
  assertEquals([ends[0]!.stream!.transport, ends[0]!.stream!.alpn], ["tls", "stun.turn"]);
  assertEquals(ends[2]!.log, ["60 open", "100 reset"]);
});

Deno.test("RFC 7301 §3.2: no protocol in common, no connection; SNI picks the certificate, which can be replaced", () => {
  const { world, server, alice } = direct();
  const names = new Map([["Two.example", { certificate: "two.example", key: "" }]]);
  const tls = { certificate: "one.example", key: "", names };
  const { listener } = answer(server, "198.51.100.1:443", { transport: "tls", tls });
  const to = (serverName: string, alpn: string[] = []) =>
    dial(alice, "198.51.100.1:443", { transport: "tls", tls: { serverName, alpn } });
  const all = [to("one.example"), to("two.example"), to("one.example", ["h2"])];
  world.runUntilIdle();
  assertEquals(all.map(({ error }) => error?.failure), [undefined, undefined, "other"]);
  listener.setTls({ certificate: "new.example", key: "" });
  const later = [to("one.example"), to("new.example")];
  world.runUntilIdle();
  assertEquals(later.map(({ error }) => error?.failure), ["certificate", undefined]);
  assertThrows(() => answer(server, "198.51.100.1:5349", { transport: "tls" }), OpenError, "without a certificate");
});

Deno.test("RFC 8489 §8.1: one port serves TCP and TLS, the first byte tells; a port for one refuses the other", () => {
  const { world, server, alice } = direct();
  const { ends } = answer(server, SERVER, { transport: "tcp+tls", ...TLS });
  answer(server, "198.51.100.1:443", { transport: "tls", ...TLS });
  const plain = dial(alice, SERVER);
  const secure = dial(alice, SERVER, { transport: "tls", tls: { serverName: "one.example" } });
  const wrong = dial(alice, "198.51.100.1:443");
  world.advance(1000);
  for (const end of [plain, secure, wrong]) end.say("hello");
  world.runUntilIdle();
  assertEquals(ends.map(({ stream, log }) => [stream!.transport, log.at(-1)]), [
    ["tcp", "1020 hello"],
    ["tls", "1020 hello"],
  ]);
  // A server that does not speak TLS: what comes is no handshake.
  answer(server, "198.51.100.1:80");
  const nobody = dial(alice, "198.51.100.1:80", { transport: "tls" });
  world.advance(1000);
  assertEquals(nobody.log, []);
});

Deno.test("Paused right after the handshake, and with what came with its last flight", () => {
  const { world, server, alice } = direct();
  const { ends } = answer(server, "198.51.100.1:443", { transport: "tls", ...TLS });
  const a = dial(alice, "198.51.100.1:443", {
    ...{ transport: "tls", tls: { serverName: "one.example" }, isReading: false },
  });
  while (ends[0] === undefined) world.step();
  world.advance(40); // the server's end is through at 100 ms, the client's at 120
  ends[0].say("early");
  world.runUntilIdle();
  assertEquals(a.log, ["120 open"]);
  a.stream!.resume();
  world.runUntilIdle();
  assertEquals(a.log.at(-1)!.split(" ")[1], "early");
});

import { assertEquals } from "@std/assert";
import { TransportAddress } from "../../stun/address.ts";
import { ServerTrail } from "../../stun/alternate.ts";
import { bytesAttribute } from "../../stun/attribute.ts";
import { ALTERNATE_DOMAIN, ALTERNATE_SERVER } from "../../stun/attributes.ts";
import { MessageWriter, METHOD, StunMessage } from "../../stun/message.ts";

const RAW_DOMAIN = bytesAttribute(ALTERNATE_DOMAIN.type, "ALTERNATE-DOMAIN");

function redirect(servers: readonly string[], domain?: string | Uint8Array): StunMessage {
  const writer = new MessageWriter(new Uint8Array(1024)).begin(METHOD.BINDING, "error", new Uint8Array(12));
  for (const server of servers) writer.add(ALTERNATE_SERVER, TransportAddress.parse(server));
  if (domain !== undefined) {
    writer.add(RAW_DOMAIN, typeof domain === "string" ? new TextEncoder().encode(domain) : domain);
  }
  return StunMessage.parse(writer.finish())!;
}

function trail(first = "192.0.2.1:3478"): ServerTrail {
  return new ServerTrail(TransportAddress.parse(first));
}

Deno.test("RFC 8489 §10: the alternate of the same IP version is taken, wherever it stands", () => {
  for (const [first, next] of [["192.0.2.1:3478", "192.0.2.2:3479"], ["[2001:db8::1]:3478", "[2001:db8::2]:3480"]]) {
    const way = trail(first);
    const route = way.follow(redirect(["[2001:db8::2]:3480", "192.0.2.2:3479"]));
    assertEquals([String(route.next), String(way.current), route.fault], [next!, next!, undefined]);
    assertEquals(route.alternates.length, 2);
  }
});

Deno.test("RFC 8489 §10: without an alternate of the same IP version there is none to go to", () => {
  for (const servers of [[], ["[2001:db8::2]:3478"]]) {
    const way = trail();
    const route = way.follow(redirect(servers));
    assertEquals([route.next, route.fault], [undefined, "it names no server of IPv4"]);
    assertEquals(String(way.current), "192.0.2.1:3478");
  }
});

Deno.test("RFC 8489 §10: no server is asked twice, itself neither, and no more than four", () => {
  const way = trail();
  assertEquals(way.follow(redirect(["192.0.2.1:3478"])).next, undefined);
  assertEquals(String(way.follow(redirect(["192.0.2.2:3478"])).next), "192.0.2.2:3478");
  const back = way.follow(redirect(["192.0.2.1:3478"]));
  assertEquals(back.fault, "it names 192.0.2.1:3478, and there is no end to it");
  const ports = [1, 2, 3].map((port) => way.follow(redirect([`192.0.2.1:${port}`])).next?.port);
  assertEquals(ports, [1, 2, undefined]);
});

Deno.test("RFC 8489 §10: ALTERNATE-DOMAIN is the name for the certificate; what is no host name is none", () => {
  const to = ["192.0.2.2:3478"];
  assertEquals(trail().follow(redirect(to)).domain, undefined);
  assertEquals(trail().follow(redirect(to, "turn.example.org")).domain, "turn.example.org");
  for (const domain of ["", "a b", "*.example.org", "a\nb", "x".repeat(64), "a..b", new Uint8Array([0xff])]) {
    assertEquals(trail().follow(redirect(to, domain)).domain, undefined, `${domain}`);
  }
});

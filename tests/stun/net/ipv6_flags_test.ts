import { assertEquals } from "@std/assert";
import { parseFlags } from "../../../stun/net/ipv6_flags.ts";
import { denoHost } from "../../../stun/net/deno_host.ts";

Deno.test("I33: Linux's /proc/net/if_inet6 tells temporary and deprecated addresses", () => {
  const text = [
    "00000000000000000000000000000001 01 80 10 80       lo",
    "20010db8000000000000000000000001 02 40 00 00     eth0",
    "20010db80000000000000000000000a1 02 40 00 01     eth0",
    "20010db80000000000000000000000b1 02 40 00 21     eth0",
    "fe800000000000000000000000000001 02 40 20 80     eth0",
    "nonsense",
    "",
  ].join("\n");
  const flags = [...parseFlags(text)].map(([address, { isTemporary, isDeprecated }]) =>
    `${address} ${isTemporary ? "temporary" : "lasting"}${isDeprecated ? " deprecated" : ""}`
  );
  assertEquals(flags, [
    "::1 lasting",
    "2001:db8::1 lasting",
    "2001:db8::a1 temporary",
    "2001:db8::b1 temporary deprecated",
    "fe80::1 lasting",
  ]);
});

Deno.test("The interfaces of this computer have names and addresses", () => {
  const interfaces = denoHost().interfaces();
  assertEquals(interfaces.some(({ address }) => address === "127.0.0.1" || address === "::1"), true);
  assertEquals(interfaces.every(({ name, address }) => name !== "" && !address.includes("%")), true);
});

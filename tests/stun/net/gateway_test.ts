import { assertEquals } from "@std/assert";
import { gatewayOf, guessGateway } from "../../../stun/net/gateway.ts";

const HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";

Deno.test("Gateway: the default route of Linux with the lowest metric", () => {
  const routes = HEAD + "eth0\t00000000\t010010AC\t0003\t0\t0\t100\t00000000\t0\t0\t0\n" +
    "wlan0\t00000000\tFE01A8C0\t0003\t0\t0\t50\t00000000\t0\t0\t0\n" +
    "eth0\t001010AC\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n" +
    // A tunnel without a router.
    "tun0\t00000000\t00000000\t0001\t0\t0\t10\t00000000\t0\t0\t0\n";
  assertEquals(gatewayOf(routes), "192.168.1.254");
  assertEquals(gatewayOf(HEAD), undefined);
  assertEquals(gatewayOf("eth0 00000000 nonsense 3 0 0 0 00000000\n".repeat(2)), undefined);
});

Deno.test("Gateway: guessed as the first address of a private network", () => {
  const lo = { address: "127.0.0.1", netmask: "255.0.0.0" };
  assertEquals(guessGateway([lo, { address: "192.168.7.33", netmask: "255.255.255.0" }]), "192.168.7.1");
  assertEquals(guessGateway([{ address: "10.20.30.40", netmask: "255.255.240.0" }]), "10.20.16.1");
  assertEquals(guessGateway([lo, { address: "203.0.113.5", netmask: "255.255.255.0" }]), undefined);
});

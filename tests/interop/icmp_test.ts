// The kernel's own routers tell of links that are too narrow: RFC 8656's DONT-FRAGMENT and ICMP from end to end.
import { assertEquals } from "@std/assert";
import { LAB, labObstacle, NatLab } from "./_natlab.ts";
import { peerTest, runPeer } from "./_peers.ts";

const root = new URL("../../", import.meta.url).pathname;
const run = ["run", "--quiet", "--no-check", "--unstable-net", "--allow-net", "--allow-sys", "--allow-ffi"];
const name = "RFC 8656 §11.5, §14, T11, T29, T30: a client hears of a narrow link on the way, with DF only";
const obstacle = Deno.build.os === "linux" ? await labObstacle() : "needs Linux";

if (obstacle !== undefined) Deno.test({ name: `${name} (skipped, ${obstacle})`, ignore: true, fn() {} });
else {
  peerTest(name, LAB, async () => {
    await using lab = await NatLab.up({ a: "open", b: "open" });
    for (const [node, device] of [["natB", "lan"], ["b", "eth"]] as const) {
      assertEquals((await runPeer("ip", lab.in(node, "ip", "link", "set", device, "mtu", "1000"))).code, 0);
    }
    const script = [
      `--config=${root}deno.json`,
      `${root}tests/interop/icmp_sender.ts`,
      "198.51.100.1",
      "10.2.0.2:7000",
    ];
    const { code, output } = await runPeer("ip", lab.in("pub", Deno.execPath(), ...run, ...script), 20_000);
    assertEquals(output.trim().split("\n"), [
      "1200 DF: 10.2.0.2:7000 3 4 1000",
      "1200 DF: 10.2.0.2:7000 3 4 1000",
      "1200 --: 10.2.0.2:7000 3 3 0",
      "1600 DF: 10.2.0.2:0 3 4 1500",
      "100 DF: 10.2.0.2:7000 3 3 0",
    ]);
    assertEquals(code, 0);
  });
}

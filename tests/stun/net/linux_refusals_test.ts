// What the kernel refuses to send, in a network namespace of our own: a path too narrow for segments, a full buffer.
import { assert, assertEquals } from "@std/assert";
import { pickHost } from "../../../stun/net/linux_host.ts";

const canUnshare = pickHost("auto").io === "linux" && Deno.uid() === 0 &&
  await new Deno.Command("unshare", { args: ["-n", "true"] }).output().then(({ success }) => success, () => false);

async function inNamespace(setUp: string, task: string): Promise<Record<string, number>> {
  const script = new URL("linux_refusals.ts", import.meta.url).pathname;
  const command = `ip link set lo up && ${setUp} && exec "$0" run --quiet --allow-all --no-check "${script}" ${task}`;
  const { success, stdout, stderr } = await new Deno.Command("unshare", {
    args: ["-n", "sh", "-c", command, Deno.execPath()],
  }).output();
  assert(success, new TextDecoder().decode(stderr));
  return JSON.parse(new TextDecoder().decode(stdout));
}

Deno.test({
  name: "Linux UDP: where the path is too narrow for segments, all arrives all the same",
  ignore: !canUnshare,
  async fn() {
    const result = await inNamespace("ip link set lo mtu 1500", "narrow");
    // Fragments, then: 3000 bytes do not fit into 1500.
    assertEquals(result, { got: 256, sendErrors: 0, sendBufferFull: 0 });
  },
});

Deno.test({
  name: "Linux UDP: what a full send buffer refuses is counted, and the socket goes on",
  ignore: !canUnshare,
  async fn() {
    const result = await inNamespace("tc qdisc add dev lo root tbf rate 10mbit burst 3000 latency 10s", "full");
    assert(result["sendBufferFull"]! > 0, JSON.stringify(result));
    assertEquals(result["sendErrors"], result["sendBufferFull"]);
    assertEquals(result["got"], 201 - result["sendErrors"]!);
  },
});

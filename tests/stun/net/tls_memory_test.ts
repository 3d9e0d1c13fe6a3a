import { assert } from "@std/assert";

Deno.test("TLS: a handshake that is broken off leaves nothing behind, however many there are", async () => {
  const root = new URL("../../../", import.meta.url).pathname;
  const flags = ["run", "--quiet", "--no-check", "--unstable-net", "-A", "--v8-flags=--expose-gc"];
  const { code, stdout } = await new Deno.Command(Deno.execPath(), {
    args: [...flags, `--config=${root}deno.json`, `${root}tests/stun/net/tls_memory.ts`],
    stdout: "piped",
  }).output();
  const bytes = Number(new TextDecoder().decode(stdout));
  // Two hundred of them, with what the runtime compiles and caches meanwhile: a socket that stays would be 8,000 each.
  assert(code === 0 && bytes < 3000, `${bytes} bytes each`);
});

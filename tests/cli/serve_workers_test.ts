import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { main } from "../../cli/main.ts";
import { pickHost } from "../../stun/net/linux_host.ts";
import { TransportAddress } from "../../stun/mod.ts";
import { allocate, TurnError } from "../../turn/mod.ts";
import { FakeTerminal } from "./_terminal.ts";

const ignore = pickHost("auto").io !== "linux";
const BASICS = ["--listen", "127.0.0.1:0", "--realm", "example.org"];

Deno.test({
  name: "serve --workers: a file's users at all workers, also after it has changed; counters of all at the end",
  ignore,
  async fn() {
    const folder = await Deno.makeTempDir();
    const terminal = new FakeTerminal();
    try {
      await Deno.writeTextFile(`${folder}/users`, "alice:secret\n");
      const exit = main(["serve", "--json", "--workers", "2", "--users-file", `${folder}/users`, ...BASICS], terminal);
      const kind = (t: string) => terminal.line((text) => JSON.parse(text).t === t);
      const { addresses: [address], workers, io } = JSON.parse(await kind("listening"));
      assertEquals([workers, io], [2, "linux"]);
      const server = TransportAddress.parse(address);
      const code = async (username: string, password: string) => {
        try {
          await using _relay = await allocate({ server, username, password });
          return 0;
        } catch (error) {
          assert(error instanceof TurnError);
          return error.code;
        }
      };
      for (let i = 0; i < 6; i++) assertEquals(await code("alice", "secret"), 0);
      await Deno.writeTextFile(`${folder}/users`, "bob:hidden\n");
      await kind("reloaded");
      for (let i = 0; i < 6; i++) assertEquals([await code("alice", "secret"), await code("bob", "hidden")], [401, 0]);
      terminal.interrupt();
      assertEquals(await exit, 0);
      const { allocationsTotal, errors } = JSON.parse(await kind("stats"));
      assertEquals(allocationsTotal, 12);
      assert(errors["401"] >= 18, "a challenge for each, and 6 refusals");
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});

Deno.test("serve --workers: what does not fit is wrong usage", async () => {
  const fails = async (...args: string[]) => {
    const terminal = new FakeTerminal();
    assertEquals(await main(["serve", ...BASICS, "--user", "a:b", ...args], terminal), 2);
    return terminal.stderr.join("\n");
  };
  assertStringIncludes(await fails("--workers", "0"), "--workers");
  assertStringIncludes(await fails("--workers", "two"), "--workers");
  assertStringIncludes(await fails("--gather", "9"), "0 to 5");
  assertStringIncludes(await fails("--workers", "2", "--io", "deno"), "Linux back end");
});

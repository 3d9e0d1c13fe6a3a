// OpenSSL's own client against serveTurn().
import { assertEquals } from "@std/assert";
import { serveTurn } from "../../turn/serve.ts";
import { peerTest, runPeer } from "./_peers.ts";

const OPENSSL = { programs: ["openssl"], install: "apt-get install -y openssl" };
const FOLDER = new URL("../vectors/tls/", import.meta.url).pathname;
const read = (name: string) => Deno.readTextFileSync(`${FOLDER}${name}.pem`);
const names = new Map([["two.example", { certificate: read("two"), key: read("two_key") }]]);
const TLS = { certificate: read("one"), key: read("one_key"), names };

peerTest(
  "RFC 8489 §6.2.3: openssl s_client over DTLS 1.2 to a UDP port; older versions are refused",
  OPENSSL,
  async () => {
    await using server = serveTurn({ listen: ["127.0.0.1:0"], realm: "r", users: {}, tls: TLS, dtls: true });
    const connect = (...args: string[]) => {
      const common = ["-brief", "-connect", String(server.addresses[0]), "-CAfile", `${FOLDER}ca.pem`];
      return runPeer("openssl", ["s_client", ...common, "-verify_return_error", ...args], 10_000);
    };
    for (const name of ["one.example", "two.example"]) {
      const { output } = await connect("-dtls1_2", "-servername", name, "-verify_hostname", name, "-mtu", "300");
      const found = /Protocol version: (.*)/.exec(output)?.[1];
      assertEquals([found, output.includes("Verification: OK")], ["DTLSv1.2", true], output);
    }
    // Its handshake came in many small datagrams, and still the cookie was before the state.
    assertEquals([server.streamStats().accepted, server.streamStats().challenged], [2, 2]);
    const { output } = await connect("-dtls1", "-cipher", "DEFAULT@SECLEVEL=0");
    assertEquals(output.includes("Verification: OK"), false, output);
  },
);

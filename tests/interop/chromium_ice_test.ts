// ICE between openIce() and Chromium's RTCPeerConnection, both roles, host and relay, through our TURN server over UDP, TCP and
// TLS. ICE only: natkit has no DTLS, so its session description names a certificate that nobody has, and what Chromium
// sends of its handshake is the data that has to arrive.
import { assert, assertEquals } from "@std/assert";
import { hostAddresses, openIceMux } from "../../ice/mod.ts";
import { denoHost } from "../../stun/net/deno_host.ts";
import { serveTurn, type TurnServerHandle } from "../../turn/mod.ts";
import { Chromium } from "./_chromium.ts";
import { meet, type Meeting } from "./_chromium_ice.ts";
import { peerTest } from "./_peers.ts";

const CHROMIUM = { programs: ["chromium"], install: "apt-get install -y chromium" };
const SHOWN = ["--disable-features=WebRtcHideLocalIpsWithMdns", "--allow-loopback-in-peer-connection"];
/** A description without its candidates for UDP. */
const withoutUdp = (sdp: string) => sdp.replaceAll(/^a=candidate:\S+ \d udp .*\r?\n/gim, "");

/** Both mean the same pair, have different roles, and see these types: Chromium's first. */
function assertAgreed({ chromium, natkit }: Meeting, [type, natkitType]: readonly [string, string]): void {
  assertEquals([chromium.state, natkit.state], ["succeeded", "succeeded"]);
  assert(chromium.role !== natkit.role, `both are ${natkit.role}`);
  assertEquals(chromium.addresses.toReversed(), natkit.addresses);
  assertEquals([chromium.types[0], natkit.types[0]], [type, natkitType]);
}

function serve(): TurnServerHandle {
  const read = (name: string) => Deno.readTextFileSync(new URL(`../vectors/tls/${name}.pem`, import.meta.url));
  return serveTurn({
    listen: ["127.0.0.1:0"],
    tls: { certificate: read("one"), key: read("one_key") },
    realm: "example.org",
    users: { alice: "secret" },
    allowPeers: ["127.0.0.0/8"],
  });
}

peerTest("openIce() and Chromium, host: connected, with the same pair", CHROMIUM, async (t) => {
  await using browser = await Chromium.launch(SHOWN);
  await t.step("natkit controlling", async () => {
    const meeting = await meet(browser, { offerer: "natkit" });
    assertAgreed(meeting, ["host", "host"]);
    assertEquals(meeting.natkit.role, "controlling");
  });
  await t.step("Chromium controlling", async () => {
    const meeting = await meet(browser, { offerer: "chromium" });
    assertAgreed(meeting, ["host", "host"]);
    assertEquals(meeting.natkit.role, "controlled");
  });
  for (const offerer of ["natkit", "chromium"] as const) {
    await t.step(`natkit lite, ${offerer} offering: Chromium is controlling`, async () => {
      const meeting = await meet(browser, { offerer, role: "controlled", ice: { lite: true } });
      assertAgreed(meeting, ["host", "host"]);
      assertEquals(meeting.chromium.role, "controlling");
    });
  }
  for (const [offerer, role] of [["natkit", "controlled"], ["chromium", "controlling"]] as const) {
    await t.step(`both ${role}: the conflict of roles is repaired`, async () => {
      assertAgreed(await meet(browser, { offerer, role }), ["host", "host"]);
    });
  }
});

peerTest("openIce() and Chromium that hides its addresses (mDNS): found by their checks", CHROMIUM, async (t) => {
  await using browser = await Chromium.launch(["--allow-loopback-in-peer-connection"]);
  for (const offerer of ["natkit", "chromium"] as const) {
    await t.step(`${offerer} controlling`, async () => {
      // Names are looked up in tests/interop/mdns_test.ts, where what is asked does not leave the machine.
      const { natkit, chromium } = await meet(browser, { offerer, ice: { mdns: "off" } });
      assertEquals([natkit.state, natkit.types, chromium.state], ["succeeded", ["host", "prflx"], "succeeded"]);
    });
  }
});

peerTest(
  "RFC 6544, I36: openIce() that listens and Chromium that connects by TCP, as UDP does not get through",
  CHROMIUM,
  async (t) => {
    await using browser = await Chromium.launch(SHOWN);
    for (const offerer of ["natkit", "chromium"] as const) {
      for (const lite of [false, true]) {
        await t.step(`${offerer} offering${lite ? ", natkit lite" : ""}`, async () => {
          const role = lite ? { role: "controlled" as const } : {};
          const ice = { tcp: "passive", lite } as const;
          const { natkit, chromium } = await meet(browser, { offerer, ice, filter: withoutUdp, ...role });
          assertEquals([natkit.state, chromium.state], ["succeeded", "succeeded"]);
          assertEquals(chromium.transports, [["tcp", "active"], ["tcp", "passive"]]);
          assertEquals([natkit.types, chromium.types[1]], [["host", "prflx"], "host"]);
          assertEquals(chromium.addresses[1], natkit.addresses[0]);
        });
      }
    }
    await t.step("on a port that connections share", async () => {
      const { address } = hostAddresses(denoHost()).find(({ family }) => family === 4)!;
      await using mux = openIceMux({ listen: [`${address}:0`], tcp: true });
      for (const offerer of ["natkit", "chromium"] as const) {
        const { natkit, chromium } = await meet(browser, { offerer, ice: { mux }, filter: withoutUdp });
        assertEquals([natkit.state, chromium.addresses[1]], ["succeeded", String(mux.addresses[0])]);
      }
      assertEquals(mux.streamCounters, { accepted: 2, unknown: 0, silent: 0, refused: 0 });
    });
  },
);

peerTest("openIce() and Chromium, relays only", CHROMIUM, async (t) => {
  await using server = serve();
  const address = server.addresses[0]!;
  await using browser = await Chromium.launch([...SHOWN, "--ignore-certificate-errors"]);
  const credentials = { username: "alice", credential: "secret" };
  const ice = {
    bind: ["127.0.0.1"],
    policy: "relay",
    turnServers: [{ urls: `turn:${address}`, ...credentials }],
  } as const;
  const ways = {
    udp: `turn:${address}?transport=udp`,
    tcp: `turn:${address}?transport=tcp`,
    tls: `turns:${address}?transport=tcp`,
  };
  for (const [way, urls] of Object.entries(ways)) {
    const config = { iceServers: [{ urls, ...credentials }], iceTransportPolicy: "relay" };
    for (const offerer of ["natkit", "chromium"] as const) {
      await t.step(`${way}, ${offerer} controlling`, async () => {
        const meeting = await meet(browser, { offerer, config, ice });
        assertAgreed(meeting, ["relay", "relay"]);
        assertEquals(meeting.chromium.relayProtocol, way);
      });
    }
  }
});

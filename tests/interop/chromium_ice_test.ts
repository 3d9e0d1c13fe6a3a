// ICE between openIce() and Chromium's RTCPeerConnection, both roles, host and relay, through our TURN server over UDP, TCP and
// TLS. ICE only: natkit has no DTLS, so its session description names a certificate that nobody has, and what Chromium
// sends of its handshake is the data that has to arrive.
import { assert, assertEquals } from "@std/assert";
import { hostAddresses, type IceConnection, type IceRole, openIce, type OpenIceOptions } from "../../ice/mod.ts";
import { denoHost } from "../../stun/net/deno_host.ts";
import { serveTurn, type TurnServerHandle } from "../../turn/mod.ts";
import { Chromium } from "./_chromium.ts";
import { peerTest } from "./_peers.ts";

const CHROMIUM = { programs: ["chromium"], install: "apt-get install -y chromium" };
const SHOWN = ["--disable-features=WebRtcHideLocalIpsWithMdns", "--allow-loopback-in-peer-connection"];
const TIME_LIMIT = 20_000;
/** The content type of a DTLS handshake record. */
const HANDSHAKE = 22;

/** Runs in the page: the description with all candidates, an offer or the answer to one. */
const DESCRIBE = `async ({ config, offer }) => {
  const agent = window.agent = new RTCPeerConnection(config);
  const gathered = new Promise((resolve) => {
    agent.onicegatheringstatechange = () => agent.iceGatheringState === "complete" && resolve();
  });
  if (offer === undefined) {
    agent.createDataChannel("data");
    await agent.setLocalDescription(await agent.createOffer());
  } else {
    await agent.setRemoteDescription({ type: "offer", sdp: offer });
    await agent.setLocalDescription(await agent.createAnswer());
  }
  await gathered;
  return agent.localDescription.sdp;
}`;

/** Runs in the page: waits until ICE is connected and Chromium's own check has succeeded; tells role and selected pair. */
const CONNECT = `async ({ answer, limit }) => {
  const { agent } = window;
  const connected = new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error("not connected in time: " + agent.iceConnectionState)), limit);
    const look = () => ["connected", "completed"].includes(agent.iceConnectionState) && resolve();
    agent.oniceconnectionstatechange = look;
    look();
  });
  if (answer !== undefined) await agent.setRemoteDescription({ type: "answer", sdp: answer });
  await connected;
  let stats, transport, pair;
  do {
    stats = await agent.getStats();
    transport = [...stats.values()].find(({ type }) => type === "transport");
    pair = stats.get(transport.selectedCandidatePairId);
  } while (pair?.state !== "succeeded" && agent.iceConnectionState !== "failed");
  const ends = [stats.get(pair.localCandidateId), stats.get(pair.remoteCandidateId)];
  return {
    role: transport.iceRole,
    state: pair.state,
    types: ends.map(({ candidateType }) => candidateType),
    addresses: ends.map(({ address, port }) => address + ":" + port),
    transports: ends.map(({ protocol, tcpType }) => [protocol, tcpType]),
    relayProtocol: ends[0].relayProtocol,
  };
}`;

const CLOSE = `() => window.agent.close()`;

interface Result {
  readonly role: IceRole;
  readonly state: string;
  readonly types: readonly string[];
  readonly addresses: readonly string[];
  readonly transports?: readonly (readonly string[])[];
  readonly relayProtocol?: string;
}

interface Meeting {
  readonly chromium: Result;
  readonly natkit: Omit<Result, "relayProtocol">;
}

/** A session with one data channel, as far as a browser wants to see it. */
async function sessionOf(connection: IceConnection, setup: "actpass" | "passive"): Promise<string> {
  const fingerprint = Array.from({ length: 32 }, (_, i) => (i + 16).toString(16).toUpperCase()).join(":");
  const lines = (await connection.localDescription("sdp")).trim().split("\r\n");
  // RFC 8839 §5.3: of the whole session.
  const isOfSession = (line: string) => line === "a=ice-lite";
  return [
    ...["v=0", "o=- 1 2 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0", ...lines.filter(isOfSession)],
    ...["m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "c=IN IP4 0.0.0.0"],
    ...lines.filter((line) => !isOfSession(line)),
    ...[`a=fingerprint:sha-256 ${fingerprint}`, `a=setup:${setup}`, "a=mid:0", "a=sctp-port:5000", ""],
  ].join("\r\n");
}

interface MeetOptions {
  /** Who offers is controlling (RFC 8839 §4.4.1). */
  readonly offerer: "natkit" | "chromium";
  /** Another role for natkit than that, for a conflict. */
  readonly role?: IceRole;
  readonly config?: Record<string, unknown>;
  readonly ice?: Partial<OpenIceOptions>;
  /** Neither side hears of the other's candidates for UDP. */
  readonly isUdpHidden?: boolean;
}

/** A description without its candidates for UDP. */
const withoutUdp = (sdp: string) => sdp.replaceAll(/^a=candidate:\S+ \d udp .*\r?\n/gim, "");

/** Lets both connect and gives what each has to say about it. */
async function meet(browser: Chromium, options: MeetOptions): Promise<Meeting> {
  const { offerer, role, config = {}, ice = {}, isUdpHidden = false } = options;
  const shown = (sdp: string) => isUdpHidden ? withoutUdp(sdp) : sdp;
  const handshake = Promise.withResolvers<void>();
  await using connection = openIce({
    role: role ?? (offerer === "natkit" ? "controlling" : "controlled"),
    // One address, so that there is one path.
    bind: [hostAddresses(denoHost()).find(({ family }) => family === 4)!.address],
    onDatagram: (bytes) => bytes[0] === HANDSHAKE && handshake.resolve(),
    ...ice,
  });
  const describe = (offer?: string) => browser.evaluate(DESCRIBE, { config, offer }) as Promise<string>;
  const connect = (answer?: string) => browser.evaluate(CONNECT, { answer, limit: TIME_LIMIT }) as Promise<Result>;
  try {
    let connected: Promise<Result>;
    if (offerer === "natkit") {
      connection.addRemoteDescription(shown(await describe(shown(await sessionOf(connection, "actpass")))));
      connected = connect();
    } else {
      connection.addRemoteDescription(shown(await describe()));
      connected = connect(shown(await sessionOf(connection, "passive")));
    }
    // It has gathered, but does not say so in what it described.
    connection.endOfCandidates();
    const [chromium, { local, remote, state }] = await Promise.all([connected, connection.nominated]);
    await handshake.promise;
    return {
      chromium,
      natkit: {
        role: connection.role,
        state,
        types: [local.type, remote.type],
        addresses: [String(local.address), String(remote.address)],
      },
    };
  } finally {
    await browser.evaluate(CLOSE, null);
  }
}

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
      const { natkit, chromium } = await meet(browser, { offerer });
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
          const { natkit, chromium } = await meet(browser, { offerer, ice, isUdpHidden: true, ...role });
          assertEquals([natkit.state, chromium.state], ["succeeded", "succeeded"]);
          assertEquals(chromium.transports, [["tcp", "active"], ["tcp", "passive"]]);
          assertEquals([natkit.types, chromium.types[1]], [["host", "prflx"], "host"]);
          assertEquals(chromium.addresses[1], natkit.addresses[0]);
        });
      }
    }
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

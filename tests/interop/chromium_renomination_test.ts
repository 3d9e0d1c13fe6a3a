// Renomination (draft-thatcher-ice-renomination) between openIce() and Chromium, which has the option only when its
// description is given it.
import { assert, assertEquals } from "@std/assert";
import { type CandidatePair, type IceConnection, openIce } from "../../ice/mod.ts";
import { Chromium } from "./_chromium.ts";
import { sessionOf } from "./_chromium_ice.ts";
import { peerTest } from "./_peers.ts";

const CHROMIUM = { programs: ["chromium"], install: "apt-get install -y chromium" };
const FLAGS = ["--disable-features=WebRtcHideLocalIpsWithMdns", "--allow-loopback-in-peer-connection"];

/** Runs in the page: the description with all candidates and the option, an offer or the answer to one. */
const DESCRIBE = `async ({ offer }) => {
  const agent = window.agent = new RTCPeerConnection();
  const gathered = new Promise((resolve) => {
    agent.onicegatheringstatechange = () => agent.iceGatheringState === "complete" && resolve();
  });
  if (offer === undefined) agent.createDataChannel("data");
  else await agent.setRemoteDescription({ type: "offer", sdp: offer });
  const { type, sdp } = offer === undefined ? await agent.createOffer() : await agent.createAnswer();
  await agent.setLocalDescription({ type, sdp: sdp.replace(/^a=ice-options:trickle/gm, "$& renomination") });
  await gathered;
  return agent.localDescription.sdp;
}`;

const ANSWER = `async (sdp) => void await window.agent.setRemoteDescription({ type: "answer", sdp })`;

/** Runs in the page: waits until its selected pair has this address of ours. */
const SELECTED = `async ({ address, port, limit }) => {
  let remote;
  for (const end = Date.now() + limit; Date.now() < end;) {
    const stats = await window.agent.getStats();
    const transport = [...stats.values()].find(({ type }) => type === "transport");
    remote = stats.get(stats.get(transport?.selectedCandidatePairId)?.remoteCandidateId);
    if (remote?.address.replace(/[[\\]]/g, "") === address && remote.port === port) break;
  }
  return remote?.address.replace(/[[\\]]/g, "") + " " + remote?.port;
}`;

/** What Chromium selects within 10 s, if it is this one. */
async function assertSelected(
  browser: Chromium,
  { local: { address: { address, port } } }: CandidatePair,
): Promise<void> {
  const selected = await browser.evaluate(SELECTED, { address, port, limit: 10_000 });
  assertEquals(selected, `${address} ${port}`);
}

/** A connection over IPv4 and IPv6, connected; the page is the other side. */
async function meet<T>(
  browser: Chromium,
  role: "controlling" | "controlled",
  program: (connection: IceConnection) => Promise<T>,
): Promise<T> {
  await using connection = openIce({ role, tcp: "none" });
  const describe = (offer?: string) => browser.evaluate(DESCRIBE, { offer }) as Promise<string>;
  try {
    if (role === "controlling") connection.addRemoteDescription(await describe(await sessionOf(connection, "actpass")));
    else {
      connection.addRemoteDescription(await describe());
      await browser.evaluate(ANSWER, await sessionOf(connection, "passive"));
    }
    connection.endOfCandidates();
    await connection.nominated;
    return await program(connection);
  } finally {
    await browser.evaluate("() => window.agent.close()", null);
  }
}

/** Waits until something holds, for 10 s at most. */
async function until(holds: () => boolean): Promise<void> {
  for (const end = Date.now() + 10_000; !holds() && Date.now() < end;) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert(holds());
}

peerTest(
  "Renomination: Chromium that does not control answers NOMINATION, and the connection goes on",
  CHROMIUM,
  async () => {
    await using browser = await Chromium.launch(FLAGS);
    await meet(browser, "controlling", async (connection) => {
      const first = connection.selectedPair!;
      await assertSelected(browser, first);
      await until(() => connection.standbyPairs.length > 0);
      const [second] = connection.standbyPairs as [CandidatePair];
      assertEquals(connection.selectPair(second), true);
      await until(() => second.nominated && connection.state === "completed");
      assertEquals([connection.selectedPair, second.nomination], [second, 2]);
      assertEquals(connection.selectPair(first), true);
      await until(() => first.nomination === 3);
      assertEquals([connection.selectedPair, connection.state], [first, "completed"]);
    });
  },
);

peerTest(
  "Renomination: Chromium that controls sends NOMINATION without USE-CANDIDATE, and is followed",
  CHROMIUM,
  async () => {
    await using browser = await Chromium.launch(FLAGS);
    await meet(browser, "controlled", async (connection) => {
      await assertSelected(browser, connection.selectedPair!);
      assert(connection.pairs.some(({ nominated, nomination }) => nominated && nomination > 0));
    });
  },
);

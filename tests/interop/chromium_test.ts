import { assertEquals } from "@std/assert";
import { serveTurn } from "../../turn/mod.ts";
import { Chromium } from "./_chromium.ts";
import { peerTest } from "./_peers.ts";

/** Runs in the page: two RTCPeerConnections, relay only, a data channel between them. */
const RELAYED_DATA_CHANNEL = `async ({ url, username, credential, messages }) => {
  const config = { iceServers: [{ urls: url, username, credential }], iceTransportPolicy: "relay" };
  const [a, b] = [new RTCPeerConnection(config), new RTCPeerConnection(config)];
  const errors = [];
  for (const [from, to] of [[a, b], [b, a]]) {
    from.onicecandidate = (event) => event.candidate && to.addIceCandidate(event.candidate);
    from.onicecandidateerror = (event) => errors.push(event.errorCode + " " + event.errorText);
  }
  const channel = a.createDataChannel("data");
  const echoed = [];
  const done = new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error("no data channel in 20 s: " + errors)), 20000);
    b.ondatachannel = ({ channel }) => channel.onmessage = ({ data }) => channel.send("echo " + data);
    channel.onopen = () => { for (const message of messages) channel.send(message); };
    channel.onmessage = ({ data }) => { if (echoed.push(data) === messages.length) resolve(); };
  });
  await a.setLocalDescription(await a.createOffer());
  await b.setRemoteDescription(a.localDescription);
  await b.setLocalDescription(await b.createAnswer());
  await a.setRemoteDescription(b.localDescription);
  await done;
  const stats = [...(await a.getStats()).values()];
  const transport = stats.find((one) => one.type === "transport");
  const pair = stats.find((one) => one.id === transport.selectedCandidatePairId);
  const candidate = (id) => stats.find((one) => one.id === id);
  const [local, remote] = [candidate(pair.localCandidateId), candidate(pair.remoteCandidateId)];
  a.close();
  b.close();
  const protocol = local.relayProtocol;
  return { echoed, local: local.candidateType, remote: remote.candidateType, protocol, errors };
}`;

peerTest(
  "Chromium relay only through serveTurn(), over UDP, TCP and TLS: a data channel carries data",
  { programs: ["chromium"], install: "apt-get install -y chromium" },
  async (t) => {
    const read = (name: string) => Deno.readTextFileSync(new URL(`../vectors/tls/${name}.pem`, import.meta.url));
    await using server = serveTurn({
      listen: ["127.0.0.1:0"],
      realm: "example.org",
      users: { alice: "secret" },
      allowPeers: ["127.0.0.0/8"],
      tls: { certificate: read("one"), key: read("one_key") },
    });
    // The tests' own authority is none of Chromium's.
    await using browser = await Chromium.launch(["--ignore-certificate-errors"]);
    const messages = Array.from({ length: 20 }, (_, i) => `message ${i}`);
    const [address] = server.addresses;
    for (const url of [`turn:${address}?transport=udp`, `turn:${address}?transport=tcp`, `turns:${address}`]) {
      await t.step(url.replace(String(address), "SERVER"), async () => {
        const { accepted } = server.streamStats();
        const credentials = { username: "alice", credential: "secret" };
        const result = await browser.evaluate(RELAYED_DATA_CHANNEL, { url, ...credentials, messages });
        assertEquals(result, {
          echoed: messages.map((message) => `echo ${message}`),
          local: "relay",
          remote: "relay",
          protocol: url.includes("udp") ? "udp" : url.includes("tcp") ? "tcp" : "tls",
          errors: [],
        });
        assertEquals(server.streamStats().accepted > accepted, !url.includes("udp"));
      });
    }
  },
);

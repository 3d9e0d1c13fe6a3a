// ICE between openIce() and Chromium's RTCPeerConnection. ICE only: natkit has no DTLS, so its session description names a
// certificate that nobody has, and what Chromium sends of its handshake is the data that has to arrive.
import { hostAddresses, type IceConnection, type IceRole, openIce, type OpenIceOptions } from "../../ice/mod.ts";
import { denoHost } from "../../stun/net/deno_host.ts";
import type { Chromium } from "./_chromium.ts";

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

/** What Chromium says of its selected pair: its own side first. */
export interface Result {
  readonly role: IceRole;
  readonly state: string;
  readonly types: readonly string[];
  readonly addresses: readonly string[];
  readonly transports?: readonly (readonly string[])[];
  readonly relayProtocol?: string;
}

/** What both say. */
export interface Meeting {
  readonly chromium: Result;
  readonly natkit: Omit<Result, "relayProtocol">;
}

/** A session with one data channel, as far as a browser wants to see it. */
export async function sessionOf(connection: IceConnection, setup: "actpass" | "passive"): Promise<string> {
  const fingerprint = Array.from({ length: 32 }, (_, i) => (i + 16).toString(16).toUpperCase()).join(":");
  const lines = (await connection.localDescription("sdp")).trim().split("\r\n");
  // RFC 8839 §5.3: of the whole session. With it there is a media section of our own, which is to be another here.
  const isOfSession = (line: string) => line === "a=ice-lite";
  return [
    ...["v=0", "o=- 1 2 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0", ...lines.filter(isOfSession)],
    ...["m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "c=IN IP4 0.0.0.0"],
    ...lines.filter((line) => line.startsWith("a=") && !isOfSession(line)),
    ...[`a=fingerprint:sha-256 ${fingerprint}`, `a=setup:${setup}`, "a=mid:0", "a=sctp-port:5000", ""],
  ].join("\r\n");
}

/** How they meet. */
export interface MeetOptions {
  /** Who offers is controlling (RFC 8839 §4.4.1). */
  readonly offerer: "natkit" | "chromium";
  /** Another role for natkit than that, for a conflict. */
  readonly role?: IceRole;
  readonly config?: Record<string, unknown>;
  readonly ice?: Partial<OpenIceOptions>;
  /** What of a description gets to the other side. Default: all. */
  readonly filter?: (sdp: string, from: "natkit" | "chromium") => string;
}

/** Lets both connect and gives what each has to say about it. */
export async function meet(
  browser: Chromium,
  { offerer, role, config = {}, ice = {}, filter = (sdp) => sdp }: MeetOptions,
): Promise<Meeting> {
  const handshake = Promise.withResolvers<void>();
  await using connection = openIce({
    role: role ?? (offerer === "natkit" ? "controlling" : "controlled"),
    // One address, so that there is one path.
    bind: [hostAddresses(denoHost()).find(({ family }) => family === 4)!.address],
    onDatagram: (bytes) => bytes[0] === HANDSHAKE && handshake.resolve(),
    ...ice,
  });
  const session = async (setup: "actpass" | "passive") => filter(await sessionOf(connection, setup), "natkit");
  const addDescription = (sdp: string) => connection.addRemoteDescription(filter(sdp, "chromium"));
  const describe = (offer?: string) => browser.evaluate(DESCRIBE, { config, offer }) as Promise<string>;
  const connect = (answer?: string) => browser.evaluate(CONNECT, { answer, limit: TIME_LIMIT }) as Promise<Result>;
  try {
    let connected: Promise<Result>;
    if (offerer === "natkit") {
      addDescription(await describe(await session("actpass")));
      connected = connect();
    } else {
      addDescription(await describe());
      connected = connect(await session("passive"));
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

// The codec beside npm's `stun` and `werift`, on a message with the attributes of RFC 5769 §2.1. Those two are only measured when PEERS_NPM
// names a folder in which `npm i stun werift` was run:
//
//   PEERS_NPM=folder deno task bench
//
// The other two decode every attribute of each message; here a reader pays for what it asks for. So there is a group for
// a message read in full, and one for what an ICE agent reads of a check: transaction, user name and priority.
import { Buffer } from "node:buffer";
import { createRequire } from "node:module";
import { assert, assertEquals } from "@std/assert";
import { ICE_CONTROLLED, PRIORITY } from "../../ice/attributes.ts";
import { IntegrityKey, MessageWriter, METHOD, SOFTWARE, StunMessage, USERNAME } from "../../stun/mod.ts";
import { REQUEST } from "../vectors/stun_messages.ts";

const { username, password } = REQUEST;
const transactionId = REQUEST.bytes.slice(8, 20);
const key = IntegrityKey.shortTerm(password);
const memory = new Uint8Array(256);
// Written anew, since the vector pads with blanks and npm's `stun` verifies what it has encoded again itself.
const bytes = encodeAndSign().slice();

function decodeAll(): StunMessage {
  const message = StunMessage.parse(bytes)!;
  message.get(SOFTWARE);
  message.get(PRIORITY);
  message.get(ICE_CONTROLLED);
  message.get(USERNAME);
  return message;
}

function decodeCheck(): StunMessage {
  const message = StunMessage.parse(bytes)!;
  if (message.class === "request" && message.method === METHOD.BINDING) {
    message.get(PRIORITY);
    message.get(USERNAME);
  }
  return message;
}

function decodeAndVerify(): void {
  const message = decodeCheck();
  if (!message.verifyFingerprint() || !message.verifyIntegrity(key)) throw new Error("does not verify");
}

function encodeAndSign(): Uint8Array {
  return new MessageWriter(memory).begin(METHOD.BINDING, "request", transactionId)
    .add(SOFTWARE, "STUN test client")
    .add(PRIORITY, 0x6e0001ff)
    .add(ICE_CONTROLLED, 0x932ff9b151263b36n)
    .add(USERNAME, username!)
    .addIntegrity(key).addFingerprint().finish();
}

assertEquals(decodeAll().get(USERNAME), username);
decodeAndVerify();

Deno.bench("natkit", { group: "decode a check", baseline: true }, () => void decodeCheck());
Deno.bench("natkit", { group: "decode every attribute", baseline: true }, () => void decodeAll());
Deno.bench("natkit", { group: "decode and verify", baseline: true }, decodeAndVerify);
Deno.bench("natkit", { group: "encode and sign", baseline: true }, () => void encodeAndSign());
Deno.bench("natkit, parse alone", { group: "parts" }, () => void StunMessage.parse(bytes));
const message = StunMessage.parse(bytes)!;
Deno.bench("natkit, text", { group: "parts" }, () => void message.get(USERNAME));
Deno.bench("natkit, 32-bit number", { group: "parts" }, () => void message.get(PRIORITY));
Deno.bench("natkit, 64-bit number", { group: "parts" }, () => void message.get(ICE_CONTROLLED));
Deno.bench("natkit, MESSAGE-INTEGRITY", { group: "parts" }, () => void message.verifyIntegrity(key));
Deno.bench("natkit, FINGERPRINT", { group: "parts" }, () => void message.verifyFingerprint());

const peers = Deno.env.get("PEERS_NPM");
if (peers !== undefined) {
  const require = createRequire(`${peers}/`);
  benchStun(require("stun"));
  // werift keeps its STUN codec to itself: hence by path.
  benchWerift(require(`${peers}/node_modules/werift/lib/ice-server/src/stun/message.js`));
}

// deno-lint-ignore no-explicit-any
function benchStun(stun: any): void {
  const buffer = Buffer.from(bytes);
  const id = Buffer.from(transactionId);
  const verify = () => {
    const decoded = stun.decode(buffer);
    return stun.validateFingerprint(decoded) && stun.validateMessageIntegrity(decoded, password);
  };
  assertEquals(verify(), true);
  for (const group of ["decode a check", "decode every attribute"]) {
    Deno.bench("npm stun", { group }, () => void stun.decode(buffer));
  }
  Deno.bench("npm stun", { group: "decode and verify" }, () => void verify());
  Deno.bench("npm stun", { group: "encode and sign" }, () => {
    const request = stun.createMessage(stun.constants.STUN_BINDING_REQUEST, id);
    request.addSoftware("STUN test client");
    request.addPriority(0x6e0001ff);
    request.addUsername(username);
    request.addMessageIntegrity(password);
    request.addFingerprint();
    stun.encode(request);
  });
}

// deno-lint-ignore no-explicit-any
function benchWerift({ parseMessage, Message }: any): void {
  const buffer = Buffer.from(bytes);
  const secret = Buffer.from(password);
  const id = Buffer.from(transactionId);
  assert(parseMessage(buffer, secret) !== undefined);
  for (const group of ["decode a check", "decode every attribute"]) {
    Deno.bench("npm werift", { group }, () => void parseMessage(buffer));
  }
  Deno.bench("npm werift", { group: "decode and verify" }, () => void parseMessage(buffer, secret));
  Deno.bench("npm werift", { group: "encode and sign" }, () => {
    const request = new Message(1, 0, id);
    request.setAttribute("SOFTWARE", "STUN test client");
    request.setAttribute("PRIORITY", 0x6e0001ff);
    request.setAttribute("ICE-CONTROLLED", 0x932ff9b151263b36n);
    request.setAttribute("USERNAME", username);
    request.addMessageIntegrity(secret);
    request.addFingerprint();
    void request.bytes;
  });
}

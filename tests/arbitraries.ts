// What the property tests draw from.
import fc from "fast-check";
import { type Attribute, MessageWriter, TransportAddress } from "../stun/mod.ts";
import * as stun from "../stun/mod.ts";

/** Any transport address. */
export const anyAddress: fc.Arbitrary<TransportAddress> = fc.tuple(
  fc.oneof(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.uint8Array({ minLength: 16, maxLength: 16 })),
  fc.integer({ min: 0, max: 65535 }),
).map(([bytes, port]) => new TransportAddress(bytes, port));

/** Any transaction id. */
export const anyTransactionId: fc.Arbitrary<Uint8Array> = fc.uint8Array({ minLength: 12, maxLength: 12 });

/** Any text of at most `maxLength` characters, of all of Unicode. */
export function anyText(maxLength: number): fc.Arbitrary<string> {
  return fc.string({ unit: "binary", maxLength });
}

function anyBytes(minLength: number, maxLength: number): fc.Arbitrary<Uint8Array> {
  return fc.uint8Array({ minLength, maxLength });
}

const anyErrorCode = fc.record({ code: fc.integer({ min: 300, max: 699 }), reason: anyText(127) });
const anyAlgorithm = fc.record({ algorithm: fc.integer({ min: 0, max: 0xffff }), parameters: anyBytes(0, 9) });

/** Which values each attribute of stun/ may have. */
// deno-lint-ignore no-explicit-any
export const ATTRIBUTE_VALUES: ReadonlyMap<Attribute<any>, fc.Arbitrary<unknown>> = new Map<
  // deno-lint-ignore no-explicit-any
  Attribute<any>,
  fc.Arbitrary<unknown>
>([
  [stun.MAPPED_ADDRESS, anyAddress],
  [stun.USERNAME, anyText(127)],
  [stun.MESSAGE_INTEGRITY, anyBytes(20, 20)],
  [stun.ERROR_CODE_ATTRIBUTE, anyErrorCode],
  [stun.UNKNOWN_ATTRIBUTES, fc.array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 5 })],
  [stun.REALM, anyText(127)],
  [stun.NONCE, anyText(127)],
  [stun.MESSAGE_INTEGRITY_SHA256, anyBytes(16, 32)],
  [stun.PASSWORD_ALGORITHM, anyAlgorithm],
  [stun.ACCESS_TOKEN, anyBytes(0, 300)],
  [stun.THIRD_PARTY_AUTHORIZATION, anyText(127)],
  [stun.USERHASH, anyBytes(32, 32)],
  [stun.XOR_MAPPED_ADDRESS, anyAddress],
  [stun.PASSWORD_ALGORITHMS, fc.array(anyAlgorithm, { maxLength: 3 })],
  [stun.ALTERNATE_DOMAIN, fc.domain().filter((name) => name.length <= 255)],
  [stun.SOFTWARE, anyText(127)],
  [stun.ALTERNATE_SERVER, anyAddress],
  [stun.FINGERPRINT, fc.integer({ min: 0, max: 0xffffffff })],
  [stun.CHANGE_REQUEST, fc.record({ changeIp: fc.boolean(), changePort: fc.boolean() })],
  [stun.PADDING, anyBytes(0, 1600)],
  [stun.RESPONSE_PORT, fc.integer({ min: 0, max: 65535 })],
  [stun.CACHE_TIMEOUT, fc.integer({ min: 0, max: 0xffffffff })],
  [stun.RESPONSE_ORIGIN, anyAddress],
  [stun.OTHER_ADDRESS, anyAddress],
  [stun.RESPONSE_ADDRESS, anyAddress],
  [stun.SOURCE_ADDRESS, anyAddress],
  [stun.CHANGED_ADDRESS, anyAddress],
  [stun.REFLECTED_FROM, anyAddress],
]);

/** An attribute with one of its values. */
export const anyAttribute: fc.Arbitrary<{ attribute: Attribute<unknown>; value: unknown }> = fc.constantFrom(
  ...ATTRIBUTE_VALUES.keys(),
).chain((attribute) => ATTRIBUTE_VALUES.get(attribute)!.map((value) => ({ attribute, value })));

/** A well-formed message with any attributes in any order. */
export const anyMessageBytes: fc.Arbitrary<Uint8Array> = fc.tuple(
  fc.integer({ min: 0, max: 0xff }),
  fc.constantFrom("request", "indication", "success", "error"),
  anyTransactionId,
  fc.array(anyAttribute, { maxLength: 8 }),
).map(([method, messageClass, transactionId, attributes]) => {
  const writer = new MessageWriter(new Uint8Array(16384)).begin(method, messageClass, transactionId);
  for (const { attribute, value } of attributes) writer.add(attribute, value);
  return writer.finish().slice();
});

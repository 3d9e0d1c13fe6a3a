import { assertEquals } from "@std/assert";
import * as iceAttributes from "../../ice/attributes.ts";
import * as stunAttributes from "../../stun/attributes.ts";
import * as discoveryAttributes from "../../stun/discovery_attributes.ts";
import * as turnAttributes from "../../turn/attributes.ts";
import { type Attribute, ERROR_CODE, METHOD, PASSWORD_ALGORITHM_NUMBER } from "../../stun/mod.ts";
import {
  ATTRIBUTES,
  DRAFT_ATTRIBUTES,
  type Entry,
  ERROR_CODES,
  FORMER_ATTRIBUTES,
  METHODS,
  PASSWORD_ALGORITHMS,
} from "../vectors/iana.ts";

/** The registry's name as a constant of ours: `CreatePermission` and `Try Alternate` have an underscore inside. */
function constantName(name: string): string {
  return name.replaceAll(/([a-z])([A-Z])/g, "$1_$2").replaceAll(/[ -]/g, "_").toUpperCase();
}

function table(entries: readonly Entry[], nameOf = (name: string) => name): Record<string, number> {
  return Object.fromEntries(entries.map(([number, name]) => [nameOf(name), number]));
}

function isAttribute(value: unknown): value is Attribute<unknown> {
  return typeof value === "object" && value !== null && "type" in value && "read" in value && "write" in value;
}

const modules = [stunAttributes, discoveryAttributes, turnAttributes, iceAttributes];
const exported = modules.flatMap((module) => Object.entries(module))
  .filter((entry): entry is [string, Attribute<unknown>] => isAttribute(entry[1]));

Deno.test("IANA, STUN Methods: METHOD is the registry", () => {
  assertEquals({ ...METHOD }, table(METHODS, constantName));
});

Deno.test("IANA, STUN Error Codes: ERROR_CODE is the registry", () => {
  assertEquals({ ...ERROR_CODE }, table(ERROR_CODES, constantName));
});

Deno.test("IANA, STUN Password Algorithms: PASSWORD_ALGORITHM_NUMBER is the registry", () => {
  assertEquals({ ...PASSWORD_ALGORITHM_NUMBER }, table(PASSWORD_ALGORITHMS));
});

Deno.test("IANA, STUN Attributes: each attribute has its number and name in the registry, and is exported under it", () => {
  const known = new Map(
    [...ATTRIBUTES, ...FORMER_ATTRIBUTES, ...DRAFT_ATTRIBUTES].map(([number, name]) => [number, name]),
  );
  const found = exported.map(([, { type, name }]) => ({ type, name }));
  assertEquals(found, found.map(({ type }) => ({ type, name: known.get(type) ?? "not in tests/vectors/iana.ts" })));
  for (const [exportName, { name }] of exported) {
    // ERROR_CODE is the table of codes.
    assertEquals(exportName, name === "ERROR-CODE" ? "ERROR_CODE_ATTRIBUTE" : constantName(name));
  }
});

Deno.test("IANA, STUN Attributes: no number and no name is used twice", () => {
  assertEquals(new Set(exported.map(([, { type }]) => type)).size, exported.length);
  assertEquals(new Set(exported.map(([, { name }]) => name)).size, exported.length);
});

Deno.test("IANA, STUN Attributes: every attribute of RFC 8489, 8656, 8445, 5780, 6062, 7635 and 8016 has a codec", () => {
  const wanted = ATTRIBUTES.filter(([, , source]) => /^RFC (8489|8656|8445|5780|6062|7635|8016) /.test(source)).map((
    [, name],
  ) => name);
  const names = new Set(exported.map(([, { name }]) => name));
  assertEquals(wanted.filter((name) => !names.has(name)), []);
});

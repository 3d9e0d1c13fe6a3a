import { assertEquals } from "@std/assert";
import { dim } from "@std/fmt/colors";
import { fold } from "../../cli/fold.ts";

Deno.test("Lines that fit stay as they are", () => {
  assertEquals(fold("as  it is", 9), "as  it is");
});

Deno.test("Prose goes on at the left, indented lines two further in", () => {
  assertEquals(fold("one two three four", 9), "one two\nthree\nfour");
  assertEquals(fold("  one two three", 9), "  one two\n    three");
});

Deno.test("A row with a label goes on below its text, a mark's below the words", () => {
  assertEquals(fold("  --ip 4|6  use this IP version only", 26), "  --ip 4|6  use this IP\n            version only");
  assertEquals(fold("! one two three", 9), "! one two\n  three");
});

Deno.test("Colours take no room, and a word that is too long is not broken", () => {
  assertEquals(fold(dim("one two"), 7), dim("one two"));
  assertEquals(fold("one 203.0.113.1:50000 two", 9), "one\n203.0.113.1:50000\ntwo");
});

// docs/conformance.md names a test for each rule: they must exist.
import { assert, assertEquals } from "@std/assert";

const root = new URL("../", import.meta.url);
/** Rules of what is not there yet. */
const NOT_YET = ["T29", "T30"];

async function* testFiles(folder: URL): AsyncGenerator<URL> {
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    if (isDirectory) yield* testFiles(new URL(`${name}/`, folder));
    else if (name.endsWith("_test.ts")) yield new URL(name, folder);
  }
}

async function testNames(): Promise<Set<string>> {
  const names = new Set<string>();
  for await (const file of testFiles(new URL("tests/", root))) {
    for (const [, name] of (await Deno.readTextFile(file)).matchAll(/\b(?:Deno\.test|\w+Test)\(\s*"([^"]+)"/g)) {
      names.add(name!);
    }
  }
  return names;
}

Deno.test("docs/conformance-ice.md has a row for each of I1 to I40, and the test that it names exists", async () => {
  const names = await testNames();
  const text = await Deno.readTextFile(new URL("docs/conformance-ice.md", root));
  const rows = [...text.matchAll(/^\| (I\d+) +\| .*? +\| (.*?) +\|$/gm)].map(([, rule, test]) => [rule!, test!]);
  assertEquals(rows.map(([rule]) => rule), Array.from({ length: 40 }, (_, i) => `I${i + 1}`));
  const others = [...text.matchAll(/^\| ((?:draft|RFC) .*?) +\| .*? +\| (.*?) +\|$/gm)].map((
    [, rule, test],
  ) => [rule!, test!]);
  for (const [rule, test] of [...rows, ...others]) assert(names.has(test!), `${rule}: no test is called "${test}"`);
});

Deno.test("docs/conformance.md has a row for each of T1 to T37, and the test that it names exists", async () => {
  const names = await testNames();
  const text = await Deno.readTextFile(new URL("docs/conformance.md", root));
  const rows = [...text.matchAll(/^\| (T\d+) +\| .*? +\| (.*?) +\|$/gm)].map(([, rule, test]) => [rule!, test!]);
  assertEquals(rows.map(([rule]) => rule), Array.from({ length: 37 }, (_, i) => `T${i + 1}`));
  const extensions = [...text.matchAll(/^\| (RFC \d+ §[\d.]+) +\| .*? +\| (.*?) +\|$/gm)];
  for (const [, rule, test] of extensions) assert(names.has(test!), `${rule}: no test is called "${test}"`);
  assert(extensions.length >= 8);
  for (const [rule, test] of rows) {
    if (test === "not yet") assert(NOT_YET.includes(rule!), rule);
    else assert(names.has(test!), `${rule}: no test is called "${test}"`);
  }
});

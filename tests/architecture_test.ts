import { assertEquals } from "@std/assert";
import plugin, { importFault, kindOf, LAYERS, resolveImport, SHELLS } from "./lint_plugin.ts";

const root = new URL("../", import.meta.url);

/** What may lie at the repository's top. A new name belongs into CONTRIBUTING.md first. */
const TOP_LEVEL = new Set([
  ...[".ci", ".git", ".gitignore", "deno.json", "deno.lock", "mod.ts"],
  ...["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"],
  ...[...LAYERS, "deploy", "docs", "std", "tests"],
  // Ignored by git.
  ...["coverage", "node_modules", "tmp"],
]);
const MAX_LINES = 500;

interface Import {
  readonly from: string;
  /** A path from the top, or a package's name. */
  readonly to: string;
  /** Whether only types come in, so that nothing is loaded. */
  readonly isType: boolean;
}

const sources = await readSources();
let allImports: Import[] | undefined;
let allFaults: { id: string; text: string }[] | undefined;

Deno.test("Layers: imports point cli -> ice -> turn -> stun, pure files import pure ones, _x.ts stays in its folder", () => {
  assertEquals(faults("layers/imports"), []);
});

Deno.test("Layers: a pure file names no clock, randomness, timer, await or Deno", () => {
  assertEquals(faults("layers/pure"), []);
});

Deno.test("Layers: every shell that the plugin names exists", () => {
  // A misspelt or moved shell would otherwise leave its entry behind as an open door.
  const missing = SHELLS.filter((shell) => ![...sources.keys()].some((path) => path.startsWith(shell)));
  assertEquals(missing, [], "Take these out of SHELLS in lint_plugin.ts");
});

Deno.test("Layers: no file imports itself in a circle, types aside", () => {
  const edges = new Map<string, string[]>();
  for (const { from, to, isType } of imports("files")) {
    if (!isType) edges.set(from, [...edges.get(from) ?? [], to]);
  }
  assertEquals(findCycle(edges), undefined, "Move what both need into a third file, or import only types");
});

Deno.test(`House style: no source file has more than ${MAX_LINES} lines`, () => {
  const long = [...sources].filter(([path]) => kindOf(path) !== "other").map(([path, text]) => {
    return { path, lines: text.split("\n").length - 1 };
  }).filter(({ lines }) => lines > MAX_LINES);
  assertEquals(long.map(({ path, lines }) => `${path} has ${lines} lines: split it by what it does`), []);
});

Deno.test("House style: the top of the repository holds nothing unexpected", () => {
  const unexpected = [...Deno.readDirSync(root)].map((entry) => entry.name).filter((name) =>
    !TOP_LEVEL.has(name) && !name.endsWith(".log")
  );
  assertEquals(unexpected, [], "Put these into one of the folders, or add the name to CONTRIBUTING.md and TOP_LEVEL");
});

Deno.test("Dependencies: @std/* is what a JSR user gets, and only links/ overrides it", () => {
  const config = JSON.parse(Deno.readTextFileSync(new URL("deno.json", root)));
  const wrong = Object.entries<string>(config.imports).filter(([name, target]) =>
    name.startsWith("@std/") && !target.startsWith(`jsr:${name}@^`)
  );
  assertEquals(wrong, [], "Map @std/NAME to jsr:@std/NAME@^1 in deno.json, and override it in links");
  const direct = imports("packages").filter(({ from, to }) =>
    /^(jsr:|npm:|https?:)/.test(to) && !from.startsWith("std/")
  );
  assertEquals(direct.map(({ from, to }) => `${from}: give ${to} a name in deno.json's imports`), []);
});

Deno.test("Dependencies: names of packages outside std/ and tests are those of CONTRIBUTING.md", () => {
  const allowed = ["@std/", "@noble/hashes/", "ipaddr.js", "dns-packet", "node:"];
  const others = imports("packages").filter(({ from, to }) =>
    kindOf(from) !== "other" && !allowed.some((name) => to.startsWith(name))
  );
  assertEquals(
    others.map(({ from, to }) => `${from} imports ${to}: say in CONTRIBUTING.md why, and allow it here`),
    [],
  );
});

Deno.test("House style: no file names somebody's machine, nor how a text came to be written", async () => {
  // Written in halves, so that this file passes its own test.
  const words = [
    "/wo" + "rk/",
    "/ro" + "ot/",
    "/ho" + "me/[a-z]",
    "/Us" + "ers/[A-Z]",
    "work" + "place",
    "sub-?ag" + "ent",
  ];
  const unwanted = new RegExp([...words, "language mo" + "del", "\\bAI (as" + "sistant|ag" + "ent)"].join("|"), "i");
  const found: string[] = [];
  for (const path of await textFiles()) {
    const lines = Deno.readTextFileSync(new URL(path, root)).split("\n");
    lines.forEach((line, i) => unwanted.test(line) && found.push(`${path}:${i + 1}: ${line.trim()}`));
  }
  assertEquals(found, [], "Use a path from the repository's top, Deno.makeTempDir() or an environment variable");
});

Deno.test("The layer rules themselves find what they shall", () => {
  const found = (path: string, source: string) =>
    Deno.lint.runPlugin(plugin, new URL(path, root).pathname, source).map(({ id }) => id);
  assertEquals(found("stun/x.ts", `import { A } from "../turn/x.ts";`), ["layers/imports"]);
  assertEquals(found("turn/x.ts", `import type { A } from "../stun/mod.ts";`), ["layers/imports"]);
  assertEquals(found("turn/x.ts", `export * from "../stun/_crypto.ts";`), ["layers/imports"]);
  assertEquals(found("stun/_x.ts", `import { crc32 } from "./_crc32.ts";`), []);
  assertEquals(found("cli/x.ts", `import { A } from "../ice/mod.ts";`), []);
  assertEquals(found("stun/x.ts", `const now = Date.now();`), ["layers/pure"]);
  assertEquals(found("stun/x.ts", `const x: Deno.NetAddr = y;`), ["layers/pure"]);
  assertEquals(found("stun/x.ts", `// Deno\nconst x = "Deno" + a.performance + { crypto: 1 };`), []);
  assertEquals(found("stun/x.ts", `const x = Math.random();`), ["layers/pure"]);
  assertEquals(found("stun/x.ts", `async function f() {}`), ["layers/pure"]);
  assertEquals(found("stun/x.ts", `export const f = async () => await g();`), ["layers/pure", "layers/pure"]);
  assertEquals(found("stun/net/x.ts", `await Deno.readTextFile("x");`), []);
  assertEquals(found("stun/net/virtual/x.ts", `await x; setTimeout(f, 0);`), ["layers/pure"]);
  assertEquals(importFault("ice/x.ts", "stun/net/transport.ts"), undefined);
  assertEquals(importFault("tests/stun/x_test.ts", "tests/_rig.ts"), undefined);
  assertEquals(importFault("tests/ice/x_test.ts", "tests/stun/_rig.ts")?.includes("private to tests/stun/"), true);
});

function faults(rule: string): string[] {
  allFaults ??= [...sources].flatMap(([path, text]) =>
    Deno.lint.runPlugin(plugin, new URL(path, root).pathname, text).map(({ id, message, range }) => {
      return { id, text: `${path}:${text.slice(0, range[0]).split("\n").length}: ${message}` };
    })
  );
  return allFaults.filter(({ id }) => id === rule).map(({ text }) => text);
}

/** All imports and re-exports: of files, or of packages. */
function imports(of: "files" | "packages"): Import[] {
  allImports ??= [...sources].flatMap(([from, text]) => readImports(from, text));
  return allImports.filter(({ to }) => (of === "files") === /\.(ts|json)$/.test(to));
}

function readImports(from: string, text: string): Import[] {
  const found: Import[] = [];
  const add = (specifier: string | undefined, isType: boolean) => {
    if (specifier !== undefined) found.push({ from, to: resolveImport(from, specifier) ?? specifier, isType });
  };
  const collector: Deno.lint.Plugin = {
    name: "collect",
    rules: {
      imports: {
        create: () => ({
          ImportDeclaration(node) {
            const named = node.specifiers.length > 0 &&
              node.specifiers.every((s) => s.type === "ImportSpecifier" && s.importKind === "type");
            add(node.source.value, node.importKind === "type" || named);
          },
          ExportAllDeclaration: (node) => add(node.source.value, node.exportKind === "type"),
          ExportNamedDeclaration: (node) => add(node.source?.value, node.exportKind === "type"),
        }),
      },
    },
  };
  Deno.lint.runPlugin(collector, from, text);
  return found;
}

function findCycle(edges: ReadonlyMap<string, readonly string[]>): string | undefined {
  const finished = new Set<string>();
  const visit = (path: string, trail: readonly string[]): string | undefined => {
    if (trail.includes(path)) return [...trail.slice(trail.indexOf(path)), path].join(" -> ");
    if (finished.has(path)) return undefined;
    for (const next of edges.get(path) ?? []) {
      const cycle = visit(next, [...trail, path]);
      if (cycle !== undefined) return cycle;
    }
    finished.add(path);
    return undefined;
  };
  for (const path of edges.keys()) {
    const cycle = visit(path, []);
    if (cycle !== undefined) return cycle;
  }
  return undefined;
}

async function readSources(): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const folder of [...LAYERS, "std", "tests"]) await walk(`${folder}/`, found, ".ts");
  if (await exists("mod.ts")) found.set("mod.ts", await Deno.readTextFile(new URL("mod.ts", root)));
  return found;
}

/** Every text file that a visitor of the repository can open. */
async function textFiles(): Promise<string[]> {
  const found = new Map<string, string>();
  for (const folder of [...LAYERS, ".ci", "deploy", "docs", "std", "tests"]) await walk(`${folder}/`, found, "");
  for (const entry of Deno.readDirSync(root)) {
    if (entry.isFile && /\.(md|json|ts)$|^LICENSE$/.test(entry.name)) found.set(entry.name, "");
  }
  return [...found.keys()];
}

async function walk(folder: string, found: Map<string, string>, ending: string): Promise<void> {
  if (!await exists(folder)) return;
  for await (const entry of Deno.readDir(new URL(folder, root))) {
    const path = folder + entry.name;
    if (entry.isDirectory && !entry.name.startsWith(".")) await walk(`${path}/`, found, ending);
    else if (entry.isFile && entry.name.endsWith(ending)) {
      found.set(path, ending === "" ? "" : await Deno.readTextFile(new URL(path, root)));
    }
  }
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(new URL(path, root)).then(() => true, () => false);
}

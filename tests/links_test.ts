import { assertEquals } from "@std/assert";

const ROOT = new URL("../", import.meta.url);

/** The Markdown of a page without its code blocks. */
async function proseOf(page: URL): Promise<string> {
  return (await Deno.readTextFile(page)).replaceAll(/^```[\s\S]*?^```/gm, "");
}

/** The anchors of a page's headings, as GitHub and JSR make them. */
async function anchorsOf(page: URL): Promise<Set<string>> {
  const headings = (await proseOf(page)).matchAll(/^#+ (.*)$/gm);
  return new Set([...headings].map(([, text]) => text!.toLowerCase().replaceAll(/[^\w\- ]/g, "").replaceAll(" ", "-")));
}

async function exists(file: URL): Promise<boolean> {
  return await Deno.stat(file).then(() => true, () => false);
}

Deno.test("Every link in the guides to a file or a heading of ours leads somewhere", async () => {
  const pages = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "tests/bench/RESULTS.md"].map((name) =>
    new URL(name, ROOT)
  );
  for await (const { name } of Deno.readDir(new URL("docs/", ROOT))) {
    if (name.endsWith(".md")) pages.push(new URL(`docs/${name}`, ROOT));
  }
  const broken: string[] = [];
  for (const page of pages) {
    for (const [, link] of (await proseOf(page)).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(link!)) continue;
      const target = new URL(link!, page);
      const anchor = target.hash.slice(1);
      target.hash = "";
      const isThere = await exists(target) && (anchor === "" || (await anchorsOf(target)).has(anchor));
      if (!isThere) broken.push(`${page.pathname.slice(ROOT.pathname.length)}: ${link}`);
    }
  }
  assertEquals(broken, []);
});

Deno.test("docs/README.md names every guide", async () => {
  const index = await Deno.readTextFile(new URL("docs/README.md", ROOT));
  for await (const { name } of Deno.readDir(new URL("docs/", ROOT))) {
    if (name.endsWith(".md") && name !== "README.md") assertEquals([name, index.includes(`(${name})`)], [name, true]);
  }
});

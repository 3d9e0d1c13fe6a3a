// The layers of CONTRIBUTING.md as a lint plugin, so that an editor shows a breach while it is typed.
// tests/architecture_test.ts runs the same rules over all of the source.

/** The source folders, bottom first: a file imports from its own folder and those in front of it. */
export const LAYERS: readonly string[] = ["stun", "turn", "ice", "cli"];

/** The shells: they may touch Deno and wait. A folder ends in a slash. Everything else in the layers is pure. */
export const SHELLS: readonly string[] = [
  "stun/net/",
  "cli/",
  "mod.ts",
  "stun/mod.ts",
  "turn/mod.ts",
  "ice/mod.ts",
  // One file per public verb.
  "stun/request.ts",
  "stun/resolve.ts",
  "stun/discover.ts",
  "stun/serve.ts",
  "turn/allocate.ts",
  "turn/relay.ts",
  "turn/tcp_relay.ts",
  "turn/_relay_core.ts",
  "turn/_network_watch.ts",
  "turn/_token_renewal.ts",
  "turn/_endpoint_client.ts",
  "turn/probe.ts",
  "turn/_probe_endpoints.ts",
  "turn/_probe_features.ts",
  "turn/_probe_questions.ts",
  "turn/_probe_relay.ts",
  "turn/_probe_server.ts",
  "turn/serve.ts",
  "turn/serve_workers.ts",
  "turn/_crew.ts",
  "turn/_crew_member.ts",
  "turn/_serve_worker.ts",
  "turn/_worker_messages.ts",
  "ice/connect.ts",
  "ice/connection.ts",
  "ice/gather.ts",
  "ice/relays.ts",
  "ice/tcp_hosts.ts",
  "ice/hosts.ts",
  "ice/_signaling.ts",
  "ice/mdns_service.ts",
  "ice/mux.ts",
  "ice/mux_streams.ts",
  "ice/port_mappings.ts",
  "ice/upnp_mappings.ts",
  "ice/transport.ts",
];
/** Pure files inside a folder of shells. */
const PURE_INSIDE_SHELLS: readonly string[] = ["stun/net/dtls.ts", "stun/net/transport.ts"];

/** Names by which time, randomness, waiting or the outside world would come in. */
const IMPURE: ReadonlySet<string> = new Set([
  "Deno",
  "Date",
  "performance",
  "crypto",
  "setTimeout",
  "setInterval",
  "setImmediate",
  "queueMicrotask",
  "console",
  "process",
  "globalThis",
  "fetch",
  "Worker",
]);
/** What even a shell must not name when its time is virtual. */
const REAL_TIME: ReadonlySet<string> = new Set(["Deno", "Date", "performance", "crypto", "setTimeout", "setInterval"]);

/** What a file is, by its path from the repository's top. */
export function kindOf(path: string): "pure" | "virtual" | "shell" | "other" {
  if (path.startsWith("stun/net/virtual/")) return "virtual";
  if (PURE_INSIDE_SHELLS.includes(path)) return "pure";
  if (SHELLS.some((shell) => shell.endsWith("/") ? path.startsWith(shell) : path === shell)) return "shell";
  return LAYERS.includes(path.split("/")[0]!) ? "pure" : "other";
}

/** What is wrong with `from` importing `to`, both as paths from the repository's top; `undefined` if nothing is. */
export function importFault(from: string, to: string): string | undefined {
  const folder = folderOf(to);
  // What tests share lies above them.
  const isInside = to.startsWith("tests/") ? from.startsWith(folder) : folder === folderOf(from);
  if (/(^|\/)_[^/]*$/.test(to) && !isInside) {
    return `${to} is private to ${folder}: import what a file without "_" exports, or move the code there`;
  }
  const fromLayer = LAYERS.indexOf(from.split("/")[0]!);
  const toLayer = LAYERS.indexOf(to.split("/")[0]!);
  if (fromLayer === -1) return undefined;
  if (toLayer > fromLayer || to === "mod.ts") {
    return `Imports point one way, cli -> ice -> turn -> stun: move what ${from} needs of ${to} down a layer`;
  }
  if (to.startsWith("tests/")) return `${to} is a test: the source must not need it`;
  if (kindOf(from) === "pure" && kindOf(to) !== "pure") {
    const advice = to.endsWith("/mod.ts")
      ? "name the pure file that defines it instead of mod.ts"
      : "take it in by an input or an option instead";
    return `${from} is pure and ${to} is a shell: ${advice}`;
  }
  return undefined;
}

function folderOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/") + 1);
}

/** The path from the repository's top of what a relative import names; `undefined` for a package. */
export function resolveImport(from: string, specifier: string): string | undefined {
  if (!specifier.startsWith(".")) return undefined;
  return new URL(specifier, `file:///${from}`).pathname.slice(1);
}

const root = decodeURIComponent(new URL("..", import.meta.url).pathname);

function pathOf(context: Deno.lint.RuleContext): string {
  const path = context.filename.replaceAll("\\", "/");
  return path.startsWith(root) ? path.slice(root.length) : path;
}

/** The rules "layers/imports" and "layers/pure". */
const plugin: Deno.lint.Plugin = {
  name: "layers",
  rules: {
    imports: {
      create(context) {
        const from = pathOf(context);
        const check = (node: { source: Deno.lint.StringLiteral | null }) => {
          const to = node.source === null ? undefined : resolveImport(from, node.source.value);
          const message = to === undefined ? undefined : importFault(from, to);
          if (message !== undefined) context.report({ node: node.source!, message });
        };
        return { ImportDeclaration: check, ExportAllDeclaration: check, ExportNamedDeclaration: check };
      },
    },
    pure: {
      create(context) {
        const kind = kindOf(pathOf(context));
        if (kind === "shell" || kind === "other") return {};
        const forbidden = kind === "pure" ? IMPURE : REAL_TIME;
        const globals: Deno.lint.LintVisitor = {
          Identifier(node) {
            if (!forbidden.has(node.name) || isPropertyName(node)) return;
            const message =
              `A ${kind} file must not name ${node.name}: time and randomness are io.now and io.random, ` +
              `and what touches the network belongs into a shell (CONTRIBUTING.md, "Layers")`;
            context.report({ node, message });
          },
          "MemberExpression[object.name='Math'][property.name='random']"(node: Deno.lint.MemberExpression) {
            context.report({ node, message: `A ${kind} file must not use Math.random: take io.random` });
          },
        };
        if (kind === "virtual") return globals;
        const waiting = (node: Deno.lint.Node) =>
          context.report({ node, message: "A pure file must not wait: slow work comes back as an input (handleX)" });
        return {
          ...globals,
          AwaitExpression: waiting,
          "[async=true]": waiting,
          "ForOfStatement[await=true]": waiting,
        };
      },
    },
  },
};
export default plugin;

function isPropertyName(node: Deno.lint.Identifier): boolean {
  const parent = node.parent;
  if (parent.type === "MemberExpression") return parent.property === node && !parent.computed;
  if (parent.type === "TSQualifiedName") return parent.right === node;
  return (parent.type === "Property" || parent.type === "PropertyDefinition" || parent.type === "MethodDefinition" ||
    parent.type === "TSPropertySignature" || parent.type === "TSMethodSignature") && parent.key === node;
}

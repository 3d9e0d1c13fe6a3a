import type { Command } from "./terminal.ts";
/** Stub */
export const demoCommand: Command = {
  name: "demo",
  summary: "Two terminals demo",
  help: "",
  run: () => Promise.resolve(1),
};

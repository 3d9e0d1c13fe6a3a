// deno-lint-ignore-file no-console
// A program that may not read the workers' code, for serve_workers_test.ts.
import { serveTurnWorkers } from "../../turn/serve_workers.ts";

try {
  await serveTurnWorkers({ workers: 2, listen: ["127.0.0.1:0"], realm: "example.org", users: {} });
} catch (error) {
  console.log((error as Error).message);
}
// What is left behind has its chance.
await new Promise((resolve) => setTimeout(resolve));
console.log("going on");

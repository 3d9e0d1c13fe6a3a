import { TransportAddress } from "../stun/address.ts";
import { OpenError } from "../stun/net/transport.ts";
import type { ServeTurnOptions } from "./serve.ts";
import {
  fromPlain,
  type PlainError,
  type WorkerOrder,
  type WorkerReport,
  type WorkerStart,
  type WorkerStats,
} from "./_worker_messages.ts";

/** Whom a worker's questions and events are for. */
type Listener = Pick<ServeTurnOptions, "onEvent" | "lookUpUser">;

/** One worker, seen from outside. */
export class Member {
  stats: WorkerStats | undefined;
  #worker = new Worker(import.meta.resolve("./_serve_worker.ts"), { type: "module" });
  #listener: Listener;
  #listening = Promise.withResolvers<Extract<WorkerReport, { t: "listening" }>>();
  #drained = Promise.withResolvers<void>();
  #finished = Promise.withResolvers<void>();
  #isOver = false;
  /** Who waits for an order to be carried out. */
  #syncs: (() => void)[] = [];

  constructor(listener: Listener, onFailure: (error: Error) => void) {
    this.#listener = listener;
    this.#worker.onmessage = ({ data }: MessageEvent<WorkerReport>) => this.#handle(data);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      const error = new Error(startError(event.message));
      this.#listening.reject(error);
      if (this.#isOver) return;
      this.#end();
      onFailure(error);
    };
    this.#listening.promise.catch(() => {});
  }

  start(order: WorkerStart): Promise<Extract<WorkerReport, { t: "listening" }>> {
    this.tell(order);
    return this.#listening.promise;
  }

  tell(order: WorkerOrder): void {
    if (!this.#isOver) this.#worker.postMessage(order);
  }

  /** Resolves when it has been carried out: orders are, one after the other, but packets may come in between. */
  order(order: WorkerOrder): Promise<void> {
    this.tell(order);
    if (this.#isOver) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#syncs.push(resolve);
    this.tell({ t: "sync" });
    return promise;
  }

  drain(): Promise<void> {
    this.tell({ t: "drain" });
    return this.#drained.promise;
  }

  shutdown(): Promise<void> {
    this.tell({ t: "shutdown" });
    return this.#finished.promise;
  }

  #handle(report: WorkerReport): void {
    switch (report.t) {
      case "listening":
        return this.#listening.resolve(report);
      case "failed":
        this.#listening.reject(toError(report.error));
        return this.#end();
      case "event":
        return this.#listener.onEvent?.(fromPlain(report.event));
      case "wanted":
        return void this.#lookUp(report.id, report.username, report.client);
      case "drained":
        return this.#drained.resolve();
      case "synced":
        return this.#syncs.shift()?.();
      case "stats":
        this.stats = report.stats;
        return;
      case "finished":
        this.stats = report.stats;
        return this.#end();
    }
  }

  async #lookUp(id: number, username: string, client: string): Promise<void> {
    try {
      const credential = await this.#listener.lookUpUser?.(username, TransportAddress.parse(client));
      this.tell({ t: "found", id, credential });
    } catch (error) {
      this.tell({ t: "notFound", id, why: String(error) });
    }
  }

  #end(): void {
    this.#isOver = true;
    this.#worker.terminate();
    this.#drained.resolve();
    this.#finished.resolve();
    for (const resolve of this.#syncs.splice(0)) resolve();
  }
}

/** Deno loads a worker's code as a program of its own, for which it wants leave. */
function startError(message: string): string {
  const [, path] = /Requires read access to "([^"]+)"/.exec(message) ?? [];
  if (path === undefined) return message;
  return `Cannot start a worker as Deno may not read its code: give it --allow-read=${path}, or --allow-read`;
}

function toError({ name, message, failure }: PlainError): Error {
  if (failure !== undefined) return new OpenError(failure, message);
  if (name === "RangeError") return new RangeError(message);
  if (name === "SyntaxError") return new SyntaxError(message);
  return name === "TypeError" ? new TypeError(message) : new Error(message);
}

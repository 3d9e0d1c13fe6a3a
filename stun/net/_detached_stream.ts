import type { FramedStream } from "./_framed_stream.ts";
import type { DetachedStream } from "./transport.ts";

const READ_AHEAD = 65536;

/** Makes web streams of a connection. Reads ahead at most 64 KiB, and makes writers wait when as much waits as may. */
export function detachStream(stream: FramedStream): DetachedStream {
  const { conn, queue } = stream;
  let source!: ReadableStreamDefaultController<Uint8Array>;
  let drained: { resolve: () => void; until: () => boolean } | undefined;
  const broken = () => new Deno.errors.ConnectionReset("The connection is closed");
  const wait = (until: () => boolean) => {
    return until() ? undefined : new Promise<void>((resolve) => drained = { resolve, until });
  };
  const wake = () => {
    if (drained === undefined || !(stream.state === "closed" || drained.until())) return;
    drained.resolve();
    drained = undefined;
  };
  const finish = () => {
    stream.close();
    wake();
  };
  const readable = new ReadableStream<Uint8Array>({
    start: (controller) => void (source = controller),
    pull: () => conn.resume(),
    cancel: finish,
  }, { highWaterMark: READ_AHEAD, size: (bytes) => bytes.length });
  const writable = new WritableStream<Uint8Array>({
    async write(bytes) {
      if (stream.state === "closed") throw broken();
      queue.pushRaw(bytes, 0, bytes.length);
      stream.write();
      await wait(() => !queue.isFull);
    },
    async close() {
      if (stream.state === "closed") return;
      stream.end();
      await wait(() => queue.size === 0);
    },
    abort: finish,
  });
  stream.detach({
    handleData(bytes) {
      source.enqueue(bytes);
      if (source.desiredSize! <= 0) conn.pause();
    },
    handleSent: wake,
    handleEnd(reason) {
      if (reason === "end") source.close();
      else {
        source.error(broken());
        wake();
      }
    },
  });
  return {
    readable,
    writable,
    localAddress: conn.localAddress,
    remoteAddress: conn.remoteAddress,
    close: () => {
      if (stream.state === "closed") return;
      finish();
      try {
        source.error(broken());
      } catch { /* it has ended already */ }
    },
  };
}

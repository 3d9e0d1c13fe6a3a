import type { IceDatagrams } from "./connection_options.ts";
import type { DatagramQueue } from "./_datagram_queue.ts";

/** Datagrams as Web Streams. */
export function webDatagrams(queue: DatagramQueue, connection: {
  readonly connected: Promise<unknown>;
  send(bytes: Uint8Array): boolean;
}): IceDatagrams {
  return {
    readable: new ReadableStream<Uint8Array>({
      pull: (controller) =>
        queue.next().then(({ done, value }) => {
          if (done) controller.close();
          else controller.enqueue(value);
        }),
    }, { highWaterMark: 0 }),
    writable: new WritableStream<Uint8Array>({
      write: (bytes) => connection.connected.then(() => void connection.send(bytes)),
    }),
  };
}

// The numbers and layouts that stun/net/_libc.ts takes for granted, by the headers of glibc and musl, x86-64 and arm64.
import { assert, assertEquals } from "@std/assert";
import { peerTest } from "./_peers.ts";

const SOURCE = new URL("../../stun/net/_libc.ts", import.meta.url);
/** Each compiler has one library and one architecture; nothing is run. */
const COMPILERS: Readonly<Record<string, string>> = {
  "gcc": "gcc",
  "musl-gcc": "musl-tools",
  "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
};
/** Those of ours that are put together or go by another name in C. */
const IN_C: Readonly<Record<string, string>> = {
  SOCK_DGRAM_NONBLOCK_CLOEXEC: "SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC",
  SOCK_STREAM_NONBLOCK_CLOEXEC: "SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC",
  EFD_NONBLOCK_CLOEXEC: "EFD_NONBLOCK | EFD_CLOEXEC",
  TFD_NONBLOCK_CLOEXEC: "TFD_NONBLOCK | TFD_CLOEXEC",
  PMTUDISC_WANT: "IP_PMTUDISC_WANT",
  PMTUDISC_PROBE: "IP_PMTUDISC_PROBE",
  PMTUDISC_OMIT: "IP_PMTUDISC_OMIT",
  SOL_IP: "IPPROTO_IP",
  SOL_UDP: "IPPROTO_UDP",
  SOL_IPV6: "IPPROTO_IPV6",
  EPOLLET: "(unsigned) EPOLLET",
  EPOLL_EVENT_SIZE: "sizeof(struct epoll_event)",
  EPOLL_DATA_OFFSET: "offsetof(struct epoll_event, data)",
  MMSGHDR_SIZE: "sizeof(struct mmsghdr)",
  IOVEC_SIZE: "sizeof(struct iovec)",
};
/** What the rest of the back end goes by: 32-bit words of `struct mmsghdr`, and sizes. */
const LAYOUTS: Readonly<Record<string, number>> = {
  "offsetof(struct msghdr, msg_name)": 0,
  "offsetof(struct msghdr, msg_namelen)": 8,
  "offsetof(struct msghdr, msg_iov)": 16,
  "offsetof(struct msghdr, msg_iovlen)": 24,
  "offsetof(struct msghdr, msg_control)": 32,
  "offsetof(struct msghdr, msg_controllen)": 40,
  "offsetof(struct msghdr, msg_flags)": 48,
  "offsetof(struct mmsghdr, msg_len)": 56,
  "offsetof(struct cmsghdr, cmsg_level)": 8,
  "offsetof(struct cmsghdr, cmsg_type)": 12,
  "CMSG_LEN(2)": 18,
  "CMSG_SPACE(2)": 24,
  "sizeof(struct sockaddr_in)": 16,
  "sizeof(struct sockaddr_in6)": 28,
  "offsetof(struct sockaddr_in6, sin6_scope_id)": 24,
  "sizeof(struct itimerspec)": 32,
  "sizeof(struct timeval)": 16,
  "sizeof(struct pollfd)": 8,
};

/** The constants of the file, as numbers, for one architecture. */
function constants(text: string, arch: string): Map<string, number> {
  const found = new Map<string, number>();
  for (const [, name, expression] of text.matchAll(/^export const ([A-Z_0-9]+) = ([^;]+);/gm)) {
    const plain = expression!.replace("Deno.build.arch", `"${arch}"`)
      .replaceAll(/\b[A-Z_]{3,}\b/g, (other) => String(found.get(other)));
    found.set(name!, Number(new Function(`return ${plain}`)()));
  }
  return found;
}

for (const [compiler, packages] of Object.entries(COMPILERS)) {
  const needed = { programs: [compiler], install: `apt-get install ${packages}` };
  peerTest(`Linux UDP: constants and layouts are those of ${compiler}'s C library`, needed, async () => {
    const arch = compiler.startsWith("aarch64") ? "aarch64" : Deno.build.arch;
    const numbers = constants(await Deno.readTextFile(SOURCE), arch);
    assert(numbers.size > 50, "the file looks different now");
    numbers.delete("NAME_SIZE"); // Room for either address: no number of C's.
    const asserts = [...numbers].map(([name, value]) => [IN_C[name] ?? name, value] as const);
    const program = [
      "#define _GNU_SOURCE",
      ...["stddef", "errno", "poll", "time", "sys/socket", "sys/epoll", "sys/eventfd", "sys/timerfd", "sys/time"]
        .concat(["sys/uio", "netinet/in", "netinet/udp"]).map((name) => `#include <${name}.h>`),
      // Of the kernel's headers, which musl's compiler does not look at.
      "#ifndef UDP_SEGMENT\n#define UDP_SEGMENT 103\n#endif",
      "#ifndef SO_MEMINFO\n#define SO_MEMINFO 55\n#endif",
      ...[...asserts, ...Object.entries(LAYOUTS)].map(([c, value]) =>
        `_Static_assert((${c}) == ${value}, "${c.replaceAll('"', "")}");`
      ),
    ].join("\n");
    const child = new Deno.Command(compiler, {
      args: ["-x", "c", "-fsyntax-only", "-"],
      stdin: "piped",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    const writer = child.stdin.getWriter();
    await writer.write(new TextEncoder().encode(program));
    await writer.close();
    const { success, stderr } = await child.output();
    assertEquals(new TextDecoder().decode(stderr), "");
    assert(success);
  });
}

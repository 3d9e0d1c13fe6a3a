/** What a process has used, in seconds; user and system time are counted in ticks of 10 ms, their sum is exact. */
export function cpuSeconds(pid: number): { user: number; all: number } {
  if (pid === 0) return { user: 0, all: 0 };
  const fields = Deno.readTextFileSync(`/proc/${pid}/stat`).replace(/^.*\) /, "").split(" ");
  return { user: Number(fields[11]) / 100, all: (Number(fields[11]) + Number(fields[12])) / 100 };
}

/** What all processes of the machine have used, in seconds: steal is left out, idle and waiting are none. */
export function machineSeconds(): number {
  const fields = Deno.readTextFileSync("/proc/stat").split("\n")[0]!.trim().split(/\s+/).map(Number);
  const [, user, nice, system, , , irq, softirq] = fields;
  return (user! + nice! + system! + irq! + softirq!) / 100;
}

/** How much memory of a process is resident. */
export function residentBytes(pid: number): number {
  if (pid === 0) return 0;
  return Number(Deno.readTextFileSync(`/proc/${pid}/statm`).split(" ")[1]) * 4096;
}

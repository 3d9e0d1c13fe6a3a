import { bold, dim, green, red, yellow } from "@std/fmt/colors";
import type { LabKind } from "./lab_kinds.ts";
import type { LabCell } from "./lab_run.ts";
import { isExpected } from "./lab_theory.ts";

/** What goes into a cell, and how good it is. */
interface TableCell {
  /** The text. */
  readonly text: string;
  /** `"wrong"` if it is not what theory allows. */
  readonly grade: "direct" | "relay" | "none" | "wrong";
}

const PAINT: Readonly<Record<TableCell["grade"], (text: string) => string>> = {
  direct: green,
  relay: yellow,
  none: dim,
  wrong: (text) => bold(red(text)),
};

/**
 * A table of kinds by kinds, as lines.
 *
 * @param kinds What rows and columns are.
 * @param cells All cells, in any order.
 * @param describe What to write into each.
 * @param width How many characters a line may have: a table with more columns goes on below.
 */
export function tableOf(
  kinds: readonly LabKind[],
  cells: readonly LabCell[],
  describe: (cell: LabCell) => string,
  width = 120,
): string[] {
  const byNames = new Map(cells.map((cell) => [`${cell.a} x ${cell.b}`, toTableCell(cell, describe)]));
  const rowHead = Math.max(...kinds.map(({ name }) => name.length)) + 2;
  const texts = [...kinds.map(({ short }) => short), ...[...byNames.values()].map(({ text }) => text)];
  const column = Math.max(...texts.map((text) => text.length)) + 2;
  const columns = Math.max(1, Math.floor((width - 2 - rowHead) / column));
  const lines: string[] = [];
  for (let first = 0; first < kinds.length; first += columns) {
    const shown = kinds.slice(first, first + columns);
    if (first > 0) lines.push("");
    lines.push(
      dim(`  ${"A \\ B".padEnd(rowHead)}${shown.map(({ short }) => short.padEnd(column)).join("")}`.trimEnd()),
    );
    for (const a of kinds) {
      const row = shown.map((b) => {
        const { text, grade } = byNames.get(`${a.name} x ${b.name}`)!;
        return PAINT[grade](text) + " ".repeat(column - text.length);
      });
      lines.push(`  ${a.name.padEnd(rowHead)}${row.join("")}`.trimEnd());
    }
  }
  return lines;
}

function toTableCell(cell: LabCell, describe: (cell: LabCell) => string): TableCell {
  return { text: describe(cell), grade: isExpected(cell) ? cell.path : "wrong" };
}

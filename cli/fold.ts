import { stripAnsiCode } from "@std/fmt/colors";

/**
 * Breaks a line for people between words where it is too long for a terminal. What follows begins below the text of a
 * row with a label, below the first column of a table, or a little further in than the line.
 *
 * @param line One line, with colours or without.
 * @param columns How many characters fit.
 */
export function fold(line: string, columns: number): string {
  const plain = stripAnsiCode(line);
  if (plain.length <= columns) return line;
  const hang = hangOf(plain, columns);
  let folded = "";
  let at = 0;
  for (const [, spaces, word] of line.matchAll(/( *)([^ ]+)/g)) {
    const width = stripAnsiCode(word!).length;
    if (at > hang && at + spaces!.length + width > columns) {
      folded += `\n${" ".repeat(hang)}${word}`;
      at = hang + width;
    } else {
      folded += spaces! + word;
      at += spaces!.length + width;
    }
  }
  return folded;
}

/** Where the lines begin that a line goes on in. */
function hangOf(plain: string, columns: number): number {
  const label = /^ *(?:[-+!x>] |\S+(?: \S+)* {2,})(?=\S)/.exec(plain)?.[0].length;
  if (label !== undefined && label <= columns / 2) return label;
  const indent = plain.search(/\S/);
  return indent === 0 || indent > 8 ? indent : indent + 2;
}

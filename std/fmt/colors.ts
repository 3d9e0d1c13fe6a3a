// The npm mirror of @std/fmt, with types for the names this project uses. See CONTRIBUTING.md, "Dependencies".
import * as mirror from "npm:deno-std@1.4.0/fmt/colors.js";

// deno-lint-ignore no-explicit-any
const std = mirror as any;
type Paint = (text: string) => string;

/** Turns colours on or off. */
export const setColorEnabled: (value: boolean) => void = std.setColorEnabled;
/** Whether colours are on. */
export const getColorEnabled: () => boolean = std.getColorEnabled;
/** Bold text. */
export const bold: Paint = std.bold;
/** Dim text. */
export const dim: Paint = std.dim;
/** Red text. */
export const red: Paint = std.red;
/** Green text. */
export const green: Paint = std.green;
/** Yellow text. */
export const yellow: Paint = std.yellow;
/** Blue text. */
export const blue: Paint = std.blue;
/** Magenta text. */
export const magenta: Paint = std.magenta;
/** Cyan text. */
export const cyan: Paint = std.cyan;
/** Gray text. */
export const gray: Paint = std.gray;
/** Takes ANSI codes out of text. */
export const stripAnsiCode: Paint = std.stripAnsiCode;

// @ts-check

/**
 * Greets whoever stands on a line. The input is some lines of the whole: other devices may have the others.
 * @type {import("../msm").Run}
 */
export function run(input, ctx) {
  const lines = new TextDecoder().decode(input).split("\n");
  // What follows the last line break is no line.
  if (lines.at(-1) === "") lines.pop();
  return lines.map((name) => `${ctx.params.greeting}, ${name}!\n`).join("");
}

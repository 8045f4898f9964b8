// Writes each line of a text in capitals, `times` times.
export function run(input, ctx) {
  const mark = ctx.params.mark === "star" ? "* " : "";
  const lines = new TextDecoder().decode(input).split("\n");
  const written = lines.flatMap((line) => Array(ctx.params.times).fill(mark + line.toUpperCase()));
  return new TextEncoder().encode(written.join("\n"));
}

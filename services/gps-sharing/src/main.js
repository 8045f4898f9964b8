// Where the device is that runs this: one line of JSON.

export async function run(input, ctx) {
  const { lat, lon, accuracy, time, age, source } = await ctx.gps.position({ maxAge: ctx.params["max-age"] });
  return JSON.stringify({ lat, lon, accuracy, time, age, source }) + "\n";
}

// @ts-check

/**
 * Inverts the colours of some rows of a picture: four bytes a pixel, red, green, blue and opacity.
 * @type {import("../msm").Run}
 */
export function run(rows) {
  const out = rows.slice();
  for (let at = 0; at < out.length; at += 4) {
    for (let channel = 0; channel < 3; channel++) out[at + channel] = 255 - rows[at + channel];
  }
  return out;
}

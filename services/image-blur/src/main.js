// Box blur: every pixel becomes the mean of the square of (2 * radius + 1)^2 pixels around it.
//
// Two passes, rows then columns, each rounded to whole bytes. Beyond its edges the picture goes on with its edge
// pixels. All four channels are treated alike, alpha too.

// Two channels share one number: bytes 0 and 2 of a pixel, or 1 and 3, each with 16 bits to sum up in. The largest sum
// is 255 * 101 (radius 50), so the upper one never reaches the sign.
const LANES = 0x00ff00ff;

/** Rounded means: `means[sum]` is sum / n to the nearest byte. n is odd, so no mean lies half-way. */
function meansOf(n) {
  const means = new Uint8Array(255 * n + 1);
  for (let sum = 0; sum < means.length; sum++) means[sum] = ((sum + (n >> 1)) / n) | 0;
  return means;
}

/** Blurs each row of pixels in place. */
function blurRows(pixels, width, height, radius, means) {
  const n = 2 * radius + 1;
  // One row with its edge pixels repeated on both sides: the loop below needs no case for the edges.
  const line = new Int32Array(width + n);
  for (let row = 0; row < height; row++) {
    const start = row * width;
    line.fill(pixels[start], 0, radius);
    line.set(pixels.subarray(start, start + width), radius);
    line.fill(pixels[start + width - 1], radius + width);
    let even = 0;
    let odd = 0;
    for (let i = 0; i < n; i++) {
      even += line[i] & LANES;
      odd += (line[i] >>> 8) & LANES;
    }
    for (let x = 0; x < width; x++) {
      pixels[start + x] =
        means[even & 0xffff] | (means[odd & 0xffff] << 8) | (means[even >> 16] << 16) | (means[odd >> 16] << 24);
      const come = line[x + n];
      const go = line[x];
      even += (come & LANES) - (go & LANES);
      odd += ((come >>> 8) & LANES) - ((go >>> 8) & LANES);
    }
  }
}

/** Blurs the columns of the rows from `first` up to, not including, `end` into `out`. */
function blurColumns(pixels, width, height, radius, means, first, end, out) {
  const last = height - 1;
  const even = new Int32Array(width);
  const odd = new Int32Array(width);
  for (let d = -radius; d <= radius; d++) {
    const row = Math.min(Math.max(first + d, 0), last) * width;
    for (let x = 0; x < width; x++) {
      even[x] += pixels[row + x] & LANES;
      odd[x] += (pixels[row + x] >>> 8) & LANES;
    }
  }
  let to = 0;
  for (let y = first; y < end; y++) {
    let come = Math.min(y + radius + 1, last) * width;
    let go = Math.max(y - radius, 0) * width;
    for (let x = 0; x < width; x++) {
      const e = even[x];
      const o = odd[x];
      out[to++] = means[e & 0xffff] | (means[o & 0xffff] << 8) | (means[e >> 16] << 16) | (means[o >> 16] << 24);
      const c = pixels[come++];
      const g = pixels[go++];
      even[x] = e + (c & LANES) - (g & LANES);
      odd[x] = o + ((c >>> 8) & LANES) - ((g >>> 8) & LANES);
    }
  }
}

/**
 * Blurs one band of rows. Where a band has fewer rows of its neighbour than the radius, it ends at the picture's edge.
 *
 * @param {Uint8Array} rows RGBA of the band, its neighbours' rows included
 * @returns {Uint8Array} RGBA of the band's own rows
 */
export function run(rows, ctx) {
  const { width, height, top, bottom } = ctx.tile;
  const { radius } = ctx.params;
  const means = meansOf(2 * radius + 1);
  const pixels = new Int32Array(rows.buffer, rows.byteOffset, width * height);
  blurRows(pixels, width, height, radius, means);
  const out = new Int32Array(width * (height - top - bottom));
  blurColumns(pixels, width, height, radius, means, top, height - bottom, out);
  return new Uint8Array(out.buffer);
}

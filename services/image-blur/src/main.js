// Box blur: every pixel becomes the mean of the square of (2 * radius + 1)^2 pixels around it. Gaussian blur: the same
// square, weighted by a bell whose sigma is a third of the radius.
//
// Two passes, rows then columns, each rounded to whole bytes. Beyond its edges the picture goes on with its edge
// pixels. All four channels are treated alike, alpha too. The C beside this does the same, to the byte.

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

/** e^-x for 0 <= x <= 4.5. Sums and products of doubles are the same everywhere, Math.exp() need not be. */
function decay(x) {
  let sum = 1;
  let term = 1;
  for (let k = 1; k <= 40; k++) {
    term = (term * x) / k;
    sum = sum + term;
  }
  return 1 / sum;
}

/** `weights[d]` for the pixels at distance d, in whole numbers: all 2 * radius + 1 together are 2^15. */
function weightsOf(radius) {
  // exp(-d^2 / (2 sigma^2)) is q^(d^2); from d to d + 1 it is multiplied by q^(2d + 1).
  const q = decay(4.5 / (radius * radius));
  const weights = [];
  let weight = 1;
  let step = q;
  let total = -1;
  for (let d = 0; d <= radius; d++) {
    weights.push(weight);
    total = total + 2 * weight;
    weight = weight * step;
    step = step * q * q;
  }
  weights[0] = 1 << 15;
  for (let d = 1; d <= radius; d++) {
    weights[d] = Math.floor((weights[d] / total) * (1 << 15) + 0.5);
    weights[0] -= 2 * weights[d];
  }
  return weights;
}

/** Where the second of two channels in one number stands: weighted sums have 23 bits, and two of them fit a double. */
const UPPER = 2 ** 26;

/** Blurs, in place, the `count` pixels that begin at `start` and lie `step` apart: a row or a column. */
function bellLine(pixels, start, step, count, radius, weights, even, odd) {
  // The line with its edge pixels repeated on both sides, two channels in each number.
  for (let i = 0; i < count + 2 * radius; i++) {
    const pixel = pixels[start + Math.min(Math.max(i - radius, 0), count - 1) * step];
    even[i] = (pixel & 0xff) + ((pixel >>> 16) & 0xff) * UPPER;
    odd[i] = ((pixel >>> 8) & 0xff) + (pixel >>> 24) * UPPER;
  }
  // Half a step in both halves, so that cutting off rounds.
  const half = (1 << 14) * (1 + UPPER);
  for (let i = 0; i < count; i++) {
    let before = i + radius;
    let behind = before;
    let e = half + even[before] * weights[0];
    let o = half + odd[before] * weights[0];
    for (let d = 1; d <= radius; d++) {
      const weight = weights[d];
      before--;
      behind++;
      e += (even[before] + even[behind]) * weight;
      o += (odd[before] + odd[behind]) * weight;
    }
    const e2 = Math.floor(e / UPPER);
    const o2 = Math.floor(o / UPPER);
    pixels[start + i * step] =
      ((e - e2 * UPPER) >> 15) | (((o - o2 * UPPER) >> 15) << 8) | ((e2 >> 15) << 16) | ((o2 >> 15) << 24);
  }
}

/** Gaussian blur of all rows, and of the columns. */
function blurBell(pixels, width, height, radius) {
  // Doubles times doubles: the engine is quicker with two numbers of one kind.
  const weights = new Float64Array(weightsOf(radius));
  const room = Math.max(width, height) + 2 * radius;
  const even = new Float64Array(room);
  const odd = new Float64Array(room);
  for (let y = 0; y < height; y++) bellLine(pixels, y * width, 1, width, radius, weights, even, odd);
  for (let x = 0; x < width; x++) bellLine(pixels, x, width, height, radius, weights, even, odd);
}

/**
 * Blurs one band of rows. Where a band has fewer rows of its neighbour than the radius, it ends at the picture's edge.
 *
 * @param {Uint8Array} rows RGBA of the band, its neighbours' rows included
 * @returns {Uint8Array} RGBA of the band's own rows
 */
export function run(rows, ctx) {
  const { width, height, top, bottom } = ctx.tile;
  const { kind, radius } = ctx.params;
  const pixels = new Int32Array(rows.buffer, rows.byteOffset, width * height);
  if (kind === "gaussian") {
    blurBell(pixels, width, height, radius);
    return rows.subarray(top * width * 4, (height - bottom) * width * 4);
  }
  const means = meansOf(2 * radius + 1);
  blurRows(pixels, width, height, radius, means);
  const out = new Int32Array(width * (height - top - bottom));
  blurColumns(pixels, width, height, radius, means, top, height - bottom, out);
  return new Uint8Array(out.buffer);
}

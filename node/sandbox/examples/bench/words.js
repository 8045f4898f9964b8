// Counts the lines and words of a text, and tells its commonest words.
//
// A word is a run of letters, digits and apostrophes; upper and lower case are the same. Words that are equally common
// are told in the order of the alphabet, so that every device gives the same answer.

const WORD = /[\p{L}\p{N}']+/gu;

/** Adds each word of a text to the counts. */
function count(text, counts) {
  let words = 0;
  for (const [word] of text.toLowerCase().matchAll(WORD)) {
    counts.set(word, (counts.get(word) ?? 0) + 1);
    words++;
  }
  return words;
}

/** The commonest words with their counts, commonest first. */
function commonest(counts, top) {
  const byCount = ([a, n], [b, m]) => m - n || (a < b ? -1 : 1);
  return [...counts].sort(byCount).slice(0, top);
}

/**
 * @param {Uint8Array} input a text in UTF-8
 * @returns how many lines and words it has, and its `top` commonest words
 */
export function run(input, ctx) {
  const text = new TextDecoder().decode(input);
  const lines = text.split("\n");
  // What follows the last newline is a line only if something does.
  if (lines.at(-1) === "") lines.pop();
  const counts = new Map();
  const words = lines.reduce((sum, line) => sum + count(line, counts), 0);
  return { lines: lines.length, words, top: commonest(counts, ctx.params.top ?? 10) };
}

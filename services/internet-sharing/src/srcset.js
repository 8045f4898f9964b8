// The pictures of a `srcset`, one of which a browser chooses.

/** Candidates of one `srcset`; more are left out. */
const CANDIDATES = 100;
const DESCRIPTOR = /^[\d.]+[wxh](?:\s+[\d.]+[wxh])?$/;

/** The candidates of a `srcset`: `{address, density}`. */
export function parseSrcset(text) {
  const found = [];
  const gap = /[\s,]*/y;
  const word = /\S+/y;
  const read = (pattern, at) => {
    pattern.lastIndex = at;
    return pattern.exec(text)?.[0] ?? "";
  };
  for (let at = 0; found.length < CANDIDATES; ) {
    at += read(gap, at).length;
    const address = read(word, at);
    if (address === "") break;
    at += address.length;
    // An address may hold commas; one at its end ends the candidate.
    if (address.endsWith(",")) {
      found.push({ address: address.slice(0, address.search(/,+$/)), density: "" });
      continue;
    }
    const comma = text.indexOf(",", at);
    const end = comma < 0 ? text.length : comma;
    const density = text.slice(at, end).trim();
    at = end;
    if (density === "" || DESCRIPTOR.test(density)) found.push({ address, density });
  }
  return found;
}

/** The reverse. */
export const writeSrcset = (candidates) =>
  candidates
    .map(({ address, density }) => ({ address: address.replace(/^,|,$/g, "%2C").replace(/\s/g, "%20"), density }))
    .map(({ address, density }) => (density ? `${address} ${density}` : address))
    .join(", ");

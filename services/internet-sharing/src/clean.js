// A page without its scripts. Every piece is written anew, so that a browser can read nothing in it that we did not:
// text has no "<", tags have only attributes with plain names, comments and what is shown to nobody are gone.

import { leading } from "./urls.js";

/** Stands first in the head: should a script come through all the same, it does not run. */
export const POLICY = `<meta http-equiv="Content-Security-Policy" content="script-src 'none'; object-src 'none'">`;

/** Tags that go: scripts, what hosts a plugin, and `<noscript>`, whose content is shown now. */
const GONE = new Set([
  "applet", "embed", "fencedframe", "handler", "listener", "noscript", "object", "param", "plaintext", "portal", "script",
]);
/** Elements whose content no browser shows. */
const HIDDEN = new Set(["iframe", "noembed", "noframes"]);
/** Attributes that hold one address. */
const ADDRESSES = new Set([
  "action", "background", "cite", "code", "codebase", "data", "dynsrc", "formaction", "href", "icon", "longdesc", "lowsrc",
  "manifest", "poster", "profile", "src", "usemap", "xlink:href",
]);
/** Of those, the ones that a picture may stand in. */
const PICTURES = new Set(["background", "href", "poster", "src", "xlink:href"]);
const PICTURE_TAGS = new Set([
  "audio", "body", "feimage", "image", "img", "input", "link", "source", "table", "td", "th", "track", "video",
]);
const PICTURE = /^\s*data:image\/[\w.+-]+[;,]/i;
const ANIMATION = /^(?:animate\w*|set)$/;
const TAG = /^[a-z][a-z0-9:_.-]*$/;
const ATTRIBUTE = /^[a-z_][a-z0-9:_.-]*$/;

const escaped = (text) => text.replace(/</g, "&lt;");
/** What may stand in a style sheet wherever it stands: in a drawing, `<style>` holds markup. */
const escapedCss = (css) => css.replace(/<!--/g, "").replace(/<(?=[a-z/!?])/gi, "\\3c ");

/** Takes scripts, and whatever could run one, out of `pieces`. Addresses are absolute afterwards. */
export function clean(pieces, base) {
  for (const piece of pieces) {
    // The escape sign begins another alphabet in one old encoding, in which quotes are no quotes.
    if (piece.kind === "tag") cleanTag(piece, base);
    else if (piece.kind === "text") piece.source = escaped(piece.source).replaceAll("\x1b", "");
    else if (piece.kind === "doctype") piece.source = /^<![\w\s"'./:-]*>$/.test(piece.source) ? piece.source : "";
    else if (piece.kind === "end" && TAG.test(piece.name) && !GONE.has(piece.name)) piece.source = `</${piece.name}>`;
    else piece.source = "";
  }
}

function cleanTag(tag, base) {
  if (GONE.has(tag.name) || !TAG.test(tag.name) || (ANIMATION.test(tag.name) && animatesAddress(tag))) {
    tag.remove();
    return;
  }
  if (tag.content !== null) cleanContent(tag);
  tag.changed = true;
  // A frame is a page of its own, with scripts of its own.
  if (tag.name === "iframe") tag.set("sandbox", "");
  tag.attributes = tag.attributes.filter(({ name }) => ATTRIBUTE.test(name) && !/^on|^srcdoc$|^ping$/.test(name));
  for (const attribute of tag.attributes) {
    attribute.value = attribute.value?.replaceAll("\x1b", "") ?? null;
  }
  for (const { name } of [...tag.attributes]) {
    if (!ADDRESSES.has(name) && !name.endsWith(":href")) continue;
    const text = tag.get(name);
    if (PICTURE.test(text) && PICTURES.has(name) && PICTURE_TAGS.has(tag.name)) continue;
    const address = leading(text, base);
    if (address === null) tag.drop((one) => one === name);
    else tag.set(name, address);
  }
}

function cleanContent(tag) {
  tag.end = `</${tag.name}>`;
  const content = tag.content.replaceAll("\x1b", "");
  if (HIDDEN.has(tag.name)) tag.content = "";
  else if (tag.name === "style") tag.content = escapedCss(content);
  else if (tag.name !== "xmp") tag.content = escaped(content);
  else {
    tag.content = escaped(content.replace(/&/g, "&amp;"));
    tag.name = "pre";
    tag.end = "</pre>";
  }
}

/** An animation could give a link another address. */
const animatesAddress = (tag) => !/^(?!href$|on)[a-z-]+$/i.test(tag.get("attributename") ?? "transform");

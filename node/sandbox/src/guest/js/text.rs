//! Text between host and guest: UTF-8 both ways, base64, and values as a log shows them.

use rquickjs::{Coerced, Ctx, Exception, FromJs, Result, TypedArray, Value};

use super::buffers::Octets;

/// Of a byte array the log shows no more: its kind can be seen, and a line stays a line.
const SHOWN_BYTES: usize = 16;

/// The UTF-8 of a string.
pub fn utf8<'js>(ctx: Ctx<'js>, text: Value<'js>) -> Result<Value<'js>> {
    Ok(TypedArray::<u8>::new_copy(ctx.clone(), lossy(&ctx, &text).as_bytes())?.into_value())
}

/// The string of UTF-8 bytes.
pub fn text(ctx: Ctx<'_>, bytes: Octets<'_>, fatal: bool, keep_bom: bool) -> Result<String> {
    // SAFETY: no JavaScript runs while the text is made.
    let mut bytes = unsafe { bytes.as_slice() };
    if !keep_bom {
        bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) if fatal => Err(Exception::throw_type(&ctx, &format!("TextDecoder: {error}"))),
        Err(_) => Ok(String::from_utf8_lossy(bytes).into_owned()),
    }
}

/// The text of a string; halves of surrogate pairs become U+FFFD.
pub fn lossy(ctx: &Ctx<'_>, value: &Value<'_>) -> String {
    let Some(string) = value.as_string() else { return String::new() };
    string.to_string().unwrap_or_else(|_| {
        ctx.catch();
        string.clone().to_cstring().map_or_else(|_| String::new(), |text| whole_characters(text.as_bytes()))
    })
}

/// The text of the engine's bytes: it spells half a surrogate pair as ED A0..BF 80..BF, which is not UTF-8.
pub fn whole_characters(bytes: &[u8]) -> String {
    let mut bytes = bytes.to_vec();
    for at in 0..bytes.len() {
        if let [0xed, 0xa0..=0xbf, _, ..] = bytes[at..] {
            bytes[at..at + 3].copy_from_slice("\u{fffd}".as_bytes());
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A value as a log line shows it.
pub fn readable<'js>(ctx: &Ctx<'js>, value: &Value<'js>) -> String {
    if value.is_string() {
        return lossy(ctx, value);
    }
    if let Some(error) = value.as_object().filter(|object| object.is_error()) {
        let field = |name| error.get::<_, Coerced<String>>(name).map(|text| text.0).unwrap_or_default();
        return format!("{}: {}\n{}", field("name"), field("message"), field("stack").trim_end());
    }
    if let Some(octets) = Octets::of(value) {
        // SAFETY: no JavaScript runs while the bytes are shown.
        let bytes = unsafe { octets.as_slice() };
        let first = &bytes[..bytes.len().min(SHOWN_BYTES)];
        let more = if first.len() < bytes.len() { " …" } else { "" };
        return format!("{} bytes {first:?}{more}", bytes.len());
    }
    let json =
        if value.is_object() && !value.is_function() { ctx.json_stringify(value.clone()).ok().flatten() } else { None };
    let text = json.and_then(|text| text.to_string().ok());
    let text = text.or_else(|| Coerced::<String>::from_js(ctx, value.clone()).ok().map(|text| text.0));
    // Whatever a getter or toJSON threw is the log's affair only.
    ctx.catch();
    text.unwrap_or_else(|| value.type_name().to_owned())
}

/// Bytes as base64, with padding.
pub fn base64(bytes: Octets<'_>) -> String {
    // SAFETY: no JavaScript runs while the text is made.
    data_encoding::BASE64.encode(unsafe { bytes.as_slice() })
}

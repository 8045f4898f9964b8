//! CBOR diagnostic notation (RFC 8949 section 8) of a checked item, laid out for reading.

/// Byte strings under these keys are CBOR themselves and are shown as `<< … >>`.
const EMBEDDED: [&str; 4] = ["payload", "receipt", "head", "roots"];
/// Items up to this width stay on one line.
const WIDTH: usize = 96;

enum Item {
    Plain(String),
    /// Opening bracket, elements with their `key: ` prefix, closing bracket.
    Many(char, Vec<(String, Self)>, char),
    Embedded(Box<Self>),
}

/// The notation of one item.
pub fn diag(bytes: &[u8]) -> String {
    let mut rest = bytes;
    let item = read(&mut rest, false);
    assert!(rest.is_empty());
    let mut out = String::new();
    write(&item, 0, 0, &mut out);
    out.push('\n');
    out
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (head, tail) = rest.split_at(count);
    *rest = tail;
    head
}

fn read(rest: &mut &[u8], embedded: bool) -> Item {
    let first = take(rest, 1)[0];
    let (major, low) = (first >> 5, usize::from(first & 31));
    let width = if low < 24 { 0 } else { 1 << (low - 24) };
    let number = take(rest, width).iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    let value = if low < 24 { low as u64 } else { number };
    match major {
        0 => Item::Plain(value.to_string()),
        1 => Item::Plain((-1 - i128::from(value)).to_string()),
        2 => {
            let body = take(rest, value as usize);
            if embedded && msm_protocol::cbor::check(body).is_ok() {
                return Item::Embedded(Box::new(read(&mut &body[..], false)));
            }
            Item::Plain(format!("h'{}'", data_encoding::HEXLOWER.encode(body)))
        }
        3 => Item::Plain(serde_json::to_string(std::str::from_utf8(take(rest, value as usize)).unwrap()).unwrap()),
        4 => Item::Many('[', (0..value).map(|_| (String::new(), read(rest, embedded))).collect(), ']'),
        5 => {
            let pairs = (0..value).map(|_| {
                let Item::Plain(key) = read(rest, false) else { panic!("a key that is no scalar") };
                let embedded = EMBEDDED.iter().any(|name| key == format!("\"{name}\""));
                (format!("{key}: "), read(rest, embedded))
            });
            Item::Many('{', pairs.collect(), '}')
        }
        _ => Item::Plain(match low {
            20 => "false".into(),
            21 => "true".into(),
            22 => "null".into(),
            _ => format!("{:?}", f64::from_bits(number)),
        }),
    }
}

fn flat(item: &Item) -> String {
    match item {
        Item::Plain(text) => text.clone(),
        Item::Embedded(inner) => format!("<< {} >>", flat(inner)),
        Item::Many(open, items, close) => {
            let items: Vec<String> = items.iter().map(|(key, item)| format!("{key}{}", flat(item))).collect();
            format!("{open}{}{close}", items.join(", "))
        }
    }
}

/// `used` is what stands on the line already.
fn write(item: &Item, indent: usize, used: usize, out: &mut String) {
    let line = flat(item);
    match item {
        Item::Many(open, items, close) if used + line.len() > WIDTH => {
            out.push(*open);
            for (n, (key, item)) in items.iter().enumerate() {
                out.push_str(if n == 0 { "\n" } else { ",\n" });
                out.push_str(&" ".repeat(indent + 2));
                out.push_str(key);
                write(item, indent + 2, indent + 2 + key.len(), out);
            }
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            out.push(*close);
        }
        Item::Embedded(inner) if used + line.len() > WIDTH => {
            out.push_str("<< ");
            write(inner, indent, used + 3, out);
            out.push_str(" >>");
        }
        _ => out.push_str(&line),
    }
}

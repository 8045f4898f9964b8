//! `URL` and `URLSearchParams`: parsed by the same code that the host fetches with.

use rquickjs::{Ctx, Exception, Result, Value};
use url::{Url, form_urlencoded, quirks};

use super::text::lossy;

/// Bytes of an address or of a query: it is parsed outside the guest's heap and beyond the reach of its deadline, so it
/// must be quick. *Judgement: browsers allow 2 MiB.*
const URL_BYTES: usize = 1 << 20;

/// The parts of a URL in this order; the names are those of the class.
type Parts = [String; 11];
const PARTS: [&str; 11] =
    ["href", "origin", "protocol", "username", "password", "host", "hostname", "port", "pathname", "search", "hash"];

fn parts(url: &Url) -> Parts {
    let show: [fn(&Url) -> &str; 9] = [
        quirks::protocol,
        quirks::username,
        quirks::password,
        quirks::host,
        quirks::hostname,
        quirks::port,
        quirks::pathname,
        quirks::search,
        quirks::hash,
    ];
    let mut parts = Parts::default();
    parts[0] = quirks::href(url).to_owned();
    parts[1] = quirks::origin(url);
    for (part, show) in parts[2..].iter_mut().zip(show) {
        *part = show(url).to_owned();
    }
    parts
}

fn bounded(ctx: &Ctx<'_>, text: &Value<'_>) -> Result<String> {
    let text = lossy(ctx, text);
    if text.len() > URL_BYTES {
        let text = format!("a URL of {} bytes, at most {URL_BYTES}", text.len());
        return Err(Exception::throw_range(ctx, &text));
    }
    Ok(text)
}

/// The names of the parts.
pub fn names() -> Vec<&'static str> {
    PARTS.to_vec()
}

/// The parts of a URL, which may be relative to `base`; none if there is no such URL.
pub fn parse<'js>(ctx: Ctx<'js>, text: Value<'js>, base: Value<'js>) -> Result<Option<Vec<String>>> {
    let text = bounded(&ctx, &text)?;
    let base = match base.is_undefined() {
        true => None,
        false => match Url::parse(&bounded(&ctx, &base)?) {
            Ok(base) => Some(base),
            Err(_) => return Ok(None),
        },
    };
    Ok(Url::options().base_url(base.as_ref()).parse(&text).ok().map(|url| parts(&url).into()))
}

/// The parts of a URL after one of them was set; unchanged if the value makes no sense there, none for a bad href.
pub fn set<'js>(ctx: Ctx<'js>, href: Value<'js>, name: String, value: Value<'js>) -> Result<Option<Vec<String>>> {
    let Ok(mut url) = Url::parse(&bounded(&ctx, &href)?) else { return Ok(None) };
    let value = bounded(&ctx, &value)?;
    // What a setter refuses changes nothing, as on the web.
    let _: std::result::Result<(), ()> = match &*name {
        "href" => match Url::parse(&value) {
            Ok(new) => {
                url = new;
                Ok(())
            }
            Err(_) => return Ok(None),
        },
        "protocol" => quirks::set_protocol(&mut url, &value),
        "username" => quirks::set_username(&mut url, &value),
        "password" => quirks::set_password(&mut url, &value),
        "host" => quirks::set_host(&mut url, &value),
        "hostname" => quirks::set_hostname(&mut url, &value),
        "port" => quirks::set_port(&mut url, &value),
        "pathname" => {
            quirks::set_pathname(&mut url, &value);
            Ok(())
        }
        "search" => {
            quirks::set_search(&mut url, &value);
            Ok(())
        }
        "hash" => {
            quirks::set_hash(&mut url, &value);
            Ok(())
        }
        _ => Err(()),
    };
    Ok(Some(parts(&url).into()))
}

/// The names and values of a query, one after the other.
pub fn pairs<'js>(ctx: Ctx<'js>, query: Value<'js>) -> Result<Vec<String>> {
    let query = bounded(&ctx, &query)?;
    let pairs = form_urlencoded::parse(query.as_bytes());
    Ok(pairs.flat_map(|(name, value)| [name.into_owned(), value.into_owned()]).collect())
}

/// The query of names and values, one after the other.
pub fn query<'js>(ctx: Ctx<'js>, pairs: Vec<Value<'js>>) -> Result<String> {
    let mut out = form_urlencoded::Serializer::new(String::new());
    let mut room = URL_BYTES;
    for pair in pairs.chunks_exact(2) {
        let (name, value) = (lossy(&ctx, &pair[0]), lossy(&ctx, &pair[1]));
        room = match room.checked_sub(name.len() + value.len()) {
            Some(room) => room,
            None => return Err(Exception::throw_range(&ctx, &format!("a query over {URL_BYTES} bytes"))),
        };
        out.append_pair(&name, &value);
    }
    Ok(out.finish())
}

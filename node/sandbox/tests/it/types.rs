//! `services/msm.d.ts` names what guests really find: every member of both is in the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
};

use msm_sandbox::{Asks, Op, Work};

use crate::{
    asks::Device,
    rig::{Rig, package},
};

type Names = BTreeSet<String>;

/// Globals that the bare engine has and that are no part of the language, so that editors must be told.
const ENGINE_EXTRAS: [&str; 4] = ["DOMException", "atob", "btoa", "queueMicrotask"];

/// What the file declares.
#[derive(Default, Debug)]
struct Declared {
    /// Members by interface, class or global object; static ones are `static NAME`, optional ones `NAME?`.
    members: BTreeMap<String, Names>,
    globals: Names,
}

/// Reads the file by its form: a declaration begins a line, its members are one a line and indented by two more.
fn declared() -> Declared {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../services/msm.d.ts");
    let text = fs::read_to_string(file).unwrap();
    let mut found = Declared::default();
    // The block that is open, and the indentation of its members.
    let mut block: Option<(String, usize)> = None;
    let mut is_global = false;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let words = line.trim().trim_start_matches("export ").trim_start_matches("readonly ");
        is_global |= line == "declare global {";
        if let Some((name, inner)) = &block {
            if indent + 2 == *inner && words.starts_with('}') {
                block = None;
            } else if indent == *inner
                && let Some(member) = member(words)
            {
                found.members.get_mut(name).unwrap().insert(member);
            }
            continue;
        }
        let Some((kind, rest)) = words.split_once(' ') else { continue };
        if !["interface", "class", "const", "function"].contains(&kind) {
            continue;
        }
        let name = identifier(rest).to_owned();
        if is_global && indent == 2 {
            found.globals.insert(name.clone());
        }
        if words.ends_with('{') {
            found.members.insert(name.clone(), Names::new());
            block = Some((name, indent + 2));
        }
    }
    found
}

fn identifier(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}

/// The name of a member's line.
fn member(words: &str) -> Option<String> {
    let (prefix, words) = words.strip_prefix("static ").map_or(("", words), |rest| ("static ", rest));
    let words = words.trim_start_matches("readonly ");
    let name = identifier(words);
    let optional = if words[name.len()..].starts_with('?') { "?" } else { "" };
    let skip = name.is_empty() || ["constructor", "private"].contains(&name);
    (!skip).then(|| format!("{prefix}{name}{optional}"))
}

/// A guest that tells what it finds, by the names of the file.
const FINDS: &str = r#"
const own = (object) => Object.getOwnPropertyNames(object);
const statics = (text) => !["length", "name", "prototype"].includes(text);
export async function run(input, ctx) {
    const response = await fetch("http://example.org/page");
    const found = {
        Ctx: Object.keys(ctx), Log: Object.keys(ctx.log), Gps: Object.keys(ctx.gps), Net: Object.keys(ctx.net),
        Images: Object.keys(ctx.image), Assets: Object.keys(ctx.assets), Device: Object.keys(ctx.device),
        Chunk: Object.keys(ctx.chunk ?? {}), Tile: Object.keys(ctx.tile ?? {}),
        Position: Object.keys(await ctx.gps.position()), DeviceStatus: Object.keys(await ctx.device.status()),
        FetchResponse: Object.keys(response), FetchHeaders: Object.keys(response.headers),
        Picture: Object.keys(ctx.image.decode(ctx.image.encode({width: 1, height: 1, data: new Uint8Array(4)}))),
        console: Object.keys(console), crypto: Object.keys(crypto),
    };
    for (const name of own(globalThis)) {
        const value = globalThis[name];
        if (typeof value !== "function" || !value.prototype || !/^[A-Z]/.test(name)) continue;
        const fields = name === "AbortSignal" ? own(new AbortController().signal) : [];
        found[name] = [...own(value).filter(statics).map((it) => "static " + it),
            ...own(value.prototype).filter((it) => it !== "constructor"), ...fields];
    }
    const told = new TextEncoder().encode(JSON.stringify({found, globals: own(globalThis)}));
    if (!ctx.tile) return told;
    // Rows of pixels, as this kind of work must give: the text and blanks.
    const rows = new Uint8Array(ctx.tile.width * ctx.tile.height * 4).fill(32);
    rows.set(told);
    return rows;
}
"#;

#[derive(serde::Deserialize)]
struct Found {
    found: BTreeMap<String, Names>,
    globals: Names,
}

async fn found(work: Work, op: Op, input: Vec<u8>) -> Found {
    let rig = Rig::new();
    let bare = Arc::into_inner(package(FINDS, work, true)).unwrap();
    let asks = Asks { image: true, clock: true, random: true, gps: true, net: true, device: true };
    let mut call = rig.call(&Arc::new(msm_sandbox::Package { asks, ..bare }), op, "{}", input);
    call.resources = Some(Arc::new(Device::default()));
    let bytes = rig.sandbox.call(call).await.unwrap().bytes;
    let start = bytes.iter().position(|byte| *byte == b'{').unwrap();
    serde_json::from_slice(&bytes[start..]).unwrap()
}

#[tokio::test]
async fn the_types_for_editors_name_what_guests_find() {
    let declared = declared();
    let part = Op::Part { index: 0, count: 1 };
    let plain = found(Work::Whole, part, vec![]).await;
    // A tile of 64 rows of 64 pixels.
    let tile: Vec<u8> = [64u32, 64, 0, 0].into_iter().flat_map(u32::to_le_bytes).chain([0; 64 * 64 * 4]).collect();
    let tiled = found(Work::ImageRows { halo: 0 }, part, tile).await;

    // Globals: ours are those that the bare engine has not.
    let bare: Names = {
        let runtime = rquickjs::Runtime::new().unwrap();
        let context = rquickjs::Context::full(&runtime).unwrap();
        context.with(|ctx| ctx.globals().own_keys::<String>(rquickjs::Filter::new().string()).flatten().collect())
    };
    let extras: Names = ENGINE_EXTRAS.iter().map(|name| (*name).to_owned()).collect();
    let ours: Names =
        plain.globals.iter().filter(|name| !bare.contains(*name) || extras.contains(*name)).cloned().collect();
    let replaced: Names = ["console"].iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(declared.globals, &ours | &replaced, "globals of services/msm.d.ts and of guests");
    assert!(extras.is_subset(&plain.globals) && replaced.is_subset(&plain.globals));

    // Members: an optional one is there in one of the two runs at least; `want` is `split`'s alone.
    let required = |names: &Names| names.iter().filter(|name| !name.ends_with('?')).cloned().collect::<Names>();
    let bare_names = |names: &Names| names.iter().map(|name| name.trim_end_matches('?').to_owned()).collect::<Names>();
    let mut checked = 0;
    for (name, members) in &declared.members {
        let (Some(plain), Some(tiled)) = (plain.found.get(name), tiled.found.get(name)) else {
            assert!(["FetchInit"].contains(&&**name), "nothing tells what {name} has");
            continue;
        };
        let mut real: Names = plain | tiled;
        if name == "Ctx" {
            real.insert("want".into());
        }
        if name == "Position" {
            // Not every receiver tells these; the fake one does not.
            real.extend(["alt".to_owned(), "source".to_owned()]);
        }
        // Constants of the web that nobody reads.
        real.retain(|member| !member.starts_with("static") || !member.ends_with("_ERR"));
        if name == "DOMException" {
            real.retain(|member| !member.ends_with("_ERR") && member != "stack");
        }
        assert_eq!(bare_names(members), real, "members of {name}");
        let both = real.iter().filter(|member| plain.contains(*member) && tiled.contains(*member));
        let missing: Vec<_> =
            required(members).into_iter().filter(|member| !both.clone().any(|it| it == member)).collect();
        assert!(missing.is_empty() || name == "Tile", "{name}: {missing:?} must be marked as optional");
        checked += 1;
    }
    assert!(checked > 20, "{checked} kinds of {}", declared.members.len());
}

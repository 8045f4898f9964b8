//! Every kind of work, split or not: the parts put together are the whole, byte for byte.

use std::sync::Arc;

use bytes::Bytes;
use msm_protocol::{ContentHash, RefusalCode};
use msm_sandbox::{Aim, Op, Package, Work};

use crate::rig::{Rig, frames, in_parts, package};

const CHUNKS: [u32; 5] = [1, 2, 3, 7, 16];

/// A picture with no two rows alike.
pub fn png(rig_width: u32, height: u32) -> Bytes {
    let pixels = image::RgbaImage::from_fn(rig_width, height, |x, y| {
        let mix = (x * 31 + y * 17) ^ (x * y);
        image::Rgba([mix as u8, (mix >> 3) as u8, (x ^ y) as u8, 255 - (y as u8)])
    });
    let mut out = std::io::Cursor::new(Vec::new());
    pixels.write_to(&mut out, image::ImageFormat::Png).unwrap();
    out.into_inner().into()
}

/// One manifest is cut in several ways when its halo is a parameter: a warm child must not cut as the call before did.
#[tokio::test]
async fn one_package_is_cut_as_each_call_says() {
    let rig = Rig::new();
    let input = png(4, 32);
    for halo in [3, 9, 3] {
        let package = package("export const run = rows => rows;", Work::ImageRows { halo }, true);
        let package = Arc::new(Package { hash: ContentHash::of(b"one manifest"), ..Arc::into_inner(package).unwrap() });
        let op = Op::Split(Aim::even(2, 1 << 30));
        let split = rig.run(&package, op, "{}", input.clone()).await.unwrap();
        let rows: Vec<usize> = frames(&split.bytes).iter().map(|frame| (frame.len() - 16) / (4 * 4)).collect();
        assert_eq!(rows, [16 + halo as usize; 2]);
    }
}

#[tokio::test]
async fn the_parts_put_together_are_the_whole() {
    let rig = Rig::new();
    let text: String = (0..257).map(|i| format!("{}line {i}\n", "x".repeat(i % 13))).collect();
    let json =
        serde_json::to_string_pretty(&(0..101).map(|i| (i, "a,]\"[".repeat(i % 3))).collect::<Vec<_>>()).unwrap();
    let upper = "export function run(input) { for (let i = 0; i < input.length; i++) input[i] ^= 0x20; return input; }";
    let double = "export function run(input) {
        return JSON.parse(new TextDecoder().decode(input)).flatMap(([n, s]) => n % 3 ? [{n, s}] : []); }";
    // Each row plus the rows around it: needs its halo.
    let sum = "export function run(rows, ctx) {
        const {width, height, top, bottom} = ctx.tile, stride = width * 4, h = ctx.params.halo;
        const out = new Uint8Array((height - top - bottom) * stride);
        for (let y = top; y < height - bottom; y++) for (let i = 0; i < stride; i++) {
            let sum = 0;
            for (let d = -h; d <= h; d++) sum += rows[Math.min(Math.max(y + d, 0), height - 1) * stride + i];
            out[(y - top) * stride + i] = sum;
        }
        return out; }";
    let own = "export function* split(input, ctx) {
            const size = Math.ceil(input.length / ctx.want);
            for (let at = 0; at < input.length; at += size) yield input.subarray(at, at + size); }
        export function run(input) { return input.map(b => b + 1); }
        export async function merge(parts, ctx) {
            let length = 0; for (const p of parts) length += p.length;
            const out = new Uint8Array(length); let at = 0;
            for (const p of parts) { out.set(p, at); at += p.length; }
            return out; }";
    let table: [(&str, Work, &str, Bytes); 8] = [
        (upper, Work::Whole, "{}", Bytes::from(text.clone())),
        (upper, Work::Bytes { size: 1 }, "{}", Bytes::from(text.clone())),
        (upper, Work::Bytes { size: 97 }, "{}", Bytes::from(text.clone())),
        (upper, Work::Lines { n: 1 }, "{}", Bytes::from(text.clone())),
        (upper, Work::Lines { n: 4 }, "{}", Bytes::from(text.trim_end().to_owned())),
        (double, Work::JsonArray, "{}", Bytes::from(json)),
        (sum, Work::ImageRows { halo: 2 }, "{\"halo\":2}", png(13, 37)),
        (own, Work::Service, "{}", Bytes::from(text.clone())),
    ];
    for (source, work, params, input) in table {
        let package = package(source, work, false);
        let whole = rig.run(&package, Op::Whole, params, input.clone()).await.unwrap().bytes;
        assert!(!whole.is_empty());
        for want in CHUNKS {
            let (merged, count) = in_parts(&rig, &package, want, params, input.clone()).await.unwrap();
            assert!(merged == whole, "{work:?} in {count} parts differs from the whole");
            assert!(count == want as usize || work == Work::Whole, "{work:?}: {count} parts, {want} wanted");
        }
    }
}

#[tokio::test]
async fn a_missing_halo_is_noticed() {
    // The test above is able to fail: a service that needs two rows and asks for one gives another picture.
    let rig = Rig::new();
    let shift = "export function run(rows, ctx) {
        const {width, height, top, bottom} = ctx.tile, stride = width * 4;
        const out = new Uint8Array((height - top - bottom) * stride);
        for (let y = top; y < height - bottom; y++) {
            const from = Math.max(y - 2, 0) * stride;
            out.set(rows.subarray(from, from + stride), (y - top) * stride);
        }
        return out; }";
    for (halo, equal) in [(1, false), (2, true)] {
        let package = package(shift, Work::ImageRows { halo }, false);
        let whole = rig.run(&package, Op::Whole, "{}", png(5, 30)).await.unwrap().bytes;
        let (merged, _) = in_parts(&rig, &package, 3, "{}", png(5, 30)).await.unwrap();
        assert_eq!(merged == whole, equal, "halo {halo}");
    }
}

#[tokio::test]
async fn pictures_are_turned_upright_and_held_to_the_memory_limit() {
    let mut rig = Rig::new();
    let echo = package("export function run(rows) { return rows; }", Work::ImageRows { halo: 0 }, false);
    let split = Op::Split(Aim::even(3, 1 << 20));
    let tiles = frames(&rig.run(&echo, split, "{}", png(4, 7)).await.unwrap().bytes);
    let headers: Vec<Vec<u8>> = tiles.iter().map(|tile| tile[..16].iter().copied().step_by(4).collect()).collect();
    assert_eq!(headers, [[4, 2, 0, 0], [4, 2, 0, 0], [4, 3, 0, 0]]);
    // 4 x 7 pixels are 112 bytes.
    rig.budget.memory = 111;
    let refusal = rig.run(&echo, split, "{}", png(4, 7)).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::OutOfMemory, "{refusal}");
    rig.budget.memory = 112;
    rig.run(&echo, split, "{}", png(4, 7)).await.unwrap();
}

#[tokio::test]
async fn wrong_sizes_and_shapes_from_guests_are_told() {
    let rig = Rig::new();
    let rows = Work::ImageRows { halo: 0 };
    let split = Op::Split(Aim::even(2, 1 << 20));
    let table = [
        ("export function run(rows) { return rows.subarray(1); }", rows, Op::Whole, "without the rows of the halo"),
        ("export function run(rows) { return 'x'; }", rows, Op::Whole, "gave 1 bytes for 7 rows of 4 pixels"),
        ("export function run() { return {}; }", Work::JsonArray, Op::Whole, "must give a JSON array"),
        ("export function run() {}", Work::Service, split, "does not export `split`"),
        ("export function split() { return 5; }", Work::Service, split, "iterable"),
        ("export function split() { return []; }", Work::Service, split, "gave no parts"),
        ("export function split() { return [undefined]; }", Work::Service, split, "split() gave nothing"),
        ("export function* split() { for (;;) yield 'x'; }", Work::Service, split, "more than 16384 parts"),
        ("export function split() { return [1, 2]; }", Work::Service, Op::Merge, "does not export `merge`"),
    ];
    for (source, work, op, part) in table {
        let refusal = rig.run(&package(source, work, false), op, "{}", png(4, 7)).await;
        let refusal = match (op, refusal) {
            (Op::Merge, _) => rig.run(&package(source, work, false), op, "{}", "\x01\0\0\0x").await.unwrap_err(),
            (_, refusal) => refusal.unwrap_err(),
        };
        assert_eq!(refusal.code, RefusalCode::ServiceFailed, "{source}: {refusal}");
        assert!(refusal.reason.contains(part), "{source}: {refusal}");
    }
}

#[tokio::test]
async fn async_iterables_split_too() {
    let rig = Rig::new();
    let source =
        "export async function* split(input, ctx) { for (let i = 0; i < ctx.want; i++) { await null; yield [i]; } }";
    let split = Op::Split(Aim::even(3, 1));
    let output = rig.run(&package(source, Work::Service, false), split, "{}", "").await.unwrap();
    assert_eq!(frames(&output.bytes), ["[0]", "[1]", "[2]"]);
}

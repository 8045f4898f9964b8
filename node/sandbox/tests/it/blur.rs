//! The shipped image-blur service: its own golden tests, whole and in parts, and an independent definition of the blur.

use std::{fs, path::PathBuf, sync::Arc};

use bytes::Bytes;
use image::RgbaImage;
use msm_protocol::RefusalCode;
use msm_sandbox::{Aim, Op, Package, Work};
use serde::{Deserialize, Serialize};

use crate::rig::{Rig, framed, frames, in_parts, package, shipped, wasm_package};

/// What the benchmark takes for native speed.
#[path = "../../examples/blur/mod.rs"]
mod native;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../services/image-blur")
}

/// Both variants. Whatever one gives, the other has to give too.
fn variants(radius: u32) -> [(&'static str, Arc<Package>); 2] {
    let work = Work::ImageRows { halo: radius };
    [
        ("js", package(shipped("image-blur/src/main.js"), work, true)),
        ("wasm", wasm_package(shipped("image-blur/build/image-blur.wasm"), work, true)),
    ]
}

/// One of the service's test files.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    input: String,
    params: Params,
    expect: String,
    /// `image:N`: no channel of any pixel differs by more than N.
    compare: String,
    chunks: Vec<u32>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Params {
    #[serde(default)]
    kind: Kind,
    radius: u32,
}

#[derive(Deserialize, Serialize, Clone, Copy, Default, PartialEq, Debug)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Box,
    Gaussian,
}

fn cases() -> Vec<(String, Case)> {
    let files = fs::read_dir(folder().join("tests")).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files
        .map(|path| (path.display().to_string(), toml::from_str(&fs::read_to_string(&path).unwrap()).unwrap()))
        .collect()
}

fn pixels(bytes: &[u8]) -> RgbaImage {
    image::load_from_memory(bytes).unwrap().into_rgba8()
}

/// The largest difference of any channel.
fn distance(a: &RgbaImage, b: &RgbaImage) -> u8 {
    assert_eq!(a.dimensions(), b.dimensions());
    a.as_raw().iter().zip(b.as_raw()).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}

#[tokio::test]
async fn the_golden_pictures_come_out_whole_and_in_any_number_of_parts() {
    let rig = Rig::new();
    let cases = cases();
    assert!(cases.len() >= 7);
    for (name, case) in cases {
        let file = |name: &str| Bytes::from(fs::read(folder().join("tests").join(name)).unwrap());
        let (input, expected) = (file(&case.input), pixels(&file(&case.expect)));
        let tolerance: u8 = case.compare.strip_prefix("image:").unwrap().parse().unwrap();
        let params = serde_json::to_string(&case.params).unwrap();
        let mut agreed: Option<Bytes> = None;
        for (engine, package) in variants(case.params.radius) {
            let whole = rig.run(&package, Op::Whole, &params, input.clone()).await.unwrap().bytes;
            let difference = distance(&pixels(&whole), &expected);
            assert!(difference <= tolerance, "{name}, {engine}: differs by {difference}");
            for want in &case.chunks {
                let (merged, count) = in_parts(&rig, &package, *want, &params, input.clone()).await.unwrap();
                assert_eq!(count, *want as usize);
                assert!(merged == whole, "{name}, {engine}: in {want} parts differs from the whole");
            }
            assert!(*agreed.get_or_insert_with(|| whole.clone()) == whole, "{name}: the variants do not agree");
        }
    }
}

/// What a job does that has workers of both kinds.
#[tokio::test]
async fn parts_of_both_variants_make_one_picture() {
    let rig = Rig::new();
    let input = Bytes::from(shipped("image-blur/tests/photo.jpg"));
    for (kind, radius) in [(Kind::Box, 4), (Kind::Gaussian, 7)] {
        let params = serde_json::to_string(&Params { kind, radius }).unwrap();
        let packages = variants(radius).map(|(_, package)| package);
        let whole = rig.run(&packages[0], Op::Whole, &params, input.clone()).await.unwrap().bytes;
        let split = rig.run(&packages[1], Op::Split(Aim::even(6, 1 << 30)), &params, input.clone()).await;
        let mut outputs = Vec::new();
        for (index, task) in frames(&split.unwrap().bytes).into_iter().enumerate() {
            let op = Op::Part { index: index as u32, count: 6 };
            outputs.push(rig.run(&packages[index % 2], op, &params, task).await.unwrap().bytes);
        }
        assert_eq!(outputs.len(), 6);
        let merged = rig.run(&packages[1], Op::Merge, &params, framed(&outputs)).await.unwrap().bytes;
        assert!(merged == whole, "{kind:?}");
    }
}

#[tokio::test]
async fn the_filter_says_what_it_misses() {
    let rig = Rig::new();
    let [_, (_, wasm)] = variants(3);
    for (params, reason) in [
        ("{}", "MSM_PARAM_RADIUS must be a number up to 50, not missing"),
        (r#"{"radius":51}"#, "MSM_PARAM_RADIUS must be a number up to 50, not 51"),
        (r#"{"radius":0}"#, "a radius from 1"),
        (r#"{"radius":3,"kind":"mean"}"#, "MSM_PARAM_KIND must be box or gaussian"),
    ] {
        let tile: Vec<u8> = [1u32, 1, 0, 0, 0].iter().flat_map(|n| n.to_le_bytes()).collect();
        let refusal = rig.run(&wasm, Op::Part { index: 0, count: 1 }, params, tile).await.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::ServiceFailed, "{params}: {refusal}");
        assert!(refusal.reason.contains(reason), "{params}: {refusal}");
    }
}

/// The definition, slow and plain: of the 2r + 1 pixels of the row around it the mean, or the mean weighted by a bell of
/// sigma r / 3; rounded; then the same with the column.
fn definition(input: &RgbaImage, kind: Kind, radius: u32) -> RgbaImage {
    let (width, height) = input.dimensions();
    let reach = -i64::from(radius)..=i64::from(radius);
    let weight = |d: i64| match kind {
        Kind::Box => 1.0,
        Kind::Gaussian => (-0.5 * (3.0 * d as f64 / f64::from(radius)).powi(2)).exp(),
    };
    let total: f64 = reach.clone().map(weight).sum();
    let pass = |from: &RgbaImage, along: fn(i64, i64, i64) -> (i64, i64)| {
        RgbaImage::from_fn(width, height, |x, y| {
            let mut sums = [0.0; 4];
            for d in reach.clone() {
                let (x, y) = along(x.into(), y.into(), d);
                let at = |n: i64, size: u32| n.clamp(0, i64::from(size) - 1) as u32;
                let pixel = from.get_pixel(at(x, width), at(y, height));
                sums.iter_mut().zip(pixel.0).for_each(|(sum, channel)| *sum += f64::from(channel) * weight(d));
            }
            image::Rgba(sums.map(|sum| (sum / total).round() as u8))
        })
    };
    let rows = pass(input, |x, y, d| (x + d, y));
    pass(&rows, |x, y, d| (x, y + d))
}

#[tokio::test]
async fn the_service_does_what_its_definition_says() {
    let rig = Rig::new();
    for (width, height) in [(1, 1), (1, 9), (9, 1), (2, 3), (37, 23)] {
        let input = RgbaImage::from_fn(width, height, |x, y| {
            let mix = (x * 7919 + y * 104_729).wrapping_mul(2_654_435_761);
            image::Rgba([(mix >> 24) as u8, if x > y { 255 } else { 0 }, (mix >> 8) as u8, 255])
        });
        let mut png = std::io::Cursor::new(Vec::new());
        input.write_to(&mut png, image::ImageFormat::Png).unwrap();
        let png = Bytes::from(png.into_inner());
        for (kind, radius) in [Kind::Box, Kind::Gaussian].into_iter().flat_map(|k| [1, 2, 3, 8, 50].map(|r| (k, r))) {
            let params = serde_json::to_string(&Params { kind, radius }).unwrap();
            let defined = definition(&input, kind, radius);
            for (engine, package) in variants(radius) {
                let what = format!("{engine}, {width}x{height}, {kind:?} of radius {radius}");
                let output = rig.run(&package, Op::Whole, &params, png.clone()).await.unwrap().bytes;
                let output = pixels(&output);
                if kind == Kind::Box {
                    let native = native::box_blur(input.as_raw(), width as usize, height as usize, radius as usize);
                    assert!(*output.as_raw() == native, "{what}: not the native blur");
                }
                let apart = distance(&output, &defined);
                // Weights in whole numbers round a few means to the other side, in each of the two passes.
                let most = if kind == Kind::Box { 0 } else { 1 };
                assert!(apart <= most, "{what}: {apart} apart");
            }
        }
    }
}

//! `msm demo`: what the README shows first works, and leaves nothing behind.

use std::process::{Command, Stdio};

use msm_testnet::binary;
use serde_json::Value;

#[test]
fn the_demo_shows_what_it_promises() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(binary::msm().unwrap())
        .args(["demo", "--json"])
        .current_dir(folder.path())
        // The demo makes its own homes: this one stays empty.
        .env("MSM_HOME", folder.path().join("home"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{errors}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    let report: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    eprintln!("demo: {report}");
    let devices = report["devices"].as_u64().or_else(|| report["devices"].as_array().map(|it| it.len() as u64));
    assert!(devices >= Some(4), "{report}");
    assert!(report["tasks"].as_u64() > Some(0), "{report}");
    assert!(report["tasks_rerun"].as_u64() >= Some(1), "a worker was killed: {report}");
    assert_eq!(report["equal_to_local"], true, "{report}");
    assert!(report["wall_ms"].is_number(), "{report}");
    let picture = folder.path().join(report["output"].as_str().unwrap());
    assert!(image::open(&picture).is_ok(), "{} is a picture", picture.display());
}

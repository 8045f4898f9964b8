//! The testnet's scripts on a container engine: up, a job with a worker killed in the middle, down.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use image::ImageFormat;
use msm_testnet::{binary, photo, wait};
use serde_json::Value;

/// A network of its own beside one that somebody may have up.
const PROJECT: &str = "msm-testnet-test";
/// Until the requester knows all workers.
const AROUND: Duration = Duration::from_secs(90);

/// Takes everything down, also when a check fails.
struct Up;

impl Up {
    fn new(workers: u32) -> Self {
        let up = Self;
        let output = script("up", &[&workers.to_string(), "--no-build"], Path::new("."));
        assert!(output.status.success(), "testnet/up\n{}", String::from_utf8_lossy(&output.stderr));
        up
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = script("down", &[], Path::new("."));
    }
}

fn script(name: &str, args: &[&str], folder: &Path) -> Output {
    Command::new(binary::repository().join("testnet").join(name))
        .args(args)
        .current_dir(folder)
        .env("TESTNET_PROJECT", PROJECT)
        .env("TESTNET_MSM", binary::static_msm().unwrap())
        .output()
        .unwrap()
}

fn msm(args: &[&str], folder: &Path) -> Value {
    let output = script("msm", args, folder);
    assert!(output.status.success(), "{args:?}\n{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn docker(args: &[&str]) -> String {
    let output = Command::new("docker").args(args).output().expect("docker is installed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "docker {args:?}: {errors}\nTo run all other tests: cargo nextest run --workspace -E 'not test(/^containers::/)'"
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Everything of the project that the engine still has.
fn left() -> String {
    let label = format!("label=com.docker.compose.project={PROJECT}");
    [
        docker(&["ps", "-aq", "--filter", &label]),
        docker(&["network", "ls", "-q", "--filter", &label]),
        docker(&["volume", "ls", "-q", "--filter", &label]),
        docker(&["images", "-q", PROJECT]),
    ]
    .concat()
}

#[test]
fn a_job_survives_the_loss_of_a_container() {
    docker(&["info"]);
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    photo::write(&here.join("photo.png"), 2048, 1536, ImageFormat::Png).unwrap();
    let up = Up::new(4);

    msm(
        &["requester", "invoke", "image-blur", "photo.png", "-o", "local.png", "-p", "radius=8", "--local", "--json"],
        here,
    );
    let invoke = [
        "requester",
        "invoke",
        "image-blur",
        "photo.png",
        "-o",
        "out.png",
        "-p",
        "radius=8",
        "--json",
        "--devices",
        "5",
        // Six nodes that measure themselves at the same time on few cores do not find each other equal.
        "--eqs-min",
        "1",
        // Interpreted, so that there is a job to disturb.
        "--engine",
        "js",
    ];
    let plan = [&invoke[..], &["--plan"]].concat();
    wait::until(AROUND, "all four are to help", || Ok((msm(&plan, here)["chosen"].as_u64() >= Some(5)).then_some(())))
        .unwrap();
    let whole = msm(&invoke, here);
    assert!(fs::read(here.join("out.png")).unwrap() == fs::read(here.join("local.png")).unwrap(), "{whole}");
    assert!(whole["devices"].as_array().unwrap().len() >= 4, "{whole}");

    fs::remove_file(here.join("out.png")).unwrap();
    let mut running = Command::new(binary::repository().join("testnet/msm"))
        .args(invoke)
        .current_dir(here)
        .env("TESTNET_PROJECT", PROJECT)
        .env("TESTNET_MSM", binary::static_msm().unwrap())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait::until(Duration::from_secs(60), "worker-1 has a task", || {
        Ok((msm(&["worker-1", "status", "--json"], here)["running_tasks"].as_u64() > Some(0)).then_some(()))
    })
    .unwrap();
    let label = "label=com.docker.compose.service=worker-1";
    let project = format!("label=com.docker.compose.project={PROJECT}");
    docker(&["kill", docker(&["ps", "-q", "--filter", label, "--filter", &project]).trim()]);
    assert!(running.try_wait().unwrap().is_none(), "the job was over before worker-1 was killed");
    assert!(running.wait().unwrap().success());
    assert!(fs::read(here.join("out.png")).unwrap() == fs::read(here.join("local.png")).unwrap());
    let job = &msm(&["requester", "jobs", "--json"], here)["jobs"][0];
    eprintln!("containers: worker-1 killed in the middle: {job}");
    assert!(job["tasks_rerun"].as_u64() >= Some(1), "{job}");

    drop(up);
    assert_eq!(left(), "", "testnet/down leaves nothing");
}

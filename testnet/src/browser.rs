//! What people see: Chromium without a window, its pictures of pages, and how far two of them are apart.

use std::{
    fmt,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use image::RgbaImage;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::wait;

/// A page that is not drawn by then never will be.
const PAGE: Duration = Duration::from_secs(60);

/// Takes a picture of 800 x 1000 pixels of `address`. `chromium` is the program to start (on its host); it keeps
/// nothing outside `folder`.
///
/// # Errors
/// It is not installed, or took no picture.
pub fn screenshot(chromium: Command, folder: &Path, address: &str, picture: &Path, more: &[&str]) -> Result<RgbaImage> {
    let picture_flag = format!("--screenshot={}", picture.display());
    let flags = [&[picture_flag.as_str()], more].concat();
    let output = run(chromium, folder, address, &flags)?;
    let open = || image::open(picture).with_context(|| String::from_utf8_lossy(&output.stderr).into_owned());
    Ok(open()?.to_rgba8())
}

/// The document of `address` after its scripts have run, as text.
///
/// # Errors
/// As [`screenshot`].
pub fn document(chromium: Command, folder: &Path, address: &str, more: &[&str]) -> Result<String> {
    let output = run(chromium, folder, address, &[&["--dump-dom"], more].concat())?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn run(mut chromium: Command, folder: &Path, address: &str, more: &[&str]) -> Result<Output> {
    use std::os::unix::process::CommandExt;
    let child = chromium
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        // Time of the page's own scripts and fetches, not of the clock.
        .args(["--force-device-scale-factor=1", "--window-size=800,1000", "--virtual-time-budget=5000"])
        .arg(format!("--user-data-dir={}", folder.display()))
        .args(more)
        .arg(address)
        .env("HOME", folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // It starts a dozen processes: one that hangs takes all of them along.
        .process_group(0)
        .spawn()
        .context("cannot start chromium: is it installed?")?;
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a process has an id")?;
    let waiting = std::thread::spawn(move || child.wait_with_output());
    let ended = wait::until(PAGE, "chromium draws the page", || Ok(waiting.is_finished().then_some(())));
    if let Err(error) = ended {
        let _ = kill_process_group(group, Signal::KILL);
        let _ = waiting.join();
        return Err(error);
    }
    let Ok(output) = waiting.join() else { bail!("waiting for chromium failed") };
    let output = output?;
    ensure!(output.status.success(), "chromium: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(output)
}

/// How far two pictures are apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// Share of pixels that are not the same at all.
    pub pixels: f64,
    /// Mean distance of a channel, 0 to 255.
    pub mean: f64,
    /// Greatest distance of any channel.
    pub greatest: u8,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pixels, mean, greatest } = self;
        write!(f, "{:.3} % of the pixels differ, mean {mean:.4} of 255, greatest {greatest}", pixels * 100.0)
    }
}

/// Compares two pictures.
///
/// # Errors
/// They are of different size.
pub fn difference(a: &RgbaImage, b: &RgbaImage) -> Result<Difference> {
    ensure!(a.dimensions() == b.dimensions(), "{:?} and {:?} pixels", a.dimensions(), b.dimensions());
    let differs = a.pixels().zip(b.pixels()).filter(|(a, b)| a != b).count();
    let channels = || a.as_raw().iter().zip(b.as_raw()).map(|(a, b)| a.abs_diff(*b));
    let count = a.as_raw().len().max(1) as f64;
    Ok(Difference {
        pixels: differs as f64 * 4.0 / count,
        mean: channels().map(f64::from).sum::<f64>() / count,
        greatest: channels().max().unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_as_far_apart_as_their_pixels() {
        let white = RgbaImage::from_pixel(10, 10, image::Rgba([255; 4]));
        let mut spot = white.clone();
        spot.put_pixel(3, 3, image::Rgba([155, 255, 255, 255]));
        assert_eq!(difference(&white, &white).unwrap(), Difference { pixels: 0.0, mean: 0.0, greatest: 0 });
        assert_eq!(difference(&white, &spot).unwrap(), Difference { pixels: 0.01, mean: 0.25, greatest: 100 });
        assert!(difference(&white, &RgbaImage::new(1, 1)).is_err());
    }
}

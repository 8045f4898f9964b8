//! TAP devices: frames in and out of an interface that has no cable.

use std::{
    fs::{File, OpenOptions},
    io::{Error, ErrorKind, Read, Write},
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

/// More than an Ethernet frame has: nothing asked for jumbo frames.
pub const FRAME_BYTES: usize = 2_048;
const DEVICE: &str = "/dev/net/tun";

/// Makes an interface in the calling thread's network namespace; it lives as long as the descriptor.
pub fn open(name: &str) -> Result<File> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).custom_flags(libc::O_NONBLOCK).open(DEVICE).context(DEVICE)?;
    // SAFETY: zeroes are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    ensure!(name.len() < libc::IFNAMSIZ, "{name}: an interface's name has at most {} bytes", libc::IFNAMSIZ - 1);
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    // Whole frames, without a header of the kernel's before them: so it finishes checksums and segments itself.
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the descriptor is open, and the request outlives the call.
    let made = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) };
    ensure!(made == 0, "cannot make the interface {name}: {}", Error::last_os_error());
    Ok(file)
}

/// Waits until one of them has a frame, at most this long; which.
pub fn wait(taps: &[File; 2], limit: Duration) -> [bool; 2] {
    let asked = |tap: &File| libc::pollfd { fd: tap.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut asked = [asked(&taps[0]), asked(&taps[1])];
    let limit = libc::timespec { tv_sec: limit.as_secs() as _, tv_nsec: limit.subsec_nanos() as _ };
    // SAFETY: both arguments outlive the call, and two are there.
    let found = unsafe { libc::ppoll(asked.as_mut_ptr(), 2, &raw const limit, std::ptr::null()) };
    asked.map(|it| found > 0 && it.revents & libc::POLLIN != 0)
}

/// The next frame's length, when there is one.
pub fn read(mut tap: &File, frame: &mut [u8]) -> Option<usize> {
    loop {
        match tap.read(frame) {
            Ok(length) => return Some(length),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Nothing there, or the interface is down.
            Err(_) => return None,
        }
    }
}

/// Gives a frame to the interface. One that is down loses it, as a cable does.
pub fn write(mut tap: &File, frame: &[u8]) {
    let _ = tap.write(frame);
}

//! The child's end of the socket pair: plain system calls on file descriptor 0.

use std::{
    io,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::wire;

/// The descriptor that the parent connects the channel to; after the walls it is the only open one.
pub const FD: i32 = 0;

/// The channel. Every failure means that the parent is gone or has given up on this child: the process ends.
#[derive(Clone, Copy)]
pub struct Channel(());

impl Channel {
    /// The channel that this process inherited.
    pub const fn inherited() -> Self {
        Self(())
    }

    /// Reads a message's kind and payload. A payload over `most` bytes ends the child.
    pub fn receive(self, most: usize) -> (u8, Vec<u8>) {
        let mut header = [0; wire::HEADER_BYTES];
        let mut filled = 0;
        while filled < header.len() {
            filled += read(&mut header[filled..]);
        }
        let (kind, length) = wire::read_header(header);
        if length > most {
            exit(2);
        }
        (kind, self.bytes(length).unwrap_or_else(|| exit(2)))
    }

    /// Reads exactly so many bytes; none if there is no memory for them (they are not read then).
    pub fn bytes(self, length: usize) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        out.try_reserve_exact(length).ok()?;
        while out.len() < length {
            let missing = length - out.len();
            let spare = &mut out.spare_capacity_mut()[..missing];
            // SAFETY: `read` only writes to the slice, and says how many of its first bytes it wrote.
            let got = read(unsafe { &mut *(std::ptr::from_mut(spare) as *mut [u8]) });
            // SAFETY: `got` more bytes are initialised, and got <= missing <= spare capacity.
            unsafe { out.set_len(out.len() + got) };
        }
        Some(out)
    }

    /// Waits at most so long, for something to read if it listens; says whether there is something.
    pub fn wait(self, time: Duration, listens: bool) -> bool {
        let ahead = AHEAD.lock().unwrap_or_else(PoisonError::into_inner);
        if listens && ahead.start < ahead.end {
            return true;
        }
        drop(ahead);
        let mut poll = libc::pollfd { fd: FD, events: libc::POLLIN, revents: 0 };
        let count = u8::from(listens).into();
        // SAFETY: valid pointers to this stack; no signal mask.
        #[cfg(target_os = "linux")]
        let ready = unsafe {
            let seconds = libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX);
            let time = libc::timespec { tv_sec: seconds, tv_nsec: time.subsec_nanos().into() };
            libc::ppoll(&raw mut poll, count, &raw const time, std::ptr::null())
        };
        // SAFETY: a valid pointer to this stack.
        #[cfg(not(target_os = "linux"))]
        let ready = unsafe {
            let time = i32::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX);
            libc::poll(&raw mut poll, count, time)
        };
        ready > 0
    }

    /// Reads so many bytes and forgets them.
    pub fn skip(self, mut length: u64) {
        let mut scratch = [0; 16 * 1024];
        while length > 0 {
            let most = scratch.len().min(usize::try_from(length).unwrap_or(usize::MAX));
            length -= read(&mut scratch[..most]) as u64;
        }
    }

    /// Sends one message whose payload is these parts in order.
    pub fn send(self, kind: u8, parts: &[&[u8]]) {
        let length = parts.iter().map(|part| part.len()).sum();
        let header = wire::header(kind, length);
        let mut slices: Vec<io::IoSlice<'_>> = Vec::with_capacity(parts.len() + 1);
        slices.push(io::IoSlice::new(&header));
        slices.extend(parts.iter().map(|part| io::IoSlice::new(part)));
        self.write(&mut slices);
    }

    /// Sends bytes that are messages already.
    pub fn write(self, mut slices: &mut [io::IoSlice<'_>]) {
        io::IoSlice::advance_slices(&mut slices, 0); // leaves out empty ones at the front
        while !slices.is_empty() {
            // SAFETY: IoSlice has the layout of iovec, and the slices outlive the call.
            let sent = unsafe { libc::writev(FD, slices.as_ptr().cast(), slices.len().min(1024) as i32) };
            io::IoSlice::advance_slices(&mut slices, count_or_exit(sent));
        }
    }
}

/// What was read of the channel before somebody wanted it: a call is a head, parameters and an input, and the next one may
/// be there already.
struct Ahead {
    bytes: [u8; AHEAD_BYTES],
    start: usize,
    end: usize,
}

const AHEAD_BYTES: usize = 32 * 1024;

// One thread reads; a lock that nobody else wants costs nothing.
static AHEAD: Mutex<Ahead> = Mutex::new(Ahead { bytes: [0; AHEAD_BYTES], start: 0, end: 0 });

fn read(into: &mut [u8]) -> usize {
    let mut ahead = AHEAD.lock().unwrap_or_else(PoisonError::into_inner);
    let Ahead { bytes, start, end } = &mut *ahead;
    if start == end {
        // Long ones are read straight to where they stay.
        if into.len() >= AHEAD_BYTES / 4 {
            return read_now(into);
        }
        (*start, *end) = (0, read_now(bytes));
    }
    let count = into.len().min(*end - *start);
    into[..count].copy_from_slice(&bytes[*start..*start + count]);
    *start += count;
    count
}

fn read_now(into: &mut [u8]) -> usize {
    loop {
        // SAFETY: the pointer and length are those of a valid slice.
        let got = unsafe { libc::read(FD, into.as_mut_ptr().cast(), into.len()) };
        match count_or_exit(got) {
            0 if got == 0 && !into.is_empty() => exit(0), // the parent closed the channel
            0 => {}
            count => return count,
        }
    }
}

/// The count; 0 when interrupted.
fn count_or_exit(returned: isize) -> usize {
    usize::try_from(returned)
        .unwrap_or_else(|_| if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted { 0 } else { exit(0) })
}

/// Ends the process at once: nothing of it is worth flushing, and destructors could make calls that seccomp kills.
fn exit(code: i32) -> ! {
    // SAFETY: _exit takes any code and does not return.
    unsafe { libc::_exit(code) }
}

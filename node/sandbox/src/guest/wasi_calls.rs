//! The functions of WASI preview 1, each as its description has it: what a guest says is checked, then done or refused
//! with the error number that it expects.

use std::time::Duration;

use super::{
    wasi::{Done, Guest},
    wasi_abi::{Errno, Memory},
};

/// Waits in one `poll_oneoff`: a program waits for one thing, or for its two streams and a clock. *Judgement.*
const POLLS: u32 = 64;

fn texts(memory: &mut Memory<'_>, texts: &[String], mut list: u32, mut at: u32) -> Done {
    for text in texts {
        memory.put_u32(list, at)?;
        memory.put(at, text.as_bytes())?;
        at = at.checked_add(text.len() as u32).ok_or(Errno::FAULT)?;
        memory.put(at, &[0])?;
        at = at.checked_add(1).ok_or(Errno::FAULT)?;
        list = list.checked_add(4).ok_or(Errno::FAULT)?;
    }
    Ok(())
}

fn sizes(memory: &mut Memory<'_>, texts: &[String], count: u32, bytes: u32) -> Done {
    memory.put_u32(count, texts.len() as u32)?;
    Ok(memory.put_u32(bytes, texts.iter().map(|text| text.len() as u32 + 1).sum())?)
}

pub fn args_get(memory: &mut Memory<'_>, guest: &mut Guest, list: u32, text: u32) -> Done {
    texts(memory, &guest.args, list, text)
}

pub fn args_sizes_get(memory: &mut Memory<'_>, guest: &mut Guest, count: u32, bytes: u32) -> Done {
    sizes(memory, &guest.args, count, bytes)
}

pub fn environ_get(memory: &mut Memory<'_>, guest: &mut Guest, list: u32, text: u32) -> Done {
    texts(memory, &guest.env, list, text)
}

pub fn environ_sizes_get(memory: &mut Memory<'_>, guest: &mut Guest, count: u32, bytes: u32) -> Done {
    sizes(memory, &guest.env, count, bytes)
}

pub fn clock_res_get(memory: &mut Memory<'_>, guest: &mut Guest, clock: u32, at: u32) -> Done {
    Ok(memory.put_u64(at, guest.clock.resolution(clock)?)?)
}

pub fn clock_time_get(memory: &mut Memory<'_>, guest: &mut Guest, clock: u32, _: u64, at: u32) -> Done {
    Ok(memory.put_u64(at, guest.clock.now(clock)?)?)
}

pub fn fd_close(_: &mut Memory<'_>, guest: &mut Guest, fd: u32) -> Done {
    Ok(guest.files.close(fd)?)
}

pub fn fd_renumber(_: &mut Memory<'_>, guest: &mut Guest, from: u32, to: u32) -> Done {
    Ok(guest.files.renumber(from, to)?)
}

pub fn fd_fdstat_get(memory: &mut Memory<'_>, guest: &mut Guest, fd: u32, at: u32) -> Done {
    Ok(memory.put(at, &guest.files.fdstat(fd)?)?)
}

pub fn fd_filestat_get(memory: &mut Memory<'_>, guest: &mut Guest, fd: u32, at: u32) -> Done {
    Ok(memory.put(at, &guest.files.filestat(fd)?)?)
}

pub fn fd_prestat_get(memory: &mut Memory<'_>, guest: &mut Guest, fd: u32, at: u32) -> Done {
    // Kind 0, a folder, and the length of its name.
    let length = guest.files.given(fd)?.len() as u32;
    memory.put_u32(at, 0)?;
    Ok(memory.put_u32(at.checked_add(4).ok_or(Errno::FAULT)?, length)?)
}

pub fn fd_prestat_dir_name(memory: &mut Memory<'_>, guest: &mut Guest, fd: u32, path: u32, length: u32) -> Done {
    let name = guest.files.given(fd)?;
    let name = name.get(..length as usize).unwrap_or(name);
    Ok(memory.put(path, name)?)
}

pub fn fd_read(memory: &mut Memory<'_>, guest: &mut Guest, fd: u32, pieces: u32, count: u32, at: u32) -> Done {
    let next = guest.next(fd)?;
    let taken = scatter(memory, next, pieces, count)?;
    guest.took(fd, taken);
    Ok(memory.put_u32(at, taken as u32)?)
}

pub fn fd_pread(
    memory: &mut Memory<'_>,
    guest: &mut Guest,
    fd: u32,
    pieces: u32,
    count: u32,
    offset: u64,
    at: u32,
) -> Done {
    let (bytes, _) = guest.files.file(fd)?;
    let bytes = bytes.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
    let taken = scatter(memory, bytes, pieces, count)?;
    Ok(memory.put_u32(at, taken as u32)?)
}

/// Copies what fits into pieces of a guest's memory.
fn scatter(memory: &mut Memory<'_>, mut from: &[u8], pieces: u32, count: u32) -> Result<usize, Errno> {
    let all = from.len();
    for (at, length) in memory.pieces(pieces, count)? {
        let room = memory.room(at, length)?;
        let (now, later) = from.split_at(from.len().min(room.len()));
        room[..now.len()].copy_from_slice(now);
        from = later;
        if from.is_empty() {
            break;
        }
    }
    Ok(all - from.len())
}

pub fn fd_write(memory: &mut Memory<'_>, guest: &mut Guest, fd: u32, pieces: u32, count: u32, at: u32) -> Done {
    let to = guest.files.of(fd)?;
    let pieces = memory.pieces(pieces, count)?;
    let total = pieces.iter().try_fold(0u32, |sum, (_, length)| sum.checked_add(*length)).ok_or(Errno::INVAL)?;
    for (at, length) in pieces {
        guest.write(to, memory.read(at, length)?)?;
    }
    Ok(memory.put_u32(at, total)?)
}

pub fn fd_readdir(
    memory: &mut Memory<'_>,
    guest: &mut Guest,
    fd: u32,
    buffer: u32,
    length: u32,
    cookie: u64,
    at: u32,
) -> Done {
    memory.room(buffer, length)?;
    let list = guest.files.list(fd, cookie, length as usize)?;
    memory.put(buffer, &list)?;
    Ok(memory.put_u32(at, list.len() as u32)?)
}

pub fn fd_seek(memory: &mut Memory<'_>, guest: &mut Guest, fd: u32, offset: i64, whence: u32, at: u32) -> Done {
    let to = guest.files.seek(fd, offset, whence)?;
    Ok(memory.put_u64(at, to)?)
}

pub fn fd_tell(memory: &mut Memory<'_>, guest: &mut Guest, fd: u32, at: u32) -> Done {
    Ok(memory.put_u64(at, guest.files.file(fd)?.1)?)
}

pub fn path_filestat_get(
    memory: &mut Memory<'_>,
    guest: &mut Guest,
    fd: u32,
    _: u32,
    path: u32,
    length: u32,
    at: u32,
) -> Done {
    let stat = guest.files.filestat_at(fd, memory.read(path, length)?)?;
    Ok(memory.put(at, &stat)?)
}

#[expect(clippy::too_many_arguments, reason = "preview 1 has it so")]
pub fn path_open(
    memory: &mut Memory<'_>,
    guest: &mut Guest,
    fd: u32,
    _: u32,
    path: u32,
    length: u32,
    flags: u32,
    rights: u64,
    _: u64,
    _: u32,
    at: u32,
) -> Done {
    memory.room(at, 4)?;
    let opened = guest.files.open(fd, memory.read(path, length)?, flags, rights)?;
    Ok(memory.put_u32(at, opened)?)
}

pub fn random_get(memory: &mut Memory<'_>, guest: &mut Guest, at: u32, length: u32) -> Done {
    Ok(guest.random.fill(memory.room(at, length)?)?)
}

pub fn sched_yield(_: &mut Memory<'_>, _: &mut Guest) -> Done {
    Ok(())
}

/// Streams are always ready; without one among the waits, the shortest clock is waited for.
pub fn poll_oneoff(memory: &mut Memory<'_>, guest: &mut Guest, waits: u32, events: u32, count: u32, at: u32) -> Done {
    const WAIT_BYTES: u32 = 48;
    const EVENT_BYTES: u32 = 32;
    if !(1..=POLLS).contains(&count) {
        return Err(Errno::INVAL.into());
    }
    let list = memory.read(waits, count * WAIT_BYTES)?.to_vec();
    let mut ready = Vec::new();
    let mut clocks = Vec::new();
    for wait in list.chunks_exact(WAIT_BYTES as usize) {
        let number = |at: usize| wait[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
        let mut event = [0; EVENT_BYTES as usize];
        event[..8].copy_from_slice(&wait[..8]);
        event[10] = wait[8];
        match wait[8] {
            0 => {
                let clock = number(16) as u32;
                let is_absolute = wait[40] & 1 == 1;
                let now = if is_absolute { guest.clock.now(clock)? } else { 0 };
                guest.clock.resolution(clock)?;
                clocks.push((number(24).saturating_sub(now), event));
            }
            1 | 2 => {
                let errno = guest.files.of(number(16) as u32).err().unwrap_or(Errno::SUCCESS);
                event[8..10].copy_from_slice(&errno.0.to_le_bytes());
                let bytes = if wait[8] == 1 { guest.unread() } else { 1 << 16 };
                event[16..24].copy_from_slice(&(bytes as u64).to_le_bytes());
                ready.push(event);
            }
            _ => return Err(Errno::INVAL.into()),
        }
    }
    if ready.is_empty() {
        let shortest = clocks.iter().map(|(time, _)| *time).min().unwrap_or(0);
        guest.clock.wait(Duration::from_nanos(shortest), guest.deadline);
        ready = clocks.into_iter().filter(|(time, _)| *time <= shortest).map(|(_, event)| event).collect();
    }
    let number = ready.len() as u32;
    memory.put(events, &ready.concat())?;
    Ok(memory.put_u32(at, number)?)
}

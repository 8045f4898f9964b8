//! The numbers and layouts of WASI preview 1: functions with their types, error numbers, and a guest's memory.

/// The module that preview 1's functions are imported from.
pub const WASI: &str = "wasi_snapshot_preview1";
/// The module of the calls to the device.
pub const MSM: &str = "msm_v1";

/// A function that a guest may import: module, name, parameters (`i`: 32 bits, `I`: 64), whether it gives an i32, and
/// the answer where it is always the same. What changes something is refused on every descriptor alike: a guest's files
/// are read-only, and it has no sockets.
pub struct Import {
    pub module: &'static str,
    pub name: &'static str,
    pub params: &'static str,
    pub gives: bool,
    pub fixed: Option<Errno>,
}

/// Every function there is. The pre-check compares a module's imports with it, the linker is checked against it.
pub const IMPORTS: [Import; 47] = [
    wasi("args_get", "ii"),
    wasi("args_sizes_get", "ii"),
    wasi("clock_res_get", "ii"),
    wasi("clock_time_get", "iIi"),
    wasi("environ_get", "ii"),
    wasi("environ_sizes_get", "ii"),
    wasi("fd_close", "i"),
    wasi("fd_fdstat_get", "ii"),
    wasi("fd_filestat_get", "ii"),
    wasi("fd_pread", "iiiIi"),
    wasi("fd_prestat_dir_name", "iii"),
    wasi("fd_prestat_get", "ii"),
    wasi("fd_read", "iiii"),
    wasi("fd_readdir", "iiiIi"),
    wasi("fd_renumber", "ii"),
    wasi("fd_seek", "iIii"),
    wasi("fd_tell", "ii"),
    wasi("fd_write", "iiii"),
    wasi("path_filestat_get", "iiiii"),
    wasi("path_open", "iiiiiIIii"),
    wasi("poll_oneoff", "iiii"),
    wasi("random_get", "ii"),
    wasi("sched_yield", ""),
    Import { module: WASI, name: "proc_exit", params: "i", gives: false, fixed: None },
    // Advice and durability: nothing to do.
    fixed("fd_advise", "iIIi", Errno::SUCCESS),
    fixed("fd_datasync", "i", Errno::SUCCESS),
    fixed("fd_sync", "i", Errno::SUCCESS),
    fixed("fd_fdstat_set_flags", "ii", Errno::SUCCESS),
    fixed("fd_fdstat_set_rights", "iII", Errno::NOTSUP),
    fixed("fd_allocate", "iII", Errno::NOTSUP),
    fixed("fd_filestat_set_size", "iI", Errno::ROFS),
    fixed("fd_filestat_set_times", "iIIi", Errno::ROFS),
    fixed("fd_pwrite", "iiiIi", Errno::ROFS),
    fixed("path_create_directory", "iii", Errno::ROFS),
    fixed("path_filestat_set_times", "iiiiIIi", Errno::ROFS),
    fixed("path_link", "iiiiiii", Errno::ROFS),
    fixed("path_readlink", "iiiiii", Errno::INVAL),
    fixed("path_remove_directory", "iii", Errno::ROFS),
    fixed("path_rename", "iiiiii", Errno::ROFS),
    fixed("path_unlink_file", "iii", Errno::ROFS),
    fixed("sock_accept", "iii", Errno::NOTSOCK),
    fixed("sock_recv", "iiiiii", Errno::NOTSOCK),
    fixed("sock_send", "iiiii", Errno::NOTSOCK),
    fixed("sock_shutdown", "ii", Errno::NOTSOCK),
    fixed("proc_raise", "i", Errno::NOTSUP),
    Import { module: MSM, name: "call", params: "iiii", gives: true, fixed: None },
    Import { module: MSM, name: "take", params: "ii", gives: true, fixed: None },
];

/// `path_symlink` alone has its descriptor in the middle.
pub const SYMLINK: Import = fixed("path_symlink", "iiiii", Errno::ROFS);

const fn wasi(name: &'static str, params: &'static str) -> Import {
    Import { module: WASI, name, params, gives: true, fixed: None }
}

const fn fixed(name: &'static str, params: &'static str, errno: Errno) -> Import {
    Import { module: WASI, name, params, gives: true, fixed: Some(errno) }
}

/// What a guest is told when a call did not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub u16);

impl Errno {
    pub const SUCCESS: Self = Self(0);
    pub const TOOBIG: Self = Self(1);
    pub const ACCES: Self = Self(2);
    pub const BADF: Self = Self(8);
    pub const FAULT: Self = Self(21);
    pub const ILSEQ: Self = Self(25);
    pub const INVAL: Self = Self(28);
    pub const IO: Self = Self(29);
    pub const ISDIR: Self = Self(31);
    pub const MFILE: Self = Self(33);
    pub const NAMETOOLONG: Self = Self(37);
    pub const NOENT: Self = Self(44);
    pub const NOSYS: Self = Self(52);
    pub const NOTDIR: Self = Self(54);
    pub const NOTSOCK: Self = Self(57);
    pub const NOTSUP: Self = Self(58);
    pub const ROFS: Self = Self(69);
    pub const SPIPE: Self = Self(70);
    pub const NOTCAPABLE: Self = Self(76);
}

/// A guest's memory. Every address and length in it is the guest's word.
pub struct Memory<'a>(pub &'a mut [u8]);

impl Memory<'_> {
    /// So many bytes from there.
    pub fn read(&self, at: u32, length: u32) -> Result<&[u8], Errno> {
        let (at, length) = (at as usize, length as usize);
        at.checked_add(length).and_then(|end| self.0.get(at..end)).ok_or(Errno::FAULT)
    }

    /// Room for so many bytes from there.
    pub fn room(&mut self, at: u32, length: u32) -> Result<&mut [u8], Errno> {
        let (at, length) = (at as usize, length as usize);
        at.checked_add(length).and_then(|end| self.0.get_mut(at..end)).ok_or(Errno::FAULT)
    }

    /// Writes bytes.
    pub fn put(&mut self, at: u32, bytes: &[u8]) -> Result<(), Errno> {
        let length = u32::try_from(bytes.len()).map_err(|_| Errno::FAULT)?;
        self.room(at, length)?.copy_from_slice(bytes);
        Ok(())
    }

    pub fn put_u32(&mut self, at: u32, number: u32) -> Result<(), Errno> {
        self.put(at, &number.to_le_bytes())
    }

    pub fn put_u64(&mut self, at: u32, number: u64) -> Result<(), Errno> {
        self.put(at, &number.to_le_bytes())
    }

    /// A list of pieces of memory, as `fd_read` and `fd_write` take it.
    pub fn pieces(&self, at: u32, count: u32) -> Result<Vec<(u32, u32)>, Errno> {
        if count > PIECES {
            return Err(Errno::INVAL);
        }
        let list = self.read(at, count * 8)?;
        let number = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_le_bytes);
        Ok(list.chunks_exact(8).map(|piece| (number(&piece[..4]), number(&piece[4..]))).collect())
    }
}

/// Pieces in one call: what other systems allow (IOV_MAX).
const PIECES: u32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_reaches_outside_the_memory() {
        let mut bytes = [0; 64];
        let mut memory = Memory(&mut bytes);
        for (at, length) in [(0, 65), (64, 1), (65, 0), (u32::MAX, 1), (1, u32::MAX), (u32::MAX, u32::MAX)] {
            assert_eq!(memory.read(at, length), Err(Errno::FAULT), "{at} {length}");
            assert!(memory.room(at, length).is_err());
        }
        assert_eq!(memory.read(64, 0), Ok(&[][..]));
        memory.put_u64(56, u64::MAX).unwrap();
        assert_eq!(memory.put_u32(61, 1), Err(Errno::FAULT));
        assert_eq!(memory.pieces(0, 1025), Err(Errno::INVAL));
        assert_eq!(memory.pieces(8, 8), Err(Errno::FAULT));
        assert_eq!(memory.pieces(48, 2), Ok(vec![(0, 0), (u32::MAX, u32::MAX)]));
    }
}

//! One process uses a home: an advisory lock that the system releases when the process ends, however it ends.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
};

use super::{FileError, Home, HomeError, files};

/// The right to be the node of a home, until it is dropped.
#[derive(Debug)]
pub struct HomeLock {
    /// Closing it releases the lock.
    _file: File,
}

/// Decimal digits of a process id, a newline, and nothing more.
const PID_BYTES: u64 = 16;

impl Home {
    /// Takes the home for this process.
    ///
    /// # Errors
    /// [`HomeError::AlreadyRunning`] while another process has it, at once: nothing waits.
    pub fn lock(&self) -> Result<HomeLock, HomeError> {
        let path = self.lock_file();
        let io = |what| {
            let path = path.clone();
            move |source| FileError::Io { what, path, source }
        };
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path);
        let mut file = match opened {
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                return Err(FileError::Symlink { path }.into());
            }
            other => other.map_err(io("open"))?,
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let read = (&file).take(PID_BYTES).read_to_string(&mut text);
                let pid = read.ok().and_then(|_| text.trim().parse().ok());
                return Err(HomeError::AlreadyRunning { home: self.folder().to_owned(), pid });
            }
            Err(TryLockError::Error(source)) => return Err(io("lock")(source).into()),
        }
        // The number only helps a person: on a full disk the lock holds without it.
        let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        if let Err(error) = written {
            tracing::debug!(%error, "process id not written to the lock file");
        }
        files::sweep(self.folder());
        Ok(HomeLock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b55_a_second_node_is_told_who_runs() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path())).unwrap();
        let lock = home.lock().unwrap();
        let error = home.lock().unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("already-running: another msm node"), "{text}");
        assert!(text.contains(&std::process::id().to_string()), "{text}");
        assert!(!error.tries().is_empty());
        drop(lock);
        drop(home.lock().unwrap());
    }

    #[test]
    fn the_lock_ends_with_its_process() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path())).unwrap();
        drop(home.lock().unwrap());
        // Another process takes the lock (flock(1) uses the same kind), and is killed.
        let spawned = std::process::Command::new("flock")
            .arg(home.lock_file())
            .args(["sh", "-c", "echo held; exec cat"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn();
        let Ok(mut child) = spawned else { return };
        let mut held = [0; 5];
        child.stdout.as_mut().unwrap().read_exact(&mut held).unwrap();
        assert!(matches!(home.lock(), Err(HomeError::AlreadyRunning { .. })));
        drop(child.stdin.take());
        child.wait().unwrap();
        drop(home.lock().unwrap());
    }

    #[test]
    fn b56_a_lock_file_that_is_a_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path())).unwrap();
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), home.lock_file()).unwrap();
        assert!(matches!(home.lock(), Err(HomeError::File(FileError::Symlink { .. }))));
        assert!(!dir.path().join("elsewhere").exists());
    }
}

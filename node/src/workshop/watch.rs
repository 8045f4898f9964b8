//! [`Watch`]: tells which files of a folder have changed.

use std::{path::PathBuf, time::Duration};

use notify_debouncer_full::{
    DebounceEventResult, Debouncer, RecommendedCache, new_debouncer,
    notify::{EventKind, RecommendedWatcher, RecursiveMode},
};
use tokio::sync::mpsc::{Receiver, channel};

use super::{WorkshopError, project::SCRATCH};

/// Editors write a file in several steps; what comes within this time is one change. *Judgement.*
const SETTLE: Duration = Duration::from_millis(40);
/// Changes that wait to be looked at. A full queue loses none that matters: whoever reads it looks at all files anew.
const QUEUE: usize = 64;

/// A folder under watch until it is dropped.
pub struct Watch {
    folder: PathBuf,
    changes: Receiver<Vec<PathBuf>>,
    _watcher: Debouncer<RecommendedWatcher, RecommendedCache>,
}

impl Watch {
    /// Begins to watch.
    pub fn start(folder: &std::path::Path) -> Result<Self, WorkshopError> {
        let folder = folder.canonicalize().map_err(WorkshopError::io(folder))?;
        let failed = |error: notify_debouncer_full::notify::Error| {
            let limit = "too many watched files? see /proc/sys/fs/inotify/max_user_watches";
            WorkshopError::Usage(format!("cannot watch {}: {error} ({limit})", folder.display()))
        };
        let (sender, changes) = channel(QUEUE);
        let tell = move |result: DebounceEventResult| {
            let Ok(events) = result else { return };
            // A build reads its sources: that is no change.
            let changed = events.into_iter().filter(|event| !matches!(event.kind, EventKind::Access(_)));
            let paths: Vec<PathBuf> = changed.flat_map(|event| event.event.paths).collect();
            if !paths.is_empty() {
                let _ = sender.try_send(paths);
            }
        };
        let mut watcher = new_debouncer(SETTLE, None, tell).map_err(failed)?;
        watcher.watch(&folder, RecursiveMode::Recursive).map_err(failed)?;
        Ok(Self { folder, changes, _watcher: watcher })
    }

    /// Waits for the next changes: paths inside the folder, each once. Files that tools make, and hidden ones, do not
    /// count. Nothing when the watcher has ended.
    pub async fn next(&mut self) -> Option<Vec<String>> {
        loop {
            let mut paths = self.changes.recv().await?;
            while let Ok(more) = self.changes.try_recv() {
                paths.extend(more);
            }
            let inside = |path: PathBuf| Some(path.strip_prefix(&self.folder).ok()?.to_str()?.to_owned());
            let mut names: Vec<String> = paths.into_iter().filter_map(inside).filter(|name| counts(name)).collect();
            names.sort();
            names.dedup();
            if !names.is_empty() {
                return Some(names);
            }
        }
    }
}

fn counts(name: &str) -> bool {
    debug_assert!(SCRATCH.starts_with('.'));
    !name.is_empty()
        && !name.split('/').any(|part| part.starts_with('.') || part == "target" || part == "node_modules")
        // What editors write beside the file: vim's swap and probe files, Emacs' locks, backups.
        && !name.ends_with(['~', '#'])
        && !name.ends_with(".swp")
        && !name.ends_with("/4913")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tools_write_does_not_count() {
        for name in ["src/main.js", "service.toml", "tests/a.toml", "assets/x y"] {
            assert!(counts(name), "{name}");
        }
        for name in ["", ".msm/a.out", "src/.main.js.swp", "src/main.js~", "target/x", ".git/index", "src/4913"] {
            assert!(!counts(name), "{name}");
        }
    }

    #[tokio::test]
    async fn a_change_is_told() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("src")).unwrap();
        let mut watch = Watch::start(folder.path()).unwrap();
        std::fs::write(folder.path().join("src/main.js"), "1").unwrap();
        std::fs::write(folder.path().join(".hidden"), "1").unwrap();
        let names = tokio::time::timeout(Duration::from_secs(20), watch.next()).await.unwrap().unwrap();
        // The new file's folder may be told too.
        assert!(
            names.contains(&"src/main.js".to_owned()) && !names.iter().any(|name| name.contains("hidden")),
            "{names:?}"
        );
    }
}

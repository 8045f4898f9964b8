//! File patterns such as `src/*.c` and `src/**/*.rs`, and the files of a folder that fit them.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Files looked at in one folder tree: a service's folder is small, and a wrong one must not hang the tool. *Judgement.*
const FILES: usize = 10_000;
/// Folders in folders.
const DEPTH: usize = 16;

/// True when `path` fits `pattern`: `*` is any text without `/`, `?` one character, `**` any folders or none.
pub fn fits(pattern: &str, path: &str) -> bool {
    let parts =
        |text: &str| text.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect();
    let (pattern, path): (Vec<String>, Vec<String>) = (parts(pattern), parts(path));
    // open[i]: the first `i` parts of the path fit what has been read of the pattern. Without recursion, a pattern of
    // many `**` is as quick as any.
    let mut open = vec![false; path.len() + 1];
    open[0] = true;
    for (n, part) in pattern.iter().enumerate() {
        let mut next = vec![false; path.len() + 1];
        for (i, _) in open.iter().enumerate().filter(|(_, open)| **open) {
            if part == "**" {
                // At its end it stands for files too.
                let least = i + usize::from(n + 1 == pattern.len());
                next.iter_mut().skip(least).for_each(|fits| *fits = true);
            } else if path.get(i).is_some_and(|name| fits_name(part, name)) {
                next[i + 1] = true;
            }
        }
        open = next;
    }
    open[path.len()]
}

fn fits_name(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => (p, n) = (p + 1, n + 1),
            _ => match star {
                // The last star takes one more.
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    (p, n) = (at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// The files below `folder`, by their paths in it, hidden ones left out.
pub fn files(folder: &Path) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    walk(folder, "", 0, &mut found);
    found.sort();
    found
}

fn walk(folder: &Path, inside: &str, depth: usize, found: &mut Vec<(String, PathBuf)>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        // A file whose name is no text fits no pattern.
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
        let path = if inside.is_empty() { name.to_owned() } else { format!("{inside}/{name}") };
        if found.len() >= FILES {
            return;
        }
        // Links to folders are not followed: they can lead round in a circle.
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth < DEPTH && name != "node_modules" && name != "target" => {
                walk(&entry.path(), &path, depth + 1, found);
            }
            Ok(kind) if kind.is_dir() => {}
            Ok(_) => found.push((path, entry.path())),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_in_a_shell() {
        let table = [
            ("src/*.c", "src/main.c", true),
            ("src/*.c", "src/lib/main.c", false),
            ("src/*.c", "main.c", false),
            ("src/**/*.c", "src/main.c", true),
            ("src/**/*.c", "src/a/b/main.c", true),
            ("src/**", "src/a/b", true),
            ("src/**", "src", false),
            ("**/x", "x", true),
            ("**", "a/b", true),
            ("*", "a/b", false),
            ("a?c*e", "abcde", true),
            ("a?c*e", "abcd", false),
            ("./src/*.h", "src/msm.h", true),
            ("*a*a*a*", "aaa", true),
            ("", "a", false),
        ];
        for (pattern, path, expected) in table {
            assert_eq!(fits(pattern, path), expected, "{pattern} {path}");
        }
        // No pattern takes exponential time.
        assert!(!fits(&"**/a/".repeat(60), &"a/".repeat(50)));
        assert!(!fits(&format!("{}b", "*a".repeat(60)), &"a".repeat(200)));
    }

    #[test]
    fn hidden_files_and_built_folders_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["a", "src/b", ".git/c", "target/d", "src/.e"] {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let names: Vec<String> = files(folder.path()).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "src/b"]);

        // However deep it goes, and wherever its links lead.
        std::os::unix::fs::symlink(folder.path(), folder.path().join("round")).unwrap();
        let deep = folder.path().join("d/".repeat(DEPTH + 2));
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("too-deep"), "").unwrap();
        let names: Vec<String> = files(folder.path()).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "round", "src/b"]);
    }
}

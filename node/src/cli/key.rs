//! `msm key`: the named keys of a home.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use serde::Serialize;
use zeroize::Zeroizing;

use super::{
    call::{self, Stdin},
    hints,
    render::table::{Align::Left, columns},
    screen::{Screen, Stop},
};
use crate::{
    command::{CommandError, ErrorCode},
    home::Home,
    keys::{KEY_FILE_BYTES, KeyInfo, Keys},
};

/// Keys of this home
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  msm key list\n  msm key export home-root -o home-root.key")]
pub struct Key {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a key
    #[command(after_help = "Example:\n  msm key new home-root")]
    New {
        /// 2 to 40 lower-case letters, digits and -
        name: String,
    },
    /// List the keys, public halves only
    #[command(after_help = "Example:\n  msm key list --json")]
    List,
    /// One key's public half
    #[command(after_help = "Example:\n  msm key show home-root")]
    Show {
        /// Its name
        name: String,
    },
    /// Write a key, with its secret, to keep it elsewhere
    #[command(after_help = "Example:\n  msm key export home-root -o /media/usb/home-root.key")]
    Export {
        /// Its name
        name: String,
        /// A new file (mode 0600), or - for standard output
        #[arg(short, long, value_name = "FILE|-")]
        output: PathBuf,
    },
    /// Take in an exported key
    #[command(after_help = "Example:\n  msm key import home-root /media/usb/home-root.key")]
    Import {
        /// Its name here
        name: String,
        /// The exported file, or - for standard input
        #[arg(value_name = "FILE|-")]
        file: PathBuf,
    },
}

#[derive(Serialize)]
struct OneKey<'a> {
    schema: &'static str,
    #[serde(flatten)]
    key: &'a KeyInfo,
}

#[derive(Serialize)]
struct AllKeys<'a> {
    schema: &'static str,
    keys: &'a [KeyInfo],
}

impl Key {
    pub(crate) fn run(self, home: &Home, stdin: Stdin, screen: &mut Screen) -> Result<(), Stop> {
        let keys = Keys::open(&home.keys_dir()).map_err(CommandError::from)?;
        match self.what {
            What::New { name } => one(&keys.new_key(&name).map_err(CommandError::from)?, screen),
            What::Show { name } => one(&keys.show(&name).map_err(CommandError::from)?, screen),
            What::List => all(&keys.list().map_err(CommandError::from)?, screen),
            What::Import { name, file } => {
                let text = read_key_file(&file, stdin)?;
                one(&keys.import(&name, &text).map_err(CommandError::from)?, screen)
            }
            What::Export { name, output } => {
                let text = keys.export(&name).map_err(CommandError::from)?;
                if output == Path::new("-") {
                    return screen.result(text.as_bytes());
                }
                write_secret(&output, text.as_bytes())?;
                one(&keys.show(&name).map_err(CommandError::from)?, screen)
            }
        }
    }
}

fn one(key: &KeyInfo, screen: &mut Screen) -> Result<(), Stop> {
    if screen.style.json {
        return screen.result_json(&OneKey { schema: "msm.key/1", key });
    }
    screen.result_line(format!("{}  {}", key.name, key.public))
}

fn all(keys: &[KeyInfo], screen: &mut Screen) -> Result<(), Stop> {
    if screen.style.json {
        return screen.result_json(&AllKeys { schema: "msm.keys/1", keys });
    }
    if keys.is_empty() {
        screen.message(format!("no keys\n  try: {}", hints::key_new("home-root")));
        return Ok(());
    }
    let rows = keys.iter().map(|key| [key.name.clone(), key.public.to_string()]);
    screen.result_line(columns([("KEY", Left), ("PUBLIC", Left)], rows))
}

fn read_key_file(path: &Path, stdin: Stdin) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    let mut text = Zeroizing::new(Vec::with_capacity(KEY_FILE_BYTES as usize + 1));
    let read = if path == Path::new("-") {
        if stdin == Stdin::Taken {
            return Err(CommandError::new(ErrorCode::Usage, "standard input holds the commands here; give a file"));
        }
        io::stdin().lock().take(KEY_FILE_BYTES + 1).read_to_end(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(KEY_FILE_BYTES + 1).read_to_end(&mut text))
    };
    match read {
        Ok(_) => Ok(text),
        Err(error) => {
            let code = if error.kind() == io::ErrorKind::NotFound { ErrorCode::NotFound } else { ErrorCode::Failed };
            Err(CommandError::new(code, format!("cannot read {}: {error}", path.display())))
        }
    }
}

/// Writes a new file that only this user can read; an existing one is never replaced.
fn write_secret(path: &Path, text: &[u8]) -> Result<(), CommandError> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    call::check_output(path)?;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text).and_then(|()| file.sync_all()))
        .map_err(|error| CommandError::new(ErrorCode::Failed, format!("cannot write {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::cli::{
        Local, Meaning, parse,
        screen::{Style, tests::captured},
    };

    fn run(home: &Home, line: &str, json: bool) -> (Result<(), Stop>, String) {
        let Ok(Meaning::Local(Local::Key(key))) = parse(line.split(' ')).unwrap().verb.meaning(Stdin::Taken) else {
            panic!("{line}")
        };
        let (mut screen, out, _) = captured(Style { json, ..Style::default() });
        (key.run(home, Stdin::Taken, &mut screen), out.text())
    }

    #[test]
    fn a_key_travels_from_one_home_to_another() {
        let folder = tempfile::tempdir().unwrap();
        let home = |name: &str| Home::open(Some(&folder.path().join(name))).unwrap();
        let (here, there) = (home("here"), home("there"));
        let file = folder.path().join("root.key");
        let (made, text) = run(&here, "key new root", true);
        made.unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&json["schema"], &json["name"]), (&"msm.key/1".into(), &"root".into()));
        run(&here, &format!("key export root -o {}", file.display()), false).0.unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(run(&here, &format!("key export root -o {}", file.display()), false).0.is_err(), "not replaced");
        let (taken, text) = run(&there, &format!("key import copy {}", file.display()), false);
        taken.unwrap();
        assert_eq!(text.trim(), format!("copy  {}", json["public"].as_str().unwrap()));
        assert!(run(&there, "key list", false).1.contains("copy"));
        let (missing, _) = run(&there, "key show nobody", false);
        assert!(matches!(missing, Err(Stop::Failed(error)) if error.code == ErrorCode::NotFound));
    }
}

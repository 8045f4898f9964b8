//! New services: a folder that passes its own test at once.

use std::{
    fs,
    path::{Path, PathBuf},
};

use msm_protocol::manifest::is_name;

use super::WorkshopError;

/// The language of a new service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    /// JavaScript: no build step, runs on every device
    Js,
    /// C, compiled to WebAssembly
    C,
    /// Rust, compiled to WebAssembly
    Rust,
}

/// What a new service does, to begin from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Template {
    /// Works on a text, line by line
    Text,
    /// Works on a picture, row by row
    Image,
}

/// A file of a new folder.
struct File {
    path: &'static str,
    bytes: Vec<u8>,
}

/// Makes the folder `name` in `parent` and fills it. Gives the files, in the order in which to read them. Nothing that
/// is there is touched.
pub fn create(
    parent: &Path,
    name: &str,
    language: Language,
    template: Template,
) -> Result<Vec<PathBuf>, WorkshopError> {
    if !is_name(name) {
        let shown: String = name.chars().take(60).collect();
        let rule = "2 to 40 of a-z, 0-9 and '-', beginning with a letter and not ending with '-'";
        return Err(WorkshopError::Usage(format!("{shown:?} is no name of a service: {rule}")));
    }
    let folder = parent.join(name);
    if folder.symlink_metadata().is_ok() {
        return Err(WorkshopError::Usage(format!("{} is there already: nothing was written", folder.display())));
    }
    // Made beside its place and moved there whole: a full disk leaves no half service.
    let building =
        tempfile::Builder::new().prefix(".msm-new-").tempdir_in(parent).map_err(WorkshopError::io(parent))?;
    let files = files(name, language, template);
    for File { path, bytes } in &files {
        let path = building.path().join(path);
        let inside = path.parent().unwrap_or(building.path());
        fs::create_dir_all(inside).map_err(WorkshopError::io(inside))?;
        fs::write(&path, bytes).map_err(WorkshopError::io(&path))?;
    }
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(building.path(), mode).map_err(WorkshopError::io(building.path()))?;
    fs::rename(building.path(), &folder).map_err(WorkshopError::io(&folder))?;
    Ok(files.iter().map(|file| folder.join(file.path)).collect())
}

fn files(name: &str, language: Language, template: Template) -> Vec<File> {
    let (main, code, variant): (_, &str, &str) = match (language, template) {
        (Language::Js, Template::Text) => ("src/main.js", include_str!("templates/js/text.js"), JS),
        (Language::Js, Template::Image) => ("src/main.js", include_str!("templates/js/image.js"), JS),
        (Language::C, Template::Text) => ("src/main.c", include_str!("templates/c/text.c"), C),
        (Language::C, Template::Image) => ("src/main.c", include_str!("templates/c/image.c"), C),
        (Language::Rust, Template::Text) => ("src/main.rs", include_str!("templates/rust/text.rs"), RUST),
        (Language::Rust, Template::Image) => ("src/main.rs", include_str!("templates/rust/image.rs"), RUST),
    };
    let words: [(&str, &str); 13] = match template {
        Template::Text => [
            ("summary", "Greet everybody on a list"),
            ("about", "Greets everybody on a list: one name a line goes in, one greeting a line comes out."),
            ("scope", "text"),
            ("input", "\"text/plain\""),
            ("output", "text/plain"),
            (
                "params",
                "[params]\ngreeting = { type = \"string\", default = \"Hello\", maximum = 40, description = \"what to say\" }\n\n",
            ),
            ("split", "lines:1"),
            ("permissions", ""),
            ("file", "names.txt"),
            ("into", ""),
            ("main", main),
            ("variant", variant),
            ("name", name),
        ],
        Template::Image => [
            ("summary", "Invert the colours of a picture"),
            ("about", "Inverts the colours of a PNG or JPEG; several devices work on some of its rows each."),
            ("scope", "media/image"),
            ("input", "[\"image/png\", \"image/jpeg\"]"),
            ("output", "image/png"),
            ("params", ""),
            ("split", "image-rows"),
            ("permissions", "image = true                # the host decodes and encodes the picture\n"),
            ("file", "photo.jpg"),
            ("into", " -o out.png"),
            ("main", main),
            ("variant", variant),
            ("name", name),
        ],
    };
    let fill = |text: &str| {
        words.iter().fold(text.to_owned(), |text, (word, value)| text.replace(&format!("{{{{{word}}}}}"), value))
    };
    let file = |path, bytes: &[u8]| File { path, bytes: bytes.to_vec() };
    let mut files = vec![
        file("service.toml", fill(include_str!("templates/service.toml")).trim_end().as_bytes()),
        file(main, code.as_bytes()),
    ];
    files[0].bytes.push(b'\n');
    match language {
        Language::Js => {}
        Language::C => files.push(file("src/msm.h", include_bytes!("templates/c/msm.h"))),
        Language::Rust => {
            files.push(file("src/msm.rs", include_bytes!("templates/rust/msm.rs")));
            files.push(file("src/build.sh", include_bytes!("templates/rust/build.sh")));
        }
    }
    match template {
        Template::Text => {
            files.push(file("tests/names.toml", TEXT_TEST.as_bytes()));
            files.push(file("tests/names.txt", b"Ada\nGrace\nAnn\n"));
            files.push(file("tests/names.out.txt", b"Hello, Ada!\nHello, Grace!\nHello, Ann!\n"));
        }
        Template::Image => {
            files.push(file("tests/square.toml", IMAGE_TEST.as_bytes()));
            files.push(file("tests/square.png", include_bytes!("templates/square.png")));
            files.push(file("tests/square.out.png", include_bytes!("templates/square.out.png")));
        }
    }
    if language == Language::Js {
        files.push(file("msm.d.ts", include_bytes!("../../../services/msm.d.ts")));
        files.push(file("jsconfig.json", include_bytes!("templates/jsconfig.json")));
    }
    files.push(file("README.md", fill(include_str!("templates/README.md")).as_bytes()));
    files.push(file(".gitignore", include_bytes!("templates/gitignore")));
    files
}

const JS: &str = "engine = \"js\"\nfile = \"src/main.js\"";
const C: &str = "engine = \"wasm\"\nfile = \"build/main.wasm\"\nbuild = \"mkdir -p build && clang --target=wasm32-wasi -O2 \
                 -s -Wall -o build/main.wasm src/main.c\"\nwatch = [\"src/*.c\", \"src/*.h\"]";
const RUST: &str = "engine = \"wasm\"\nfile = \"build/main.wasm\"\nbuild = \"sh src/build.sh\"\nwatch = [\"src/*.rs\", \"src/build.sh\"]";
const TEXT_TEST: &str = "input = \"names.txt\"\nparams = { greeting = \"Hello\" }\nexpect = \"names.out.txt\"\n\
                         compare = \"bytes\"           # or \"json\", \"image:N\", \"regex:PATTERN\"\n\
                         chunks = [1, 2, 3, 7]       # in so many parts the output must be the same\n";
const IMAGE_TEST: &str = "input = \"square.png\"\nexpect = \"square.out.png\"\n\
                          compare = \"image:0\"         # no channel of any pixel may differ\n\
                          chunks = [1, 2, 3, 7]       # in so many parts the output must be the same\n";

#[cfg(test)]
mod tests {
    use msm_market_index::{pack_folder, read_recipe};

    use super::*;

    #[test]
    fn every_template_is_a_good_service() {
        for language in [Language::Js, Language::C, Language::Rust] {
            for template in [Template::Text, Template::Image] {
                let parent = tempfile::tempdir().unwrap();
                let files = create(parent.path(), "hello", language, template).unwrap();
                let folder = parent.path().join("hello");
                for file in &files {
                    let text = fs::read(file).unwrap();
                    assert!(!String::from_utf8_lossy(&text).contains("{{"), "{}", file.display());
                }
                assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1, "nothing beside it");
                let recipe = read_recipe(&folder).unwrap_or_else(|error| panic!("{language:?} {template:?}: {error}"));
                assert_eq!(recipe.variants[0].build.is_none(), language == Language::Js);
                if language == Language::Js {
                    pack_folder(&folder).unwrap();
                }
            }
        }
    }

    #[test]
    fn names_are_checked_and_nothing_is_overwritten() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["", "x", "../x", "Hello", "a b", "con", "-a", "a/b", "\u{202e}abc"] {
            let error = create(parent.path(), name, Language::Js, Template::Text).unwrap_err().to_string();
            assert!(error.contains("is no name of a service"), "{name}: {error}");
        }
        fs::create_dir(parent.path().join("hello")).unwrap();
        let error = create(parent.path(), "hello", Language::Js, Template::Text).unwrap_err().to_string();
        assert!(error.contains("is there already"), "{error}");
        std::os::unix::fs::symlink("/nowhere", parent.path().join("link")).unwrap();
        assert!(create(parent.path(), "link", Language::Js, Template::Text).is_err());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 2);
    }
}

//! Looks a service over: does its code compile, does it export what its manifest promises, is it documented, tested,
//! and does it ask for more than it uses.

use std::path::Path;

use bytes::Bytes;
use msm_market_index::{Fault, PackError, SERVICE_TOML};
use msm_protocol::{
    ContentHash, RefusalCode,
    manifest::{Engine, Permissions, Split},
};
use msm_sandbox::{Files, Package, Work};

use super::{
    WorkshopError,
    bench::{Bench, Run},
    case::{self, Case, read_cases},
    project::{Project, Variant},
    sources::{Place, Sources},
};

/// The file whose first paragraph says what a service does.
pub const README: &str = "README.md";
/// Bytes of it that are read.
const README_BYTES: u64 = 256 * 1024;
/// Beyond this a package takes a second on a slow link: worth a remark. *Judgement.*
const LARGE_BYTES: u64 = 2 << 20;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// It cannot be published or run like this.
    Error,
    /// It works, and could be better.
    Warning,
}

/// Something to say about a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// What is wrong.
    pub what: String,
    /// Where.
    pub place: Option<Place>,
    /// What to do.
    pub help: Option<String>,
}

/// What was found, and what there is.
#[derive(Debug, Default)]
pub struct Checked {
    /// Errors first.
    pub findings: Vec<Finding>,
    /// The service, when it could be packed.
    pub project: Option<Project>,
    /// Its tests.
    pub cases: Vec<Case>,
    /// The text of its README, when there is one.
    pub readme: Option<String>,
}

impl Checked {
    /// True when nothing stands in the way of publishing it.
    pub fn ok(&self) -> bool {
        self.findings.iter().all(|finding| finding.level != Level::Error)
    }

    fn error(&mut self, what: impl Into<String>, place: Option<Place>, help: Option<String>) {
        self.findings.push(Finding { level: Level::Error, what: what.into(), place, help });
    }

    fn warn(&mut self, what: impl Into<String>, help: impl Into<String>) {
        let (what, help) = (what.into(), Some(help.into()));
        self.findings.push(Finding { level: Level::Warning, what, place: None, help });
    }
}

/// Checks the service in `folder`. An error is returned only where the folder cannot be looked at as a whole; what is
/// wrong with the service is a finding.
pub async fn check(bench: &Bench, folder: &Path) -> Result<Checked, WorkshopError> {
    let mut checked = Checked::default();
    let project = match Project::open(folder) {
        Ok(project) => project,
        Err(WorkshopError::Pack(PackError::Manifest { text, faults, .. })) => {
            checked.findings = faults.into_iter().map(|fault| of_fault(fault, &text)).collect();
            return Ok(checked);
        }
        Err(WorkshopError::Pack(error @ PackError::File { .. })) => {
            checked.error(error.to_string(), None, None);
            return Ok(checked);
        }
        Err(error) => return Err(error),
    };
    for variant in project.variants(None)? {
        match variant.service.engine {
            Engine::Js => check_js(bench, &project, &variant, &mut checked).await,
            _ => check_wasm(bench, &variant, &mut checked).await,
        }
    }
    check_use(&project, &mut checked);
    let manifest = &project.package.manifest;
    let size = project.package.blobs.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
    if size > LARGE_BYTES {
        checked.warn(
            format!("{size} bytes in all"),
            format!("under {LARGE_BYTES} it is fetched at once even on a slow link"),
        );
    }
    match read_cases(folder, manifest, None) {
        Ok(cases) => {
            if cases.is_empty() {
                checked.warn("there are no tests", "add tests/NAME.toml with  input = \"IN\"  and  expect = \"OUT\"");
            }
            checked.cases = cases;
        }
        Err(WorkshopError::Case { path, text, span, reason }) => {
            let file = path.strip_prefix(folder).unwrap_or(&path).display().to_string();
            let place = span.map(|span| Place { file: file.clone(), text, span });
            let what = if place.is_some() { reason } else { format!("{file}: {reason}") };
            checked.error(what, place, None);
        }
        Err(error) => checked.error(error.to_string(), None, None),
    }
    match case::read(&folder.join(README), README_BYTES) {
        Ok(text) => {
            let text = String::from_utf8_lossy(&text).into_owned();
            if first_paragraph(&text).is_none() {
                checked.warn("README.md has no first paragraph", "say below its title what the service does");
            }
            checked.readme = Some(text);
        }
        Err(_) => checked.warn("there is no README.md", "say in its first paragraph what the service does"),
    }
    checked.project = Some(project);
    checked.findings.sort_by_key(|finding| finding.level);
    Ok(checked)
}

/// A fault of the manifest as a finding.
pub fn of_fault(fault: Fault, text: &str) -> Finding {
    let place = fault.span.map(|span| Place { file: SERVICE_TOML.to_owned(), text: text.to_owned(), span });
    Finding { level: Level::Error, what: format!("{}: {}", fault.key, fault.reason), place, help: fault.help }
}

/// The first lines of text below the title.
pub fn first_paragraph(readme: &str) -> Option<String> {
    let mut lines =
        readme.lines().map(str::trim).skip_while(|line| line.is_empty() || line.starts_with(['#', '!', '[', '<']));
    let paragraph: Vec<&str> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    (!paragraph.is_empty()).then(|| paragraph.join(" "))
}

/// Compiles the module and looks at its exports: the service's code is evaluated in a child, none of it is called.
async fn check_js(bench: &Bench, project: &Project, variant: &Variant, checked: &mut Checked) {
    let name = variant.file.rsplit('/').next().unwrap_or_default();
    let source = format!(
        "import * as service from {};\nexport function run() {{\n  return JSON.stringify(Object.keys(service).filter(\
         (name) => typeof service[name] === 'function'));\n}}\n",
        serde_json::Value::from(format!("./{name}"))
    );
    let Package { source: own, files: Files { modules, .. }, asks, .. } = variant.service.package("{}");
    let hash = ContentHash::of(&[source.as_bytes(), project.package.hash.to_string().as_bytes()].concat());
    let with_main = modules.iter().cloned().chain([(name.to_owned(), own.clone())]).collect();
    let package = Package {
        hash,
        engine: msm_sandbox::Engine::Js,
        source: source.into(),
        work: Work::Whole,
        files: Files { modules: with_main, assets: Vec::new() },
        asks,
        label: "check".to_owned(),
    };
    let exports = match bench.exports(package).await {
        Ok(json) => serde_json::from_slice::<Vec<String>>(&json).unwrap_or_default(),
        Err(refusal) => {
            // Here the main module is imported, so that it goes by its file's name.
            let sources = Sources::of(&variant.file, name, &own, &modules);
            let (what, place) = sources.explain(&refusal.reason);
            let what = if place.is_some() { what } else { format!("{}: {what}", variant.file) };
            checked.error(what, place, None);
            return;
        }
    };
    let needed: &[&str] = match project.package.manifest.work.split {
        Split::Service => &["run", "split", "merge"],
        _ => &["run"],
    };
    for name in needed.iter().filter(|name| !exports.iter().any(|export| export == **name)) {
        let why = if *name == "run" { "every service has one" } else { "split = \"service\" promises it" };
        let help = format!("add  export function {name}(…) {{ … }}");
        checked.error(format!("{} exports no function {name}: {why}", variant.file), None, Some(help));
    }
}

/// Has a child look at the module as it does before every run; what the program itself then does is the tests' matter.
async fn check_wasm(bench: &Bench, variant: &Variant, checked: &mut Checked) {
    let params = variant.service.manifest.resolve_params(&serde_json::Map::new()).unwrap_or_else(|_| "{}".to_owned());
    let run = Run { service: &variant.service, params: params.into(), input: Bytes::new(), resources: None };
    if let Err(refusal) = bench.whole(&run).await
        && refusal.code == RefusalCode::BadPackage
    {
        checked.error(format!("{}: {}", variant.file, refusal.reason), None, None);
    }
}

/// Permissions that no variant mentions: each asked for in vain costs trust. Only where all code can be read.
fn check_use(project: &Project, checked: &mut Checked) {
    let manifest = &project.package.manifest;
    if manifest.variants.iter().any(|variant| variant.engine != Engine::Js) {
        return;
    }
    let code: String = project.package.blobs.iter().filter_map(|(_, bytes)| std::str::from_utf8(bytes).ok()).collect();
    let Permissions { gps, net, clock, image, device, random } = &manifest.permissions;
    let is_rows = matches!(manifest.work.split, Split::ImageRows(_));
    let asked: [(&str, bool, &[&str]); 6] = [
        ("gps", gps.is_some(), &["gps"]),
        ("net", !net.is_empty(), &["fetch"]),
        ("clock", *clock, &["Date", "performance"]),
        // The host decodes the rows; the code need not say so.
        ("image", *image && !is_rows, &["image"]),
        ("device", *device, &["device"]),
        ("random", *random, &["random", "crypto"]),
    ];
    for (name, _, words) in asked.iter().filter(|(_, asked, _)| *asked) {
        if !words.iter().any(|word| code.contains(word)) {
            let help = format!("leave {name} out under [permissions]: what is not asked for cannot be refused");
            checked.warn(format!("asks for {name} and does not use it"), help);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_readmes_first_paragraph_stands_below_its_title() {
        let table = [
            ("# blur\n\nBlurs a picture,\nquickly.\n\nMore.", Some("Blurs a picture, quickly.")),
            ("Just text", Some("Just text")),
            ("# title\n\n## other\n", None),
            ("", None),
            ("[![badge](x)](y)\n\ntext\n", Some("text")),
        ];
        for (readme, expected) in table {
            assert_eq!(first_paragraph(readme).as_deref(), expected);
        }
    }
}

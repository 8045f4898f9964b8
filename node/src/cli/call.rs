//! A command for a node, together with its input, where its output goes, and how it is shown.

use std::{
    fs,
    io::{self, BufRead, Read, Write},
    path::{Path, PathBuf},
    pin::pin,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use msm_protocol::limits::JOB_INPUT_BYTES;
use tokio::sync::mpsc;

use super::{
    events, hints,
    render::{self, progress::Progress},
    screen::{Screen, Stop},
};
use crate::command::{Command, CommandError, Door, EVENT_QUEUE, ErrorCode, Event, JobState, Reply, Request, Response};

/// Whether standard input may be read as a job's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdin {
    /// Nobody else reads it.
    Free,
    /// It holds the script or the keys that are typed.
    Taken,
}

/// What happens when no node runs on this home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithoutNode {
    /// One is started for the call.
    Start,
    /// The question is about a running node: there is no answer.
    Refuse,
}

/// Where a job's output goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The command has none.
    None,
    /// A file, replaced in one step.
    File(PathBuf),
    /// Standard output, because it was asked for (`-`).
    Stdout,
    /// Not said: standard output, if what comes can stand there.
    Unsaid,
}

/// A command for a node.
#[derive(Debug)]
pub struct Call {
    /// The command and its input.
    pub request: Request,
    /// Where output goes.
    pub output: Output,
    /// What to do without a running node.
    pub without_node: WithoutNode,
    /// To be answered with yes before anything is sent.
    pub consent: Option<Consent>,
}

/// A question about trust.
#[derive(Debug)]
pub struct Consent {
    /// What is about to happen, and the question.
    pub question: String,
    /// The line that says yes beforehand.
    pub hint: String,
}

impl Call {
    /// A command without input and output that needs a running node.
    pub fn of_running_node(command: Command) -> Self {
        Self { request: command.into(), output: Output::None, without_node: WithoutNode::Refuse, consent: None }
    }

    /// A command without input and output for which a node is started when none runs.
    pub fn of_any_node(command: Command) -> Self {
        Self { without_node: WithoutNode::Start, ..Self::of_running_node(command) }
    }

    /// Asks for consent where it is needed. To be called before anything starts.
    pub fn ask_consent(&self, yes: bool, screen: &mut Screen) -> Result<(), Stop> {
        match &self.consent {
            Some(consent) if !yes => consent.ask(screen),
            _ => Ok(()),
        }
    }

    /// Sends the command through `door`, shows what happens and the answer.
    pub async fn carry_out<D: Door>(self, door: &D, screen: &mut Screen) -> Result<(), Stop> {
        if matches!(self.request.command, Command::Watch { .. }) {
            return events::follow(door, self.request, screen).await;
        }
        self.refuse_binary_on_terminal(door, screen).await?;
        let response = with_progress(door, self.request, screen).await?;
        show(response, &self.output, screen)
    }

    /// Asks for the service's output type first when its output would land on a terminal: a picture there helps
    /// nobody, and running the job again to get a file costs more than the question.
    async fn refuse_binary_on_terminal<D: Door>(&self, door: &D, screen: &Screen) -> Result<(), Stop> {
        let Command::Invoke(invoke) = &self.request.command else { return Ok(()) };
        if self.output != Output::Unsaid || !screen.style.out_terminal || screen.style.json || invoke.plan {
            return Ok(());
        }
        let (events, _) = mpsc::channel(1);
        let show = Command::Show { service: invoke.service.clone() };
        match door.execute(show.into(), events).await?.reply {
            Reply::Service(detail) if !is_text_type(&detail.output) => {
                Err(binary(&invoke.service, &detail.output).into())
            }
            _ => Ok(()),
        }
    }
}

impl Consent {
    fn ask(&self, screen: &mut Screen) -> Result<(), Stop> {
        if !screen.style.may_ask {
            let message = format!("this needs your consent: {}", self.question);
            return Err(CommandError::new(ErrorCode::NotAllowed, message).or_try(&self.hint).into());
        }
        screen.question(&format!("{} [y/N] ", self.question));
        let mut answer = String::new();
        let read = io::stdin().lock().take(ANSWER_BYTES).read_line(&mut answer);
        match (read, answer.trim().to_ascii_lowercase().as_str()) {
            (Ok(_), "y" | "yes") => Ok(()),
            _ => Err(CommandError::new(ErrorCode::NotAllowed, "not confirmed; nothing was changed").into()),
        }
    }
}

/// An answer is a word.
const ANSWER_BYTES: u64 = 64;

fn is_text_type(media_type: &str) -> bool {
    media_type.starts_with("text/") || ["application/json", "application/xml"].contains(&media_type)
}

fn binary(service: &str, what: &str) -> CommandError {
    let message = format!("the output ({what}) is not text, and standard output is a terminal; use -o FILE or -o -");
    CommandError::new(ErrorCode::Usage, message).or_try(hints::invoke_to_file(service))
}

/// Executes `request` and shows its events until it has ended.
async fn with_progress<D: Door>(door: &D, request: Request, screen: &mut Screen) -> Result<Response, CommandError> {
    let (events, mut queue) = mpsc::channel::<Event>(EVENT_QUEUE);
    let mut progress = Progress::new(screen.style);
    let mut run = pin!(door.execute(request, events));
    let mut open = true;
    let outcome = loop {
        tokio::select! {
            biased;
            event = queue.recv(), if open => match event {
                Some(event) => progress.event(&event, screen),
                None => open = false,
            },
            outcome = &mut run => break outcome,
        }
    };
    while let Ok(event) = queue.try_recv() {
        progress.event(&event, screen);
    }
    progress.finish(screen);
    outcome
}

/// Shows a response: output to its place, then the report to stdout, or to stderr when stdout has the output.
fn show(response: Response, output: &Output, screen: &mut Screen) -> Result<(), Stop> {
    let Response { reply, output: bytes } = response;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let Reply::Job(job) = &reply else { return show_reply(&reply, now, screen) };
    match output {
        Output::None => return show_reply(&reply, now, screen),
        Output::File(path) => {
            write_output(path, &bytes)?;
            if screen.style.json {
                return screen.result_json(&reply);
            }
            screen.result_line(render::reply::job(job, Some(&path.display().to_string())))?;
        }
        Output::Stdout | Output::Unsaid if screen.style.json => return screen.result_json(&reply),
        Output::Unsaid if screen.style.out_terminal && !render::text::is_text(&bytes) => {
            return Err(binary(&job.service, "binary").into());
        }
        Output::Stdout | Output::Unsaid => {
            screen.result(&bytes)?;
            if screen.style.out_terminal && !bytes.ends_with(b"\n") {
                screen.result(b"\n")?;
            }
            if !screen.style.quiet {
                screen.message(render::reply::job(job, None).trim_end());
            }
        }
    }
    if job.state == JobState::Partial && !screen.style.quiet {
        screen.message("warning: the output is partial, as --on-loss partial allows");
    }
    Ok(())
}

fn show_reply(reply: &Reply, now: u64, screen: &mut Screen) -> Result<(), Stop> {
    if screen.style.json {
        return screen.result_json(reply);
    }
    screen.result(render::reply::text(reply, now).as_bytes())?;
    if let (Some((remark, hint)), false) = (render::reply::remark(reply), screen.style.quiet) {
        screen.message(format!("{remark}\n  try: {hint}"));
    }
    Ok(())
}

/// Reads a job's input; nothing is started for a file that is not there.
pub fn read_input(path: &Path, stdin: Stdin) -> Result<Bytes, CommandError> {
    if path == Path::new("-") {
        if stdin == Stdin::Taken {
            let message = "standard input holds the commands here; give the input as a file";
            return Err(CommandError::new(ErrorCode::Usage, message));
        }
        return read_bounded(io::stdin().lock(), path);
    }
    let failed = |error: io::Error| {
        let code = if error.kind() == io::ErrorKind::NotFound { ErrorCode::NotFound } else { ErrorCode::Failed };
        CommandError::new(code, format!("cannot read {}: {error}", path.display()))
    };
    let file = fs::File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(CommandError::new(ErrorCode::Usage, format!("{} is a folder, not a file", path.display())));
    }
    read_bounded(file, path)
}

fn read_bounded(reader: impl Read, path: &Path) -> Result<Bytes, CommandError> {
    let mut bytes = Vec::new();
    reader
        .take(JOB_INPUT_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| CommandError::new(ErrorCode::Failed, format!("cannot read {}: {error}", path.display())))?;
    if bytes.len() as u64 > JOB_INPUT_BYTES {
        let message = format!("input-too-large: {} has more than {JOB_INPUT_BYTES} bytes", path.display());
        return Err(CommandError::new(ErrorCode::Usage, message));
    }
    Ok(bytes.into())
}

/// Checks before the work that its output has a place to go.
pub fn check_output(path: &Path) -> Result<(), CommandError> {
    if path.is_dir() {
        return Err(CommandError::new(ErrorCode::Usage, format!("{} is a folder, not a file", path.display())));
    }
    let folder = folder_of(path);
    if folder.is_dir() {
        return Ok(());
    }
    Err(CommandError::new(ErrorCode::NotFound, format!("there is no folder {} for the output", folder.display())))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes a file so that other programs see the old or the whole new one. What is no plain file (`/dev/null`, a pipe)
/// is written to as it is.
pub fn write_output(path: &Path, bytes: &[u8]) -> Result<(), CommandError> {
    let failed =
        |error: io::Error| CommandError::new(ErrorCode::Failed, format!("cannot write {}: {error}", path.display()));
    match fs::metadata(path) {
        Ok(there) if !there.is_file() => {
            return fs::OpenOptions::new()
                .write(true)
                .open(path)
                .and_then(|mut it| it.write_all(bytes))
                .map_err(failed);
        }
        _ => {}
    }
    // A link stays a link: the file behind it is replaced.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    let mut builder = tempfile::Builder::new();
    builder.prefix(".msm-").permissions(mode); // Made smaller by the umask, as for any new file.
    let mut file = builder.tempfile_in(folder_of(&target)).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.persist(&target).map_err(|error| failed(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::cli::{
        samples::SampleDoor,
        screen::{Style, tests::captured},
    };

    #[test]
    fn output_replaces_a_file_whole_and_follows_links() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("out.png"), folder.path().join("link.png"));
        write_output(&file, b"one").unwrap();
        symlink(&file, &link).unwrap();
        write_output(&link, b"two").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_ne!(fs::metadata(&file).unwrap().permissions().mode() & 0o400, 0);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file stays");
        write_output(Path::new("/dev/null"), b"x").unwrap();
    }

    #[test]
    fn places_are_checked_before_the_work() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check_output(&folder.path().join("new.png")).is_ok());
        assert!(check_output(Path::new("new.png")).is_ok());
        assert_eq!(check_output(folder.path()).unwrap_err().code, ErrorCode::Usage);
        assert_eq!(check_output(&folder.path().join("no/such.png")).unwrap_err().code, ErrorCode::NotFound);
    }

    #[test]
    fn a_missing_input_is_not_found_by_its_name() {
        let error = read_input(Path::new("no-such-cat.png"), Stdin::Free).unwrap_err();
        assert_eq!(error.code, ErrorCode::NotFound);
        assert!(error.message.contains("no-such-cat.png"), "{}", error.message);
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read_input(folder.path(), Stdin::Free).unwrap_err().code, ErrorCode::Usage);
        assert_eq!(read_input(Path::new("-"), Stdin::Taken).unwrap_err().code, ErrorCode::Usage);
    }

    #[test]
    fn b31_an_endless_input_is_cut_at_the_cap() {
        let error = read_bounded(io::repeat(7), Path::new("/dev/zero")).unwrap_err();
        assert!(error.message.starts_with("input-too-large"), "{}", error.message);
    }
    fn call(service: &str, output: Output) -> Call {
        let invoke = crate::command::Invoke { service: service.into(), ..Default::default() };
        let request = Request { command: Command::Invoke(Box::new(invoke)), input: Bytes::new() };
        Call { request, output, without_node: WithoutNode::Start, consent: None }
    }

    async fn carry_out(door: &SampleDoor, output: Output, style: Style) -> (Result<(), Stop>, String, String) {
        let (mut screen, out, err) = captured(style);
        let ended = call("image-blur", output).carry_out(door, &mut screen).await;
        (ended, out.text(), err.text())
    }

    const TERMINAL: Style =
        Style { json: false, quiet: false, color: false, bars: false, out_terminal: true, may_ask: false };

    #[tokio::test]
    async fn a_picture_does_not_land_on_a_terminal() {
        let output: Bytes = b"\x89PNG".as_slice().into();
        let door = SampleDoor { output, output_type: "image/png".into(), ..Default::default() };
        let (ended, out, _) = carry_out(&door, Output::Unsaid, TERMINAL).await;
        let Err(Stop::Failed(error)) = ended else { panic!("{ended:?}") };
        assert_eq!((error.code, error.r#try.len()), (ErrorCode::Usage, 1));
        assert!(out.is_empty() && error.r#try[0].contains("-o out.bin"), "{error:?}");
        assert!(!door.asked().iter().any(|it| matches!(it, Command::Invoke(_))), "nothing ran for nothing");

        // Said to be text, and is none.
        let door = SampleDoor { output_type: "text/plain".into(), ..door };
        assert!(carry_out(&door, Output::Unsaid, TERMINAL).await.0.is_err());
        // Asked for: as it was asked for.
        let (ended, out, _) = carry_out(&door, Output::Stdout, TERMINAL).await;
        assert!(ended.is_ok() && out.contains("PNG"));
        // Down a pipe everything goes, and nothing but the output.
        let (ended, out, err) = carry_out(&door, Output::Unsaid, Style::default()).await;
        assert!(ended.is_ok() && out == "\u{fffd}PNG", "{out:?}");
        assert!(err.contains("job 7f7f"), "the report is a message then: {err}");
    }

    #[tokio::test]
    async fn a_file_gets_the_output_and_stdout_the_report() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("out.png");
        let door = SampleDoor { output: b"\x89PNG".as_slice().into(), ..Default::default() };
        let (ended, out, err) = carry_out(&door, Output::File(file.clone()), TERMINAL).await;
        assert!(ended.is_ok() && fs::read(&file).unwrap() == b"\x89PNG");
        assert!(out.contains("out.png") && out.contains("sha256 9c9c"), "{out}");
        assert_eq!(err, "", "the report says how it ended");

        let json = Style { json: true, ..Style::default() };
        let (ended, out, err) = carry_out(&door, Output::File(file), json).await;
        assert!(ended.is_ok() && err.is_empty(), "{err}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&out).unwrap()["schema"], "msm.job/1");
    }

    #[tokio::test]
    async fn a_partial_result_says_so() {
        let door =
            SampleDoor { output: b"text".as_slice().into(), state: Some(JobState::Partial), ..Default::default() };
        let (ended, out, err) = carry_out(&door, Output::Stdout, Style::default()).await;
        assert!(ended.is_ok() && out == "text");
        assert!(err.contains("warning: the output is partial"), "{err}");
    }
}

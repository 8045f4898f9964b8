//! A command for a node, together with its input, where its output goes, and how it is shown.

use std::{
    fs,
    io::{self, BufRead, Read, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    pin::pin,
    time::{SystemTime, UNIX_EPOCH},
};

use msm_protocol::limits::{JOB_DISK_BYTES, JOB_INPUT_BYTES};
use tokio::sync::mpsc;

use super::{
    events, hints,
    render::{self, progress::Progress},
    screen::{Screen, Stop},
};
use crate::{
    blob::Blob,
    body::Body,
    command::{Command, CommandError, Door, EVENT_QUEUE, ErrorCode, Event, JobState, Reply, Request, Response},
    control::spool,
};

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
    /// There is none yet: the job's id is printed.
    Id,
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
        let kept = matches!(self.request.command, Command::JobWait { output: true, .. } | Command::JobResume { .. });
        let response = with_progress(door, self.request, screen).await?;
        let job = match &response.reply {
            Reply::Job(job) if kept => Some(job.job_id),
            _ => None,
        };
        let written = self.output.holds_bytes(screen.style.json);
        show(response, &self.output, screen).await?;
        // Only now is the result where it was wanted: until here it could be asked for again.
        if let (Some(job), true) = (job, written) {
            let (events, _) = mpsc::channel(1);
            door.execute(Command::JobTaken { id: job.to_string() }.into(), events).await?;
        }
        Ok(())
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

impl Output {
    /// Whether bytes of a result are written; standard output holds either them or a report.
    fn holds_bytes(&self, json: bool) -> bool {
        match self {
            Self::File(_) => true,
            Self::Stdout | Self::Unsaid => !json,
            Self::None | Self::Id => false,
        }
    }
}

impl Consent {
    pub(super) fn ask(&self, screen: &mut Screen) -> Result<(), Stop> {
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
async fn show(response: Response, output: &Output, screen: &mut Screen) -> Result<(), Stop> {
    let Response { reply, output: mut body } = response;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let Reply::Job(job) = &reply else { return show_reply(&reply, now, screen) };
    match output {
        Output::None => return show_reply(&reply, now, screen),
        Output::Id if screen.style.json => return screen.result_json(&reply),
        Output::Id => return screen.result_line(job.job_id.to_string()),
        Output::File(path) => {
            write_body(path, body).await?;
            if screen.style.json {
                return screen.result_json(&reply);
            }
            screen.result_line(render::reply::job(job, Some(&path.display().to_string())))?;
        }
        Output::Stdout | Output::Unsaid if screen.style.json => return screen.result_json(&reply),
        Output::Stdout | Output::Unsaid => {
            if *output == Output::Unsaid && screen.style.out_terminal {
                let bytes = body.whole(JOB_INPUT_BYTES).await.map_err(unread)?;
                if !render::text::is_text(&bytes) {
                    return Err(binary(&job.service, "binary").into());
                }
                body = bytes.into();
            }
            let mut last = None;
            while let Some(bytes) = body.next().await.map_err(unread)? {
                screen.result(&bytes)?;
                last = bytes.last().copied();
            }
            if screen.style.out_terminal && last != Some(b'\n') {
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

/// The output broke off on its way here.
fn unread(error: io::Error) -> CommandError {
    CommandError::new(ErrorCode::Failed, format!("the output did not arrive: {error}"))
}

/// Opens a job's input; nothing is started for a file that is not there. What comes through a pipe is read to its end
/// first: what is too much for memory into a file without a name in the folder for temporary files.
pub fn read_input(path: &Path, stdin: Stdin) -> Result<Blob, CommandError> {
    if path == Path::new("-") {
        if stdin == Stdin::Taken {
            let message = "standard input holds the commands here; give the input as a file";
            return Err(CommandError::new(ErrorCode::Usage, message));
        }
        return read_all(io::stdin().lock(), path, JOB_DISK_BYTES);
    }
    let failed = |error: io::Error| {
        let code = if error.kind() == io::ErrorKind::NotFound { ErrorCode::NotFound } else { ErrorCode::Failed };
        CommandError::new(code, format!("cannot read {}: {error}", path.display()))
    };
    let file = fs::File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if meta.is_dir() {
        return Err(CommandError::new(ErrorCode::Usage, format!("{} is a folder, not a file", path.display())));
    }
    if !meta.is_file() || meta.len() <= MEMORY_BYTES {
        return read_all(file, path, JOB_DISK_BYTES);
    }
    if meta.len() > JOB_DISK_BYTES {
        return Err(too_large(path, JOB_DISK_BYTES));
    }
    Blob::of_file(file).map_err(failed)
}

/// A file up to this size is read at once, so that it may change while the job runs. *Judgement.*
const MEMORY_BYTES: u64 = 4 * 1024 * 1024;
/// The first bytes of an input, by which its type is known.
const FIRST_BYTES: usize = 64;

/// The first bytes of an input.
pub fn first_bytes(input: &Blob) -> Vec<u8> {
    match input {
        Blob::Memory(bytes) => bytes.iter().take(FIRST_BYTES).copied().collect(),
        Blob::File { file, offset, len } => {
            let mut first = vec![0; FIRST_BYTES.min(*len as usize)];
            // One that cannot be read here will be told when it is used.
            let _ = file.read_exact_at(&mut first, *offset);
            first
        }
    }
}

fn read_all(mut reader: impl Read, path: &Path, most: u64) -> Result<Blob, CommandError> {
    let failed =
        |error: io::Error| CommandError::new(ErrorCode::Failed, format!("cannot read {}: {error}", path.display()));
    let mut bytes = Vec::new();
    reader.by_ref().take(JOB_INPUT_BYTES.min(most) + 1).read_to_end(&mut bytes).map_err(failed)?;
    let held = bytes.len() as u64;
    if held > most {
        return Err(too_large(path, most));
    }
    if held <= JOB_INPUT_BYTES {
        return Ok(bytes.into());
    }
    let mut file = tempfile::tempfile().map_err(failed)?;
    file.write_all(&bytes).map_err(|error| failed(spool::full(error, held)))?;
    drop(bytes);
    let copied = io::copy(&mut reader.take(most - held + 1), &mut file);
    if copied.map_err(|error| failed(spool::full(error, held)))? > most - held {
        return Err(too_large(path, most));
    }
    Blob::of_file(file).map_err(failed)
}

fn too_large(path: &Path, most: u64) -> CommandError {
    let message = format!("input-too-large: {} has more than {most} bytes", path.display());
    CommandError::new(ErrorCode::Usage, message)
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

/// A file that is being written: other programs see the old or the whole new one. What is no plain file (`/dev/null`, a
/// pipe) is written to as it is.
enum Writing {
    There(fs::File),
    Beside(tempfile::NamedTempFile, PathBuf),
}

impl Writing {
    fn begin(path: &Path) -> io::Result<Self> {
        if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
            return Ok(Self::There(fs::OpenOptions::new().write(true).open(path)?));
        }
        // A link stays a link: the file behind it is replaced.
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        let mut builder = tempfile::Builder::new();
        builder.prefix(".msm-").permissions(mode); // Made smaller by the umask, as for any new file.
        Ok(Self::Beside(builder.tempfile_in(folder_of(&target))?, target))
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::There(file) => file.write_all(bytes),
            Self::Beside(file, _) => file.write_all(bytes),
        }
    }

    fn end(self) -> io::Result<()> {
        match self {
            Self::There(_) => Ok(()),
            Self::Beside(file, target) => file.persist(&target).map(drop).map_err(|error| error.error),
        }
    }
}

fn unwritten(path: &Path, bytes: u64, error: io::Error) -> CommandError {
    let error = spool::full(error, bytes);
    CommandError::new(ErrorCode::Failed, format!("cannot write {}: {error}", path.display()))
}

/// Writes a file so that other programs see the old or the whole new one.
pub fn write_output(path: &Path, bytes: &[u8]) -> Result<(), CommandError> {
    let written = Writing::begin(path).and_then(|mut file| {
        file.put(bytes)?;
        file.end()
    });
    written.map_err(|error| unwritten(path, bytes.len() as u64, error))
}

/// The same with what arrives piece by piece: when it breaks off, the old file stays and nothing half is left.
pub async fn write_body(path: &Path, mut body: Body) -> Result<(), CommandError> {
    let bytes = body.len();
    let failed = |error| unwritten(path, bytes, error);
    let mut file = Writing::begin(path).map_err(failed)?;
    while let Some(piece) = body.next().await.map_err(unread)? {
        file.put(&piece).map_err(failed)?;
    }
    file.end().map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use bytes::Bytes;

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
        for most in [1_000, JOB_INPUT_BYTES + 1_000] {
            let read = |bytes: u64| read_all(io::repeat(7).take(bytes), Path::new("/dev/zero"), most);
            let error = read(u64::MAX).unwrap_err();
            assert!(error.message.starts_with("input-too-large"), "{}", error.message);
            let input = read(most).unwrap();
            assert_eq!((input.len(), input.in_memory().is_some()), (most, most <= JOB_INPUT_BYTES));
            assert_eq!(first_bytes(&input), [7; FIRST_BYTES]);
        }
    }

    #[tokio::test]
    async fn b97_an_output_that_breaks_off_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("out.bin");
        write_body(&file, Bytes::from_static(b"old").into()).await.unwrap();
        let broken = futures::stream::iter([Ok(Bytes::from_static(b"ne")), Err(io::Error::other("gone"))]);
        let error = write_body(&file, Body::arriving(3, Box::pin(broken))).await.unwrap_err();
        assert!(error.message.contains("did not arrive"), "{error}");
        assert_eq!(fs::read(&file).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing half is left");
        if Path::new("/dev/full").exists() {
            let error = write_body(Path::new("/dev/full"), Bytes::from_static(b"x").into()).await.unwrap_err();
            assert!(error.message.contains("disk-full"), "{error}");
        }
    }

    fn call(service: &str, output: Output) -> Call {
        let invoke = crate::command::Invoke { service: service.into(), ..Default::default() };
        let request = Request { command: Command::Invoke(Box::new(invoke)), input: Blob::default() };
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

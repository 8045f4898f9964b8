//! The REPL on a terminal: line editing, history, completion, and events above the prompt.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use rustyline::{
    CompletionType, Config, Context, Editor, ExternalPrinter, Helper, Highlighter, Hinter, Validator,
    completion::{Completer, FilenameCompleter, Pair},
    config::Configurer,
    error::ReadlineError,
    history::FileHistory,
};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    Flow, Session,
    complete::{Offer, SharedNames, offer},
};
use crate::{
    cli::{
        hints, logging,
        render::progress,
        screen::{Screen, Stop},
        signals::{INTERRUPTED, Signals},
    },
    command::{Command, CommandError, Door, EVENT_QUEUE, ErrorCode, Event},
};

const PROMPT: &str = "msm> ";
/// Lines of history that are kept.
const HISTORY: usize = 1_000;
/// Lines that wait to be printed above the prompt; more are dropped, because a terminal that stands still (Ctrl-S,
/// a list of completions) must not stop the node behind it.
const ABOVE: usize = 256;

/// Reads lines and carries them out until `quit`, Ctrl-D or a signal.
pub async fn run<D: Door + Clone + 'static>(
    session: &mut Session<D>,
    signals: &mut Signals,
    screen: &mut Screen,
) -> Result<(), Stop> {
    let names = SharedNames::default();
    let _restore = Restore::remember();
    let mut prompt = Prompt::open(names.clone(), session.home.history_file())?;
    let _logs = logging::print_above_prompt(prompt.above.clone());
    let busy = Arc::new(AtomicBool::new(false));
    // Both are aborted with this function.
    let (mut watcher, mut refresher) = (JoinSet::new(), JoinSet::new());
    watcher.spawn(watch(session.door.clone(), prompt.above.clone(), busy.clone()));
    screen.message("Type a command, help, or quit. Tab completes.");
    loop {
        if refresher.try_join_next().is_some() || refresher.is_empty() {
            let (door, known) = (session.door.clone(), names.clone());
            refresher.spawn(async move { known.refresh(&door).await });
        }
        let line = tokio::select! {
            line = prompt.line() => line,
            _ = signals.next() => return Ok(()),
        };
        let line = match line {
            Some(Ok(line)) => line,
            Some(Err(ReadlineError::Interrupted)) => continue,
            Some(Err(ReadlineError::Eof)) | None => return Ok(()),
            Some(Err(error)) => {
                let message = format!("cannot read from the terminal: {error}");
                return Err(CommandError::new(ErrorCode::Failed, message).or_try(hints::help()).into());
            }
        };
        busy.store(true, Ordering::Relaxed);
        let ended = tokio::select! {
            ended = session.line(&line, screen) => ended,
            // Dropping the command cancels it; the prompt comes back.
            code = signals.next() => {
                screen.message("interrupted");
                if code == INTERRUPTED { Ok(Flow::Next) } else { Ok(Flow::Quit) }
            }
        };
        busy.store(false, Ordering::Relaxed);
        match ended {
            // A line that failed has said so.
            Ok(Flow::Next) | Err(Stop::Exit(_)) => {}
            Ok(Flow::Quit) => return Ok(()),
            Err(stop) => return Err(stop),
        }
    }
}

/// Prints what happens in the node, except while a command shows its own events.
async fn watch<D: Door>(door: D, above: SyncSender<String>, busy: Arc<AtomicBool>) {
    let (events, mut queue) = mpsc::channel::<Event>(EVENT_QUEUE);
    let print = async {
        while let Some(event) = queue.recv().await {
            if let (false, Some(line)) = (busy.load(Ordering::Relaxed), progress::line(&event)) {
                let _ = above.try_send(line + "\n");
            }
        }
    };
    let _ = tokio::join!(door.execute(Command::Watch { job: None }.into(), events), print);
}

/// The line editor, in a thread of its own: it blocks while somebody thinks.
struct Prompt {
    ask: SyncSender<()>,
    lines: mpsc::Receiver<rustyline::Result<String>>,
    above: SyncSender<String>,
}

impl Prompt {
    fn open(names: SharedNames, history: PathBuf) -> Result<Self, CommandError> {
        let failed = |error: ReadlineError| {
            CommandError::new(ErrorCode::Failed, format!("cannot use the terminal: {error}")).or_try(hints::help())
        };
        let mut editor: Editor<Tab, FileHistory> = Editor::with_config(config()).map_err(failed)?;
        editor.set_helper(Some(Tab { names, files: FilenameCompleter::new() }));
        editor.set_max_history_size(HISTORY).map_err(failed)?;
        // There is none at first; an unreadable one is no reason to refuse work.
        let _ = editor.load_history(&history);
        let printer = editor.create_external_printer().map_err(failed)?;
        let (above, queue) = sync_channel(ABOVE);
        thread::spawn(move || print_above(printer, &queue));
        let (ask, asked) = sync_channel(1);
        let (answer, lines) = mpsc::channel(1);
        thread::spawn(move || read_lines(editor, &history, &asked, &answer));
        Ok(Self { ask, lines, above })
    }

    /// The next line, or `None` when the editor has ended.
    async fn line(&mut self) -> Option<rustyline::Result<String>> {
        self.ask.send(()).ok()?;
        self.lines.recv().await
    }
}

fn config() -> Config {
    // With the default completion type, printing above the prompt stalls while Tab cycles.
    Config::builder().completion_type(CompletionType::List).history_ignore_space(true).auto_add_history(false).build()
}

fn read_lines(
    mut editor: Editor<Tab, FileHistory>,
    history: &std::path::Path,
    asked: &Receiver<()>,
    answer: &mpsc::Sender<rustyline::Result<String>>,
) {
    while asked.recv().is_ok() {
        let line = editor.readline(PROMPT);
        if let Ok(line) = &line
            && !line.trim().is_empty()
            && editor.add_history_entry(line.as_str()).unwrap_or(false)
        {
            // A full disk costs the history, nothing else.
            let _ = editor.append_history(history);
        }
        if answer.blocking_send(line).is_err() {
            return;
        }
    }
}

fn print_above(mut printer: impl ExternalPrinter, queue: &Receiver<String>) {
    while let Ok(text) = queue.recv() {
        if printer.print(text).is_err() {
            return;
        }
    }
}

/// What Tab does.
#[derive(Helper, Highlighter, Hinter, Validator)]
struct Tab {
    names: SharedNames,
    files: FilenameCompleter,
}

impl Completer for Tab {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, context: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        match offer(line, at, &self.names.now()) {
            Offer::File => self.files.complete(line, at, context),
            Offer::Words(start, words) => {
                let pair = |word: String| Pair { replacement: format!("{word} "), display: word };
                Ok((start, words.into_iter().map(pair).collect()))
            }
        }
    }
}

/// Gives the terminal its settings back, also when a signal ends us in the middle of a line.
struct Restore(Option<libc::termios>);

impl Restore {
    fn remember() -> Self {
        // SAFETY: an all-zero termios is a valid value; tcgetattr fills it for the descriptor or fails.
        let settings = unsafe {
            let mut settings: libc::termios = std::mem::zeroed();
            (libc::tcgetattr(libc::STDIN_FILENO, &mut settings) == 0).then_some(settings)
        };
        Self(settings)
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        if let Some(settings) = &self.0 {
            // SAFETY: `settings` came from tcgetattr on the same descriptor.
            unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSADRAIN, settings) };
        }
    }
}

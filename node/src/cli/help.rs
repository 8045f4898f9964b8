//! `msm help`, and the grouped page of `msm --help`.

use clap::Args;

use super::{
    hints,
    screen::{Screen, Stop},
};
use crate::command::{CommandError, ErrorCode};

/// Explain a command or a topic
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  msm help exit-codes\n  msm help market add")]
pub struct Help {
    /// A command, or start, grants, exit-codes, environment
    #[arg(value_name = "TOPIC")]
    topic: Vec<String>,
}

const GROUPS: &str = "\
Start here         demo  status  doctor  help
Lend this device   node  peers  repl  pause  resume  grant  revoke-grant  grants  pending  history
Use services       search  show  invoke  proxy  jobs  events
Build services     service
Run a market       market  key
System             completion

Examples:
  msm demo
  msm invoke image-blur cat.png -o out.png
  msm help start";

const AFTERWARDS: &str = "\
Files:
  Everything in $MSM_HOME or --home, else by XDG: keys and markets in
  ~/.local/share/msm, settings in ~/.config/msm/config.toml

Exit codes:
  0 ok  1 failed  2 usage  3 no node  4 not allowed  5 no device fits
  6 service failed  7 deadline  8 verification failed  9 not found
  130 interrupted";

const START: &str = "\
See it work, with nothing to set up:
  msm demo

Lend this device, or use those of friends:
  msm node                                   # in one terminal, or as a service
  msm market add msm:market:FINGERPRINT      # the line a friend's `msm market share` prints
  msm peers
  msm search blur
  msm invoke image-blur cat.png -o out.png

Write a service, and publish it:
  msm service new hello                      # in JavaScript; --lang c or rust for WebAssembly
  msm service dev hello                      # builds, checks and tests after every change
  msm market init ./market --name 'My Market'
  msm market publish ./hello
  msm market share";

const EXIT_CODES: &str = "\
  0  ok
  1  failed for another reason
  2  usage: the line or a value in it is wrong
  3  no node reachable
  4  not allowed: permission, consent or trust
  5  no device fits the constraints
  6  the service itself failed
  7  the deadline passed
  8  verification failed: signature, hash, rollback, expired
  9  not found: file, service, job, peer, market
130  interrupted (143 when terminated)";

const ENVIRONMENT: &str = "\
MSM_HOME         one folder for everything of this node (same as --home)
MSM_LOG          what to log on stderr, such as info or msm_node=debug
NO_COLOR         no colours
CLICOLOR_FORCE   colours although stderr is no terminal
XDG_CONFIG_HOME, XDG_DATA_HOME, XDG_STATE_HOME, XDG_RUNTIME_DIR
                 where things are without MSM_HOME";

const GRANTS: &str = "\
A service may use three things of a device only when its owner grants them:
  gps      where the device is
  net      fetching from the web through the device's network
  device   battery and network in rough words, and the device's name
Pictures, the clock and randomness need no grant: they reveal nothing of the
device and never leave the service's own process.

What counts is the least of three:
  1. what the service asks for        [permissions] in its service.toml
  2. what you granted, to whom        msm grant SERVICE RIGHT --to own
  3. the device's ceiling             [resources] in config.toml
A grant is for own (your jobs), known (yours and those of peers in node.peers,
the default), anyone, or one peer. A position is granted for 24 hours and told
as a cell of about 2 km unless you say otherwise. Your own jobs need a grant
too: a service is a stranger's code.

  msm pending                       # who asked, with the line that says yes
  msm grants
  msm revoke-grant gps-sharing gps  # stops what runs under it
  msm history --today               # what was done, and what was denied";

/// Topics that are no commands.
const TOPICS: [(&str, &str); 4] =
    [("start", START), ("grants", GRANTS), ("exit-codes", EXIT_CODES), ("environment", ENVIRONMENT)];

/// The command with its grouped page: clap's own list is flat.
pub fn grouped(command: clap::Command) -> clap::Command {
    let options = command.clone().help_template("{options}").render_help().to_string();
    command
        .help_template("{about-with-newline}{usage-heading} {usage}{after-help}")
        .after_help(GROUPS)
        .after_long_help(format!("{GROUPS}\n\n{}\n\n{AFTERWARDS}", options.trim_end()))
}

impl Help {
    /// Prints it.
    pub fn run(self, screen: &mut Screen) -> Result<(), Stop> {
        if let [topic] = self.topic.as_slice()
            && let Some((_, text)) = TOPICS.iter().find(|(name, _)| name == topic)
        {
            return screen.result_line(*text);
        }
        let mut command = super::command();
        command.build();
        for word in &self.topic {
            let Some(sub) = command.find_subcommand(word).cloned() else {
                let message = format!("there is no command or topic {:?}", self.topic.join(" "));
                return Err(CommandError::new(ErrorCode::NotFound, message).or_try(hints::help()).into());
            };
            command = sub;
        }
        screen.result_line(command.render_long_help().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{
        command, parse,
        screen::{Style, tests::captured},
        words,
    };

    #[test]
    fn the_groups_name_every_command_once() {
        let groups = GROUPS.split("\n\n").next().unwrap();
        let named: Vec<&str> = groups.lines().flat_map(|line| line[19..].split_whitespace()).collect();
        let command = command();
        let mut verbs: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        let mut sorted = named.clone();
        verbs.sort_unstable();
        sorted.sort_unstable();
        assert_eq!(sorted, verbs);
    }

    #[test]
    fn long_help_has_options_and_exit_codes_and_short_help_stops_before() {
        let long = command().render_long_help().to_string();
        for expected in ["Usage: msm", "Start here", "--json", "--home", "Exit codes", "MSM_HOME"] {
            assert!(long.contains(expected), "{expected}: {long}");
        }
        let short = command().render_help().to_string();
        assert!(short.contains("Start here") && !short.contains("--json"), "{short}");
    }

    #[test]
    fn topics_and_commands_are_explained() {
        for (topic, expected) in
            [("exit-codes", "verification failed"), ("market add", "Usage: msm market add"), ("", "Start here")]
        {
            let (mut screen, out, _) = captured(Style::default());
            let topic = topic.split_whitespace().map(str::to_owned).collect();
            assert!(Help { topic }.run(&mut screen).is_ok());
            assert!(out.text().contains(expected), "{}", out.text());
        }
        let (mut screen, ..) = captured(Style::default());
        let stop = Help { topic: vec!["nonsense".into()] }.run(&mut screen).unwrap_err();
        assert_eq!(screen.stop(stop), 9);
    }

    #[test]
    fn the_first_steps_parse() {
        for line in START.lines().chain(GRANTS.lines()).filter(|line| line.trim_start().starts_with("msm ")) {
            let line = line.split("  #").next().unwrap();
            parse(&words::split(line).unwrap()[1..]).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }
}

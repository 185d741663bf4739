//! `snapmerge help`, `completions` and `man`: what there is to read, made from the command line itself
//! and from the manual.

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::roff::{Roff, roman};

use super::Cli;
use crate::base::durable;
use crate::base::error::{Error, Result};
use crate::commands::print;
use crate::manual::{PAGES, Page};

/// Arguments of `help`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  snapmerge help
  snapmerge help disaster
  snapmerge help archive forget")]
pub struct HelpArgs {
    /// A topic of the manual, or a verb; without one the topics are listed
    #[arg(value_name = "TOPIC")]
    pub topic: Vec<String>,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  snapmerge completions bash > /usr/share/bash-completion/completions/snapmerge
  snapmerge completions zsh > ~/.zfunc/_snapmerge
  snapmerge completions fish > ~/.config/fish/completions/snapmerge.fish")]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  snapmerge man /usr/local/share/man

The folder gets man1 (a page a verb) and man7 (a page a topic: man snapmerge-disaster).")]
pub struct ManArgs {
    /// The folder to write them into, as man pages are searched; made if it is missing
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}

/// Shows a page of the manual, the help of a verb, or the list of topics.
pub fn help(args: &HelpArgs) -> Result<()> {
    let [topic, ..] = args.topic.as_slice() else {
        return print(&topics());
    };
    if let (Some(page), 1) = (Page::of(topic), args.topic.len()) {
        return print(&page.plain());
    }
    print(&verb(&args.topic)?)
}

/// The topics, each with its title.
fn topics() -> String {
    let mut text = String::from("Topics of the manual:\n");
    for page in PAGES {
        text.push_str(&format!("  {:<16} {}\n", page.topic, page.title()));
    }
    text.push_str(
        "\n`snapmerge help TOPIC` shows one, `snapmerge VERB --help` the options of a verb:\n",
    );
    for verb in Cli::command().get_subcommands() {
        let about = verb.get_about().map(ToString::to_string);
        let about = about.unwrap_or_default();
        text.push_str(&format!("  {:<16} {about}\n", verb.get_name()));
    }
    text
}

/// The help of a verb, `["archive", "add"]`.
fn verb(path: &[String]) -> Result<String> {
    let mut command = Cli::command();
    command.build();
    let mut verb = &mut command;
    for name in path {
        verb = verb.find_subcommand_mut(name).ok_or_else(|| {
            Error::usage(
                format!("looking for help on {}", path.join(" ")),
                format!("{name} is neither a topic nor a verb"),
            )
            .next("`snapmerge help` lists them")
        })?;
    }
    Ok(verb.render_long_help().to_string())
}

/// Prints the completions of a shell.
pub fn completions(args: &CompletionsArgs) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "snapmerge", &mut text);
    print(&String::from_utf8_lossy(&text))
}

/// Writes the man pages.
pub fn man(args: &ManArgs) -> Result<()> {
    let (verbs, topics) = (args.folder.join("man1"), args.folder.join("man7"));
    for folder in [&verbs, &topics] {
        durable::make_folder(folder)?;
    }
    let mut command = Cli::command();
    command.build();
    write_verb(command, &verbs)?;
    for page in PAGES {
        let file = topics.join(format!("snapmerge-{}.7", page.topic));
        durable::write(&file, topic(page).as_bytes(), true)?;
    }
    Ok(())
}

/// A verb as `snapmerge-VERB.1`, and those below it.
fn write_verb(verb: clap::Command, folder: &Path) -> Result<()> {
    let below: Vec<clap::Command> = verb.get_subcommands().cloned().collect();
    let page = clap_mangen::Man::new(verb);
    let file = folder.join(page.get_filename());
    let mut text = Vec::new();
    page.render(&mut text)
        .map_err(|err| Error::io("writing", &file, &err))?;
    durable::write(&file, &text, true)?;
    below
        .into_iter()
        .try_for_each(|verb| write_verb(verb, folder))
}

/// A topic as a man page: its text as a terminal shows it.
fn topic(page: &Page) -> String {
    let name = format!("snapmerge-{}", page.topic);
    let mut roff = Roff::new();
    roff.control("TH", [name.as_str(), "7"]);
    roff.control("SH", ["NAME"]);
    roff.text([roman(format!("{name} - {}", page.title()))]);
    roff.control("SH", ["DESCRIPTION"]);
    roff.control("nf", []);
    for line in page.plain().lines().skip(1) {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
    roff.render()
}

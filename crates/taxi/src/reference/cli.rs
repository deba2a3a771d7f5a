//! `docs/cli.md`: every command, as the program itself explains it.

use clap::{Arg, Command, CommandFactory as _};

use super::markdown::{Page, code};
use crate::Cli;

/// What the exit codes are, and where they are made.
const EXIT: &str = include_str!("../exit.rs");
/// What holds for all commands.
const INTRODUCTION: &str = include_str!("cli.md");

/// The reference of all commands.
pub(super) fn page() -> Page {
    let mut page = Page::new("cli.md", "the help of `taxi` and cli.md");
    page.add(INTRODUCTION);
    let mut taxi = Cli::command();
    taxi.build();
    let row = |command: &&Command| [link(command, "taxi"), about(command)];
    let rows: Vec<[String; 2]> = subcommands(&taxi).iter().map(row).collect();
    page.table(["command", "does"], &rows);
    page.add("## Options of all commands");
    options(&mut page, &taxi, |arg| {
        arg.is_global_set() || ["help", "version"].contains(&arg.get_id().as_str())
    });
    page.add("## Exit codes");
    page.add(exit_codes());
    for command in subcommands(&taxi) {
        section(&mut page, command, "taxi", "##");
    }
    page
}

fn section(page: &mut Page, command: &Command, parent: &str, level: &str) {
    let name = format!("{parent} {}", command.get_name());
    page.add(format!("{level} {name}"));
    let long = command.get_long_about().or(command.get_about()).map(ToString::to_string);
    page.add(sentence(&long.unwrap_or_else(|| panic!("{name}: what does it do?"))));
    let usage = command.clone().render_usage().to_string();
    page.block("text", usage.trim_start_matches("Usage: "));
    options(page, command, |arg| {
        !arg.is_global_set() && !["help", "version"].contains(&arg.get_id().as_str())
    });
    if let Some(examples) = command.get_after_help() {
        let examples = examples.to_string();
        // Without the title, and without the space that sets them off from it.
        let lines = examples.lines().skip(1).map(|line| line.strip_prefix("  ").unwrap_or(line));
        page.add("Examples:");
        page.block("text", &lines.collect::<Vec<_>>().join("\n"));
    }
    for command in subcommands(command) {
        section(page, command, &name, "###");
    }
}

fn subcommands(command: &Command) -> Vec<&Command> {
    let shown = |it: &&Command| !it.is_hide_set() && it.get_name() != "help";
    command.get_subcommands().filter(shown).collect()
}

fn link(command: &Command, parent: &str) -> String {
    let name = format!("{parent} {}", command.get_name());
    format!("[`{name}`](#{})", super::markdown::anchor(&name))
}

/// The table of arguments and options: what may be left out is so by its usage.
fn options(page: &mut Page, command: &Command, shown: impl Fn(&Arg) -> bool) {
    let mut args: Vec<&Arg> = command.get_arguments().filter(|arg| shown(arg)).collect();
    args.retain(|arg| !arg.is_hide_set());
    // Arguments before options, as in the usage.
    args.sort_by_key(|arg| !arg.is_positional());
    let row = |arg: &&Arg| [written(arg), default(arg), meaning(command, arg)];
    let rows: Vec<[String; 3]> = args.iter().map(row).collect();
    page.table(["argument or option", "default", "meaning"], &rows);
}

/// An argument as it is typed.
fn written(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    let names: Vec<String> = names.iter().map(|name| format!("<{name}>")).collect();
    let value = if arg.get_action().takes_values() { names.join(" ") } else { String::new() };
    let several = arg.get_num_args().is_some_and(|count| count.max_values() > 1);
    if arg.is_positional() {
        return code(&format!("{value}{}", if several { "..." } else { "" }));
    }
    let short = arg.get_short().map(|short| format!("-{short}"));
    let long = arg.get_long().map(|long| format!("--{long}"));
    let flags: Vec<String> = [short, long].into_iter().flatten().collect();
    code(format!("{} {value}", flags.join(", ")).trim())
}

fn default(arg: &Arg) -> String {
    let takes = arg.get_action().takes_values() && !arg.is_hide_default_value_set();
    let defaults = arg.get_default_values().iter().filter(|_| takes);
    let defaults: Vec<String> =
        defaults.filter(|it| !it.is_empty()).map(|it| code(&it.to_string_lossy())).collect();
    defaults.join(", ")
}

fn meaning(command: &Command, arg: &Arg) -> String {
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string);
    let missing = || panic!("{} {}: what does it mean?", command.get_name(), arg.get_id());
    let mut meaning = sentence(&help.unwrap_or_else(missing));
    if let Some(variable) = arg.get_env() {
        meaning += &format!(" Also {}.", code(&variable.to_string_lossy()));
    }
    let values: Vec<_> = arg.get_possible_values();
    if arg.is_hide_possible_values_set() || !arg.get_action().takes_values() {
        return meaning;
    }
    for value in &values {
        if let Some(help) = value.get_help() {
            meaning += &format!("<br>{}: {}", code(value.get_name()), sentence(&help.to_string()));
        }
    }
    if values.iter().any(|value| value.get_help().is_none()) {
        let values: Vec<String> = values.iter().map(|value| code(value.get_name())).collect();
        meaning += &format!(" One of {}.", values.join(", "));
    }
    meaning
}

fn about(command: &Command) -> String {
    sentence(&command.get_about().map(ToString::to_string).unwrap_or_default())
}

/// Clap takes the full stop off.
fn sentence(text: &str) -> String {
    let text = text.trim().trim_end_matches('.');
    format!("{text}.")
}

/// The table on top of `exit.rs`.
fn exit_codes() -> String {
    let lines = EXIT.lines().filter_map(|line| line.strip_prefix("//! |"));
    lines.map(|line| format!("|{line}\n")).collect()
}

#[test]
fn every_exit_code_is_in_the_table() {
    let codes =
        EXIT.split("Exit::new(").skip(1).filter_map(|rest| rest.split_once(',')?.0.parse().ok());
    let codes: Vec<u8> = codes.collect();
    assert!(codes.contains(&78), "{codes:?}");
    for code in codes {
        assert!(exit_codes().contains(&format!("| {code} |")), "{code}");
    }
}

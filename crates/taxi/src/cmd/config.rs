//! `taxi config`: the values that are in force, and where each came from.

use serde::Serialize;

use crate::Global;
use crate::config::Source;
use crate::exit::Exit;

/// Print the effective configuration; secrets are masked.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    source: Source,
}

#[derive(Debug, Serialize)]
struct Row {
    key: String,
    value: String,
    source: String,
}

/// Prints it.
pub(crate) fn run(args: Args, global: &Global) -> Result<(), Exit> {
    let loaded = args.source.load()?;
    let sources = loaded.sources().into_iter();
    let rows: Vec<Row> = sources.map(|(key, value, source)| Row { key, value, source }).collect();
    global.output.list(["key", "value", "source"], &rows, |row| {
        [row.key.clone(), row.value.clone(), row.source.clone()]
    })
}

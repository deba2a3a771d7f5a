//! `taxi migrate`: brings databases up to date, before the new version serves.

use kernel::Failure;
use platform::db::{Db, failure};
use serde::Serialize;

use crate::Global;
use crate::config::{Settings, Source};
use crate::contexts::Name;
use crate::exit::Exit;
use crate::mesh;

/// Bring the databases of contexts up to date.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    source: Source,
    /// Which contexts; all when none is named.
    #[arg(hide_possible_values = true)]
    contexts: Vec<Name>,
}

#[derive(Debug, Serialize)]
struct Row {
    context: &'static str,
    applied: Vec<String>,
}

/// Migrates, and says what was done.
pub(crate) async fn run(args: Args, global: &Global) -> Result<(), Exit> {
    let settings = args.source.load()?.value;
    let contexts = match args.contexts.as_slice() {
        [] => Name::ALL.as_slice(),
        named => named,
    };
    let mut rows = Vec::new();
    for context in contexts.iter().filter(|it| it.database(&settings.database).is_some()) {
        let applied = migrate(*context, &settings).await?;
        rows.push(Row { context: context.as_str(), applied });
    }
    global.output.list(["context", "applied"], &rows, |row| {
        let applied = match row.applied.as_slice() {
            [] => "up to date".to_owned(),
            applied => applied.join(", "),
        };
        [row.context.to_owned(), applied]
    })
}

/// Brings the database of one context up to date; says which migrations were applied.
pub(crate) async fn migrate(context: Name, settings: &Settings) -> Result<Vec<String>, Exit> {
    let db: Db = mesh::open(context, settings).await?;
    context.migrate(&db).await.map_err(|error| {
        let words = error.to_string();
        match failure(error) {
            Failure::Unavailable(_) => {
                Exit::unavailable(format!("the database of {context} does not answer: {words}"))
            }
            _ => Exit::failed(format!("the database of {context} cannot be migrated: {words}")),
        }
    })
}

//! `taxi rebuild`: is a view what its events make of it, and if not, it becomes so.
//!
//! Everything goes on meanwhile. How it works is written in [`platform::rebuild`].

use platform::clock::SystemClock;
use platform::rebuild::{Difference, RebuildError, Report};

use crate::Global;
use crate::config::Source;
use crate::contexts::{Name, View};
use crate::exit::Exit;
use crate::operator::{Addresses, database_failed};
use crate::output::aligned;

const EXAMPLE: &str = "\
Examples:
  taxi rebuild dashboard            what differs, without changing anything
  taxi rebuild dashboard --apply    and put it right; readers and writers go on";

/// Compare a view with what its events make of it, and replace what differs.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct Args {
    #[command(flatten)]
    source: Source,
    /// Whose view.
    #[arg(value_name = "CONTEXT")]
    view: View,
    /// Replace the rows that differ.
    #[arg(long)]
    apply: bool,
}

/// Compares, and says what was found and done.
pub(crate) async fn run(args: Args, global: &Global) -> Result<(), Exit> {
    let context = args.view.name();
    let addresses = Addresses::load(&args.source, global)?;
    let config = addresses.database_config(context)?;
    let broker = addresses.broker().await?;
    let db = addresses.database(context).await?;
    let rebuilt = args.view.rebuild(&broker, &db, &config, &SystemClock, args.apply).await;
    let report = rebuilt.map_err(|error| failed(context, error))?;
    global.output.item(text(&report).trim_end(), &report)?;
    match (report.wrong(), report.replaced) {
        (0, _) | (_, Some(_)) => Ok(()),
        (wrong, None) => Err(Exit::failed(format!(
            "the view is not what its events make of it (wrong rows: {wrong}): `taxi rebuild \
             {context} --apply` puts it right"
        ))),
    }
}

fn failed(context: Name, error: RebuildError) -> Exit {
    match error {
        RebuildError::Failed(failure) => database_failed(context, failure),
        RebuildError::Broker(why) => {
            Exit::unavailable(format!("the broker does not answer any more: {why}"))
        }
        RebuildError::Refused(why) => Exit::failed(why),
    }
}

/// The report for people.
fn text(report: &Report) -> String {
    let mut text = format!("{} events make {} rows.\n\n", report.events, report.rows);
    let always = [
        ("differing", report.differing, "rows say something else"),
        ("missing", report.missing, "rows are not there"),
        ("superfluous", report.superfluous, "rows should not be there"),
    ];
    let if_any = [
        ("replaced", report.replaced.unwrap_or(0), "rows were put right"),
        ("parked", report.parked, "events wait for an operator, and were left out"),
        ("unfoldable", report.unfoldable, "other events cannot be folded by this version"),
        ("gaps", report.gaps, "times the stream has lost an event of a history"),
    ];
    let counts = always.into_iter().chain(if_any.into_iter().filter(|(_, count, _)| *count > 0));
    let counts: Vec<_> = counts
        .map(|(what, count, means)| [what.to_owned(), count.to_string(), means.to_owned()])
        .collect();
    text.push_str(&aligned(&counts));
    if !report.differences.is_empty() {
        let mut rows = vec![["ROW", "COLUMN", "NOW", "REBUILT"].map(str::to_owned)];
        rows.extend(report.differences.iter().map(row));
        text.push('\n');
        text.push_str(&aligned(&rows));
    }
    text
}

fn row(difference: &Difference) -> [String; 4] {
    let column = difference.column.unwrap_or("-").to_owned();
    let [now, rebuilt] = shortened([&difference.now, &difference.rebuilt]);
    [difference.row.to_string(), column, now, rebuilt]
}

/// Two values that differ, cut to a part where they do.
fn shortened(values: [&str; 2]) -> [String; 2] {
    const WIDTH: usize = 40;
    const BEFORE: usize = 8;
    if values.iter().all(|value| value.chars().count() <= WIDTH) {
        return values.map(str::to_owned);
    }
    let same = values[0].chars().zip(values[1].chars()).take_while(|(now, then)| now == then);
    let start = same.count().saturating_sub(BEFORE);
    values.map(|value| {
        let part: String = value.chars().skip(start).take(WIDTH).collect();
        let cut = |at_this_end| if at_this_end { "…" } else { "" };
        let end = value.chars().count() > start + WIDTH;
        format!("{}{part}{}", cut(start > 0), cut(end))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut_to_where_they_differ() {
        assert_eq!(shortened(["7", "null"]), ["7", "null"]);
        let text = |last: &str| format!("{}{last}", "0123456789".repeat(6));
        let values = [text("right"), text("wrong, as anybody who looks at it can see")];
        assert_eq!(
            shortened([&values[0], &values[1]]),
            ["…23456789right", "…23456789wrong, as anybody who looks at i…"]
        );
        assert_eq!(shortened(["", &values[0]])[1], format!("{}…", &values[0][..40]));
    }
}

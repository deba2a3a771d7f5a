//! What a projection costs that folds one event in one transaction, for pgbench.

use crate::Result;
use crate::tables::{Row, Tables};

/// The statements of `Projection::fold` for one event, as sea-orm writes them. The ride is there
/// already and has all its events behind it; its columns are those of a view that was folded. Each
/// connection has a shard of its own.
pub(crate) fn script(ride: &Row, rides: usize) -> String {
    let names = names(ride);
    let others = ride.iter().map(|(name, _)| name).filter(|name| *name != "id");
    let update: Vec<String> = others.map(|name| format!("{name} = excluded.{name}")).collect();
    format!(
        r"\set n random(1, {rides})
\set s random(1, 1000000000000000)
BEGIN;
UPDATE checkpoint SET sequence = sequence + 1 WHERE consumer = 'pgbench' AND shard = :client_id;
SELECT {names} FROM driving_info WHERE id IN ({id});
INSERT INTO driving_info ({names}) VALUES ({values}) ON CONFLICT (id) DO UPDATE SET {update};
COMMIT;
",
        id = id(":n"),
        values = values(ride, ":n", ":s"),
        update = update.join(", "),
    )
}

/// Fills the view with so many rides, and makes checkpoints of so many shards.
pub(crate) async fn fill(tables: &Tables, ride: &Row, rides: usize, shards: u32) -> Result<()> {
    let (names, values) = (names(ride), values(ride, "n", "n"));
    let filled = format!(
        "INSERT INTO driving_info ({names}) SELECT {values} FROM generate_series(1, {rides}) AS n"
    );
    let checkpoints = format!(
        "INSERT INTO checkpoint (consumer, shard, sequence, complete_at)
        SELECT 'pgbench', shard, 0, 0 FROM generate_series(0, {shards} - 1) AS shard"
    );
    tables.run(&filled).await?;
    tables.run(&checkpoints).await?;
    tables.run("VACUUM ANALYZE").await
}

fn names(ride: &Row) -> String {
    ride.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
}

/// The ride again, as the n-th and with another place in the stream. pgbench sees a variable in
/// every colon before a word, in a string too.
fn values(ride: &Row, n: &str, sequence: &str) -> String {
    let value = |(name, literal): &(String, String)| match name.as_str() {
        "id" => id(n),
        "sequence" => sequence.to_owned(),
        _ => literal.replace("\":", "\": "),
    };
    ride.iter().map(value).collect::<Vec<_>>().join(", ")
}

/// The id of the n-th ride.
fn id(n: &str) -> String {
    format!("('00000000-0000-7000-8000-' || lpad(to_hex({n}::bigint), 12, '0'))::uuid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_one_statement_a_line_and_no_variables_but_its_own() {
        let column = |name: &str, literal: &str| (name.to_owned(), literal.to_owned());
        let ride = vec![
            column("id", "'7'"),
            column("timeline", r#"'[{"event":"DrivingOpened","time":7}]'"#),
            column("sequence", "'7'"),
        ];
        let script = script(&ride, 10);
        let statements: Vec<&str> = script.lines().skip(2).collect();
        assert!(statements.iter().all(|line| line.ends_with(';')), "{script}");
        assert_eq!(statements.len(), 5);
        let variables = script.replace("::", "").replace(": ", "");
        let variables: Vec<&str> = variables.split(':').skip(1).collect();
        assert!(
            variables
                .iter()
                .all(|it| ["n", "s", "client_id"].iter().any(|name| it.starts_with(name))),
            "{variables:?}"
        );
        assert!(script.contains("SET timeline = excluded.timeline, sequence = excluded.sequence;"));
    }
}

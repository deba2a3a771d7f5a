//! `taxi list`: the methods that the running mesh offers, found by reflection.

use serde::Serialize;

use crate::Global;
use crate::exit::Exit;
use crate::reflection::{Catalogue, rest};

#[derive(Debug, Serialize)]
struct Row {
    context: String,
    service: String,
    method: String,
    rest: Option<String>,
}

/// Lists them.
pub(crate) async fn run(global: &Global) -> Result<(), Exit> {
    let ready = global.mesh()?;
    let catalogue = Catalogue::of(&ready).await?;
    let rows: Vec<Row> = catalogue
        .offers()
        .iter()
        .flat_map(|offer| {
            offer.descriptor.methods().map(|method| Row {
                context: offer.context.clone(),
                service: offer.descriptor.full_name().to_owned(),
                method: method.name().to_owned(),
                rest: rest(&method),
            })
        })
        .collect();
    global.output.list(["context", "service", "method", "rest"], &rows, |row| {
        let rest = row.rest.clone().unwrap_or_else(|| "-".to_owned());
        [row.context.clone(), row.service.clone(), row.method.clone(), rest]
    })
}

//! What `taxi dev` says when everything answers: addresses, and what to try first.

use std::path::Path;
use std::time::Duration;

use crate::contexts::Name;
use crate::output::aligned;
use crate::ready::{self, Ready};

/// The text.
pub(super) fn text(ready: &Ready, ready_file: &Path, took: Duration, ephemeral: bool) -> String {
    let mut rows = Vec::new();
    let mut row = |name: &str, address: &str, what: &str| {
        rows.push([format!("  {name}"), address.to_owned(), what.to_owned()]);
    };
    let or_none = |address: &Option<String>| address.clone().unwrap_or_default();
    row(
        "gateway",
        &or_none(&ready.gateway),
        "REST, gRPC and gRPC-Web of all contexts, /docs, /metrics",
    );
    for context in Name::ALL {
        let address = ready.grpc.get(context.as_str()).map_or("", String::as_str);
        row(context.as_str(), address, "gRPC with reflection and health");
    }
    row("provider", &or_none(&ready.provider), "simulated payments: /v1/charges, /v1/faults");
    row("nats", &or_none(&ready.nats), "events");
    let kept = if ephemeral { "removed at the end" } else { "kept" };
    let data = ready.data.as_deref().unwrap_or(Path::new("")).display().to_string();
    row("data", &data, kept);

    let found = match ready_file == Path::new(ready::DEFAULT) {
        true => String::new(),
        false => format!(" --ready-file {}", ready_file.display()),
    };
    format!(
        "taxi is ready after {:.1} s; Ctrl-C stops it.\n\n{}\nTry:\n  \
         taxi list{found}\n  \
         taxi fault ls{found}\n  \
         taxi call allocation RequestAllocation \\\n    \
         '{{\"allocation\": {{\"destination\": {{\"address\": \"Misa\"}}}}}}' \\\n    \
         --role customer --sub C1{found}\n",
        took.as_secs_f64(),
        aligned(&rows),
    )
}

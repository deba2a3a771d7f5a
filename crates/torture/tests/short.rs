//! A short run with every kind of fault. Long ones are for people: see the crate's `main.rs`.

use std::path::Path;
use std::process::Command;

#[test]
fn every_invariant_holds_under_every_fault() {
    let torture = Path::new(env!("CARGO_BIN_EXE_torture"));
    let taxi = torture.with_file_name("taxi");
    let mut command = Command::new(torture);
    command.args(["--seed", "3", "--duration", "18s", "--faults", "all"]);
    command.args(["--riders", "8", "--drivers", "6"]);
    // Built alone, this crate has no program beside it yet, and torture builds one.
    if taxi.is_file() {
        command.arg("--binary").arg(taxi);
    }
    let run = command.output().expect("torture starts");
    let [report, progress] = [&run.stdout, &run.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(run.status.success(), "{}:\n{progress}\n{report}", run.status);
}

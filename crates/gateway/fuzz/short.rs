//! A short run of the fuzzer with each test run: always the same requests.

#[path = "mod.rs"]
mod fuzz;

use fuzz::attack::Attack;

const STEPS: usize = 4000;

#[test]
fn a_short_attack_finds_nothing() {
    let mut attack = Attack::new(7);
    for _ in 0..STEPS {
        attack.step();
    }
    let report = attack.report();
    println!("{} requests, {} taken", report.tries, report.taken);
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    // An attack that never gets in shows nothing.
    assert!(report.taken > report.tries / 5, "{report:?}");
    assert!(report.refused > report.tries / 5, "{report:?}");
}

//! A deployment: everything runs twice, and all of it is restarted in turn while a city lives there.
//! Nobody has a call that fails.

use crate::TAXI;
use crate::double::Double;
use crate::lived::Lived;

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_costs_no_call() {
    let mut double = Double::start(TAXI).await;
    let size = ["--rides", "150", "--riders", "40", "--drivers", "30", "--slack", "3"];
    let arguments = ["demo", "--assert", "--seed", "7", "--time-scale", "60", "-o", "json"];
    let terminal = double.terminal();
    let demo = terminal.taxi(&[&arguments[..], &size].concat());
    let demo = tokio::spawn(Lived::through(demo));
    let all = double.size();
    let mut restarts = 0;
    while !demo.is_finished() {
        double.restart(restarts % all).await;
        restarts += 1;
    }
    let lived = demo.await.expect("all rides are as they must be");
    let report = &lived.report;
    println!(
        "{} rides in {} s, {} calls, {} of them failed; {restarts} restarts of {all} processes",
        report["rides"]["finished"], report["seconds"], report["calls"], report["calls_failed"],
    );
    lived.lost_no_call();
    assert!(restarts >= all, "the city was done before everything had been restarted");
}

use super::*;
use crate::check::assert::{breaks, breaks_by, holds};
use crate::event::events;

/// Two replicas, each in the belief that the shard is its own.
fn two_replicas(lines: Lines) -> Projection {
    Projection {
        events: events("A1 B1 A2"),
        replicas: 2,
        deaths: 1,
        lines,
        ..Projection::default()
    }
}

/// The first event cannot be folded before the program is mended.
fn with_poison(lines: Lines) -> Projection {
    Projection { poison: events("A1").pop(), ..two_replicas(lines) }
}

/// A broker that loses the end of its stream.
fn with_a_power_failure(lines: Lines) -> Projection {
    Projection {
        events: events("A1 B1 C1"),
        replicas: 1,
        power_failures: 1,
        lines,
        ..Projection::default()
    }
}

/// The platform knows nothing of the view: even one that counts must come out right.
fn blindly() -> Lines {
    Lines { fold: Fold::Blindly, ..Lines::default() }
}

#[test]
fn the_view_is_the_fold_of_a_prefix_whoever_folds() {
    holds("two replicas", two_replicas(blindly()), 500);
    holds("two replicas, poison", with_poison(blindly()), 2_000);
}

#[test]
fn the_view_catches_up_when_the_broker_has_lost_the_end_of_its_stream() {
    let lines = Lines::default();
    holds("a power failure", with_a_power_failure(lines), 3_000);
    let two_replicas = Projection { replicas: 2, ..with_a_power_failure(lines) };
    holds("two replicas, a power failure", two_replicas, 3_000);
    // What it contains comes again, and a view that folds it again is wrong.
    breaks("a power failure, blindly", with_a_power_failure(blindly()), &[IN_ORDER_AND_ONCE]);
}

#[test]
fn without_the_comparison_a_zombie_folds_again_what_is_folded() {
    let lines = Lines { checkpoint: Checkpoint::NotCompared, ..blindly() };
    let all = [VIEW_IS_A_PREFIX, IN_ORDER_AND_ONCE, CATCHES_UP];
    breaks("not compared", two_replicas(lines), &all);
    breaks_by(
        two_replicas(lines),
        IN_ORDER_AND_ONCE,
        &[
            "replica 0 opens a session",
            "replica 1 opens a session",
            "A1 gets into the stream",
            "replica 0 reads up to place 1",
            "replica 0 begins to fold",
            "replica 0 commits",
            "replica 1 reads up to place 1",
            "replica 1 begins to fold",
            "replica 1 commits",
        ],
    );
}

#[test]
fn without_the_comparison_a_zombie_overwrites_what_it_has_not_seen() {
    let lines = Lines { checkpoint: Checkpoint::NotCompared, ..Lines::default() };
    let all = [VIEW_IS_A_PREFIX, IN_ORDER_AND_ONCE, CATCHES_UP];
    breaks("not compared, by version", two_replicas(lines), &all);
    breaks_by(
        two_replicas(lines),
        IN_ORDER_AND_ONCE,
        &[
            "replica 0 opens a session",
            "replica 1 opens a session",
            "B1 gets into the stream",
            "replica 0 reads up to place 1",
            "replica 0 begins to fold",
            "A1 gets into the stream",
            "replica 1 reads up to place 2",
            "replica 1 begins to fold",
            "replica 1 commits",
            "replica 0 commits",
            "A2 gets into the stream",
            "replica 1 reads up to place 3",
            "replica 1 begins to fold",
            "replica 1 commits",
        ],
    );
}

#[test]
fn a_checkpoint_outside_of_the_views_transaction_is_wrong_meanwhile() {
    let lines = Lines { checkpoint: Checkpoint::InItsOwnTransaction, ..blindly() };
    let one_replica = Projection { replicas: 1, ..two_replicas(lines) };
    breaks("apart", one_replica.clone(), &[VIEW_IS_A_PREFIX, IN_ORDER_AND_ONCE]);
    breaks_by(
        one_replica,
        IN_ORDER_AND_ONCE,
        &[
            "replica 0 opens a session",
            "A1 gets into the stream",
            "replica 0 reads up to place 1",
            "replica 0 begins to fold",
            "replica 0 commits",
            "replica 0 dies",
            "replica 0 opens a session",
            "replica 0 reads up to place 1",
            "replica 0 begins to fold",
            "replica 0 commits",
        ],
    );
}

#[test]
fn the_comparison_comes_first_for_the_sake_of_another_try() {
    let lines = Lines { checkpoint: Checkpoint::ComparedLast, ..blindly() };
    holds("compared last", two_replicas(lines), 500);
    let all = [VIEW_IS_A_PREFIX, IN_ORDER_AND_ONCE, CATCHES_UP];
    breaks("compared last, poison", with_poison(lines), &all);
}

#[test]
fn another_try_without_the_fence_overwrites_what_it_has_not_seen() {
    let lines = Lines { retry: Retry::Unfenced, ..Lines::default() };
    let all = [VIEW_IS_A_PREFIX, IN_ORDER_AND_ONCE, CATCHES_UP];
    breaks("another try, unfenced", with_poison(lines), &all);
    breaks_by(
        with_poison(lines),
        VIEW_IS_A_PREFIX,
        &[
            "replica 0 opens a session",
            "replica 1 opens a session",
            "A1 gets into the stream",
            "replica 0 reads up to place 1",
            "replica 0 begins to fold",
            "replica 0 commits",
            "the program is mended",
            "replica 1 begins to fold A1 after all",
            "B1 gets into the stream",
            "replica 0 reads up to place 2",
            "replica 0 begins to fold",
            "replica 0 commits",
            "replica 1 commits",
        ],
    );
}

#[test]
fn a_number_is_not_a_place_when_the_broker_has_lost_the_end_of_its_stream() {
    for place in [Place::Number, Place::NumberWithinTheStream, Place::NumberAndEvent] {
        let lines = Lines { place, ..Lines::default() };
        breaks(&format!("{place:?}"), with_a_power_failure(lines), &[CATCHES_UP]);
    }
    let lines = Lines { place: Place::Number, ..Lines::default() };
    breaks_by(
        with_a_power_failure(lines),
        CATCHES_UP,
        &[
            "replica 0 opens a session",
            "A1 gets into the stream",
            "replica 0 reads up to place 1",
            "replica 0 begins to fold",
            "replica 0 commits",
            "the power fails: 0 events are left",
            "B1 gets into the stream",
        ],
    );
    let lines = Lines { place: Place::NumberAndEvent, ..Lines::default() };
    breaks_by(
        with_a_power_failure(lines),
        CATCHES_UP,
        &[
            "replica 0 opens a session",
            "A1 gets into the stream",
            "B1 gets into the stream",
            "replica 0 reads up to place 2",
            "replica 0 begins to fold",
            "replica 0 commits",
            "the power fails: 0 events are left",
            "C1 gets into the stream",
            "B1 gets into the stream",
        ],
    );
}

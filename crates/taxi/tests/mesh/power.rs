//! A broker that loses power loses what its disk did not have yet. It comes back with an older end of
//! the stream, and gives the places of what is lost to what comes next.

use std::collections::BTreeSet;
use std::path::Path;

use proto::allocation::v1::allocation::State;
use rstest::rstest;
use testkit::eventually;

use crate::operator::{Events, Operator};
use crate::outbox::{EVENTS, histories, ride};
use crate::people::{Customer, Driver, SOON, serve};

#[rstest]
#[case::in_its_own_places(false)]
#[case::in_the_places_of_what_came_next(true)]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_broker_lost_with_its_power_is_restored_once(#[case] goes_on: bool) {
    let mut mesh = serve().await;
    let (store, saved) = (mesh.ready().data.join("nats"), mesh.ready().data.join("nats-saved"));
    let mut customers = Vec::new();
    for subject in ["C1", "C2", "C3", "C4", "C5"] {
        customers.push(Customer::new(&mesh, subject).await);
    }
    let [first, second, third, fourth, fifth] = &mut customers[..] else { panic!("five") };
    ride(&mesh, first).await;
    let begun = fifth.request().await;
    Driver::new(&mesh, "D1").await.finds(&begun.name).await;
    Events::of(&mesh).await.complete(EVENTS + BEGUN).await;
    mesh.kill_nats().await;
    copy(&store, &saved);
    mesh.start_nats().await;
    let lost = ride(&mesh, second).await;
    ride(&mesh, fourth).await;
    fifth.cancel(&begun.name).await.expect("nobody has accepted");
    fifth.sees(&begun.name, State::Cancelled).await;
    Events::of(&mesh).await.complete(3 * EVENTS + BEGUN + ENDED).await;
    let operator = Operator::of(&mesh);
    is_the_fold(&operator).await;

    mesh.kill_nats().await;
    std::fs::remove_dir_all(&store).expect("removed");
    std::fs::rename(&saved, &store).expect("an older store");
    mesh.start_nats().await;
    if goes_on {
        ride(&mesh, third).await;
    }

    let events = Events::of(&mesh).await;
    let left = EVENTS * (1 + usize::from(goes_on)) + BEGUN;
    assert_eq!(events.all().await.len(), left);
    operator.list(&["outbox", "republish", "--since", "1h", "--apply"]).await;
    let all = events.complete(left + 2 * EVENTS + ENDED).await;
    let ids: BTreeSet<&str> = all.iter().map(|event| &*event.id).collect();
    assert_eq!(ids.len(), all.len(), "each once: {all:?}");
    for (aggregate, history) in histories(&all) {
        let versions: Vec<i64> = history.iter().map(|(version, _)| *version).collect();
        assert_eq!(versions, (1..).take(versions.len()).collect::<Vec<_>>(), "{aggregate}");
    }
    // The messages were in the broker's store, too.
    eventually(SOON, || async {
        let told = second.messages().await.len();
        if told == 5 { Ok(()) } else { Err(told) }
    })
    .await;
    let info = second.info(&lost.name.replace("drivingInfos/", "allocations/"), "").await;
    assert_eq!(info.timeline, lost.timeline);
    is_the_fold(&operator).await;
}

/// How many events a request is until it is open, and its cancel.
const BEGUN: usize = 2;
const ENDED: usize = 3;

/// Waits until the view is what the stream makes of it, to the last column.
async fn is_the_fold(operator: &Operator) {
    eventually(SOON, || async {
        let said = operator.run(&["rebuild", "dashboard", "-o", "json"]).await;
        if said.code == 0 { Ok(()) } else { Err(said) }
    })
    .await;
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        match entry.file_type().expect("a type").is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), &to).expect("copied")),
        }
    }
}

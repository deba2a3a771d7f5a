//! A broker that loses power loses what its disk did not have yet. It comes back with an older end of
//! the stream, and gives the places of what is lost to what comes next.

use std::collections::BTreeSet;
use std::path::Path;

use testkit::eventually;

use crate::operator::{Events, Operator};
use crate::outbox::{EVENTS, histories, ride};
use crate::people::{Customer, SOON, serve};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_broker_lost_with_its_power_is_restored_once() {
    let mut mesh = serve().await;
    let (store, saved) = (mesh.ready().data.join("nats"), mesh.ready().data.join("nats-saved"));
    let mut customers = Vec::new();
    for subject in ["C1", "C2", "C3"] {
        customers.push(Customer::new(&mesh, subject).await);
    }
    let [first, second, third] = &mut customers[..] else { panic!("three customers") };
    ride(&mesh, first).await;
    mesh.kill_nats().await;
    copy(&store, &saved);
    mesh.start_nats().await;
    let lost = ride(&mesh, second).await;

    mesh.kill_nats().await;
    std::fs::remove_dir_all(&store).expect("removed");
    std::fs::rename(&saved, &store).expect("an older store");
    mesh.start_nats().await;
    // In the places of what was lost.
    ride(&mesh, third).await;

    let events = Events::of(&mesh).await;
    assert_eq!(events.all().await.len(), 2 * EVENTS);
    let operator = Operator::of(&mesh);
    operator.list(&["outbox", "republish", "--since", "1h", "--apply"]).await;
    let all = events.complete(3 * EVENTS).await;
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

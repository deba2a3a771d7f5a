//! The live list of open drivings, as one driver sees it.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use kernel::{Actor, DrivingId, Failure, Location, PageRequest, Place, Recorded, Repository};
use platform::db::Db;
use platform::store::Store;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::domain::{Driving, Filter, State};
use crate::near::Near;
use crate::nearest::{NearestRequest, nearest};

/// How often the list is read again, as the net below lost changes.
const RELIST: Duration = Duration::from_secs(3);
/// How many drivings are read at a time.
const PART: u64 = 500;

/// What happens to the list.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The driving can be accepted.
    Opened(Box<Recorded<Driving>>),
    /// It can no longer be accepted, or no longer by this driver.
    Closed(DrivingId, State),
}

/// Follows the open drivings: all that are open first, then each change.
///
/// Changes come as they are committed. Some may be missed (a slow reader, another replica's poke
/// that was lost), so the whole list is read again now and then, and what differs from what was
/// said is said.
pub struct OpenDrivings {
    store: Store<Driving>,
    db: Db,
    actor: Actor,
    near: Option<Near>,
    changes: BoxStream<'static, Recorded<Driving>>,
    announced: HashSet<DrivingId>,
    to_say: VecDeque<Change>,
    next_relist: Interval,
}

impl OpenDrivings {
    /// The list of this driver.
    pub(crate) fn new(
        store: Store<Driving>,
        db: Db,
        actor: &Actor,
        near: Option<Near>,
    ) -> OpenDrivings {
        // From here on no change is missed that the first reading does not show.
        let changes = store.changes().boxed();
        let mut next_relist = interval(RELIST);
        next_relist.set_missed_tick_behavior(MissedTickBehavior::Delay);
        OpenDrivings {
            store,
            db,
            actor: actor.clone(),
            near,
            changes,
            announced: HashSet::new(),
            to_say: VecDeque::new(),
            next_relist,
        }
    }

    /// Waits for the next change of the list.
    pub async fn next(&mut self) -> Result<Change, Failure> {
        loop {
            if let Some(change) = self.to_say.pop_front() {
                return Ok(change);
            }
            tokio::select! {
                // The list itself goes first: the first tick is at once.
                biased;
                _ = self.next_relist.tick() => self.relist().await?,
                Some(driving) = self.changes.next() => self.notice(driving).await?,
            }
        }
    }

    async fn notice(&mut self, driving: Recorded<Driving>) -> Result<(), Failure> {
        let id = driving.id;
        if driving.state != State::Requested {
            if self.announced.remove(&id) {
                self.to_say.push_back(Change::Closed(id, driving.state));
            }
            return Ok(());
        }
        let far = |near: Near| !near.covers(near.distance(pickup_of(&driving)));
        if self.announced.contains(&id) || self.near.is_some_and(far) {
            return Ok(());
        }
        // By now it may have been accepted, or it was declined before: the record knows.
        match self.store.get(&self.actor, id.0).await {
            Ok(open) if open.state == State::Requested => self.announce(open),
            Ok(_) | Err(Failure::Rejected(_)) => {}
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    fn announce(&mut self, driving: Recorded<Driving>) {
        if self.announced.insert(driving.id) {
            self.to_say.push_back(Change::Opened(Box::new(driving)));
        }
    }

    async fn relist(&mut self) -> Result<(), Failure> {
        let open = all_open(&self.store, &self.db, &self.actor, self.near).await?;
        let present: HashSet<DrivingId> = open.iter().map(|driving| driving.id).collect();
        let gone: Vec<DrivingId> = self.announced.difference(&present).copied().collect();
        for id in gone {
            let record = self.store.get(&Actor::service(crate::NAME), id.0).await?;
            self.announced.remove(&id);
            self.to_say.push_back(Change::Closed(id, record.state));
        }
        open.into_iter().for_each(|driving| self.announce(driving));
        Ok(())
    }
}

/// All that this driver may accept, nearest or newest first.
async fn all_open(
    store: &Store<Driving>,
    db: &Db,
    actor: &Actor,
    near: Option<Near>,
) -> Result<Vec<Recorded<Driving>>, Failure> {
    let filter = Filter { states: vec![State::Requested], ..Filter::default() };
    let mut open = Vec::new();
    if let Some(near) = near {
        let mut part = NearestRequest { near, size: PART as usize, after: None };
        loop {
            let found = nearest(db, actor, &filter, &part).await?;
            open.extend(found.items);
            part.after = found.next;
            if part.after.is_none() {
                return Ok(open);
            }
        }
    }
    let mut part = PageRequest { size: PART, after: None };
    loop {
        let found = store.list(actor, &filter, &part).await?;
        open.extend(found.items);
        part.after = found.next;
        if part.after.is_none() {
            return Ok(open);
        }
    }
}

fn pickup_of(driving: &Driving) -> Option<Location> {
    driving.pickup.as_ref().and_then(Place::location)
}

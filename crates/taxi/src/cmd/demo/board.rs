//! The list of requests on a driver's phone: followed live, listed anew when that fails.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::driving::v1::driving::State;
use proto::driving::v1::watch_open_drivings_response::Change;
use proto::driving::v1::{Driving, ListDrivingsRequest, WatchOpenDrivingsRequest};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

use super::city::City;

/// The pause before a broken watch is opened again.
const AGAIN: Duration = Duration::from_millis(200);
/// After this long without a pick, a driver doubts the live list and asks for a fresh one.
const DOUBT: Duration = Duration::from_secs(3);
/// The most a list returns.
const PAGE: i32 = 1000;

/// The open drivings of this demo's riders, oldest first; what others ask for is left to others.
pub(super) struct Board {
    city: Arc<City>,
    driver: usize,
    open: Arc<Open>,
    /// Ends with the board.
    _reader: JoinSet<()>,
}

#[derive(Default)]
struct Open {
    drivings: Mutex<BTreeMap<String, Driving>>,
    changed: Notify,
}

impl Open {
    fn drivings(&self) -> MutexGuard<'_, BTreeMap<String, Driving>> {
        self.drivings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Board {
    /// Follows what this driver may accept.
    pub(super) fn follow(city: &Arc<City>, driver: usize) -> Board {
        let open = Arc::new(Open::default());
        let mut reader = JoinSet::new();
        reader.spawn(read(city.clone(), driver, open.clone()));
        Board { city: city.clone(), driver, open, _reader: reader }
    }

    /// Waits until something is on the list, and looks at this place of it, or as far beyond its end
    /// counted anew.
    pub(super) async fn pick(&self, place: usize) -> Driving {
        loop {
            let picked = {
                let open = self.open.drivings();
                let place = place.checked_rem(open.len());
                place.and_then(|place| open.values().nth(place).cloned())
            };
            match picked {
                Some(driving) => return driving,
                None => self.changed().await,
            }
        }
    }

    /// Waits for a change of the list.
    pub(super) async fn changed(&self) {
        if timeout(DOUBT, self.open.changed.notified()).await.is_err() {
            // Nothing to do about it but to wait on.
            list(&self.city, self.driver, &self.open).await.ok();
        }
    }

    /// What is on the list.
    pub(super) fn all(&self) -> Vec<Driving> {
        self.open.drivings().values().cloned().collect()
    }

    /// Takes a driving off the list; false when it was gone already.
    pub(super) fn remove(&self, name: &str) -> bool {
        self.open.drivings().remove(name).is_some()
    }
}

async fn read(city: Arc<City>, driver: usize, open: Arc<Open>) {
    let mut resume_token = String::new();
    loop {
        let broken = watch(&city, driver, &open, &mut resume_token).await;
        if broken.is_err_and(|status| status.code() == Code::InvalidArgument) {
            resume_token.clear();
        }
        list(&city, driver, &open).await.ok();
        sleep(AGAIN).await;
    }
}

async fn watch(
    city: &City,
    driver: usize,
    open: &Open,
    resume_token: &mut String,
) -> Result<(), Status> {
    let body =
        WatchOpenDrivingsRequest { resume_token: resume_token.clone(), ..Default::default() };
    let opened = city.drivers[driver].watch(body, |mut to, request| async move {
        to.driving.watch_open_drivings(request).await
    });
    let mut changes = opened.await?;
    while let Some(change) = changes.message().await? {
        let kind = change.change();
        *resume_token = change.resume_token;
        let Some(driving) = change.driving else { continue };
        match kind {
            Change::Opened if city.ride_of(&driving).is_some() => {
                open.drivings().insert(driving.name.clone(), driving);
                open.changed.notify_one();
            }
            Change::Closed => drop(open.drivings().remove(&driving.name)),
            Change::Opened | Change::Unspecified => {}
        }
    }
    Ok(())
}

/// Lists what is open, and believes that more than what was heard of live.
async fn list(city: &City, driver: usize, open: &Open) -> Result<(), Status> {
    let body = ListDrivingsRequest {
        states: vec![State::Requested.into()],
        page_size: PAGE,
        ..Default::default()
    };
    let asked = city.drivers[driver]
        .once(body, |mut to, request| async move { to.driving.list_drivings(request).await });
    let listed = asked.await?.into_inner().drivings.into_iter();
    let ours = listed.filter(|driving| city.ride_of(driving).is_some());
    *open.drivings() = ours.map(|driving| (driving.name.clone(), driving)).collect();
    open.changed.notify_one();
    Ok(())
}

//! The city in which a demo takes place: its people, its clock, and the record of what they were told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use kernel::{Clock, Role};
use proto::driving::v1::Driving;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tonic::Status;

use super::ledger::{Happening, Ledger};
use super::outage::Moment;
use super::person::{Calls, Person, Services, said};
use super::places::Lang;
use super::scenario::{Phase, Plan};
use crate::exit::Exit;
use crate::ready::Ready;

/// How many times longer the rides after a fault are spread on a busy machine, at most.
const MORE_PROBES: u32 = 3;
/// How many people share connections: each keeps streams open, and a server allows only so many.
const NEIGHBOURS: usize = 64;
/// How many tokens are asked for at the same time.
const ARRIVALS: usize = 16;
/// How many rides an error names.
const NAMED: usize = 5;

/// How fast everything goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// How much faster than real people are.
    pub(super) time_scale: f64,
    /// How many times slower than idle the machine may be.
    pub(super) slack: u32,
}

/// A city.
pub(super) struct City {
    /// What its people have in mind.
    pub(super) plan: Plan,
    /// Tells this demo from others on the same mesh; all subjects begin with it.
    pub(super) run: String,
    /// How it is spoken of.
    pub(super) lang: Lang,
    /// Those who ride, in the order of the plan.
    pub(super) riders: Vec<Person>,
    /// Those who drive.
    pub(super) drivers: Vec<Person>,
    /// Somebody who sees everything.
    pub(super) operator: Person,
    /// For each ride: its driver is just about to start.
    pub(super) starting: Vec<Notify>,
    clock: Arc<dyn Clock>,
    /// What all of them have asked for.
    pub(super) calls: Arc<Calls>,
    pace: Pace,
    customers: HashMap<String, usize>,
    ledger: Mutex<Ledger>,
    /// Which phase it is, and since when.
    phase: watch::Sender<(Phase, Instant)>,
    closing: watch::Sender<bool>,
}

impl City {
    /// Builds a city on a mesh. Nobody calls anybody yet.
    pub(super) fn new(
        mesh: Ready,
        plan: Plan,
        lang: Lang,
        pace: Pace,
        clock: Arc<dyn Clock>,
    ) -> Result<City, Exit> {
        let run = format!("demo-{}", &clock.new_id().simple().to_string()[24..]);
        let mesh = Arc::new(mesh);
        let calls = Arc::new(Calls::new(pace.slack));
        let people = |role: Role, subjects: Vec<(String, Lang)>| {
            let mut people = Vec::with_capacity(subjects.len());
            for neighbours in subjects.chunks(NEIGHBOURS) {
                let services = Services::of(&mesh)?;
                people.extend(neighbours.iter().map(|(subject, language)| {
                    let (mesh, services, calls) = (mesh.clone(), services.clone(), calls.clone());
                    Person::new(role, subject.clone(), *language, mesh, services, calls)
                }));
            }
            Ok::<_, Exit>(people)
        };
        let riders = plan.riders.iter().map(|rider| {
            let name = rider.name(Lang::En).to_lowercase().replace(' ', "-");
            (format!("{run}-{name}"), rider.language)
        });
        let riders = people(Role::Customer, riders.collect())?;
        let drivers = (0..plan.size.drivers).map(|at| (format!("{run}-{}", driver_name(at)), lang));
        let drivers = people(Role::Driver, drivers.collect())?;
        let subject = format!("{run}-operator");
        let services = Services::of(&mesh)?;
        let operator =
            Person::new(Role::Operator, subject, lang, mesh.clone(), services, calls.clone());
        Ok(City {
            customers: riders.iter().map(Person::name).zip(0..).collect(),
            starting: plan.journeys.iter().map(|_| Notify::new()).collect(),
            ledger: Mutex::new(Ledger::new(plan.size.rides, plan.size.riders)),
            phase: watch::Sender::new((Phase::Before, Instant::now())),
            closing: watch::Sender::new(false),
            plan,
            run,
            lang,
            riders,
            drivers,
            operator,
            clock,
            calls,
            pace,
        })
    }

    /// Everybody gets their token.
    pub(super) async fn arrive(&self) -> Result<(), Exit> {
        let people = self.riders.iter().chain(&self.drivers).chain([&self.operator]);
        let people: Vec<_> = people.map(Person::arrive).collect();
        futures::stream::iter(people).buffer_unordered(ARRIVALS).try_collect().await
    }

    /// A new request id.
    pub(super) fn request_id(&self) -> String {
        self.clock.new_id().to_string()
    }

    /// How long this simulated time really takes.
    pub(super) fn real(&self, simulated: Duration) -> Duration {
        simulated.div_f64(self.pace.time_scale)
    }

    /// How long something may take here that takes so long on an idle machine.
    pub(super) fn patience(&self, idle: Duration) -> Duration {
        idle.saturating_mul(self.pace.slack)
    }

    /// Lets simulated time pass.
    pub(super) async fn pause(&self, simulated: Duration) {
        sleep(self.real(simulated)).await;
    }

    /// Reads or writes the record.
    pub(super) fn note<T>(&self, entry: impl FnOnce(&mut Ledger) -> T) -> T {
        entry(&mut self.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells what happened to a ride.
    pub(super) fn tell(&self, ride: usize, happening: &Happening) {
        let line = format!("{}: {}", self.label(ride), happening.said_in(self.lang));
        self.note(|ledger| ledger.tell(line));
    }

    /// A ride as people speak of it.
    pub(super) fn label(&self, ride: usize) -> String {
        self.plan.label(ride, self.lang)
    }

    /// A ride as an error names it: with what to look for in the service.
    pub(super) fn full_label(&self, ride: usize) -> String {
        let allocation = self.note(|ledger| ledger.rides[ride].allocation.clone());
        match allocation.as_str() {
            "" => self.label(ride),
            allocation => format!("{allocation} ({})", self.label(ride)),
        }
    }

    /// A driver as people speak of them.
    pub(super) fn driver(&self, at: usize) -> String {
        driver_name(at).to_uppercase()
    }

    /// A command failed in a way that nobody expected.
    pub(super) fn trouble(&self, ride: usize, method: &str, status: &Status) {
        let sentence = format!("{}: {method} failed: {}", self.full_label(ride), said(status));
        self.note(|ledger| ledger.troubles.push(sentence));
    }

    /// A rider begins a ride: from now on, what is asked for in their name is this ride.
    pub(super) fn begin(&self, ride: usize) {
        let rider = self.plan.journeys[ride].rider;
        self.note(|ledger| ledger.current[rider] = Some(ride));
    }

    /// Which ride of ours a driving is. Drivers may hear of it before its rider has an answer; until
    /// then it is the one that the rider has begun.
    pub(super) fn ride_of(&self, driving: &Driving) -> Option<usize> {
        let rider = *self.customers.get(&driving.customer)?;
        self.note(|ledger| ledger.known.get(&driving.allocation).copied().or(ledger.current[rider]))
    }

    /// Now.
    pub(super) fn moment(&self) -> Moment {
        Moment { at: Instant::now(), time: self.clock.now() }
    }

    /// The next phase begins.
    pub(super) fn enter(&self, phase: Phase) {
        self.phase.send_replace((phase, Instant::now()));
    }

    /// Waits until a phase has begun; answers when that was.
    pub(super) async fn entered(&self, phase: Phase) -> Instant {
        let mut phases = self.phase.subscribe();
        // The sender is ours, so it outlives the wait.
        let entered = phases.wait_for(|(present, _)| *present >= phase).await;
        entered.map_or_else(|_| Instant::now(), |entered| entered.1)
    }

    /// Waits until a ride may be asked for, as far as its phase is concerned.
    pub(super) async fn turn_of(&self, ride: usize) {
        let journey = &self.plan.journeys[ride];
        let began = self.entered(journey.phase).await;
        // A probe of a breaker may fail where everything is slow, and the next one comes later.
        sleep_until(began + journey.hold * self.pace.slack.min(MORE_PROBES)).await;
    }

    /// No ride is left to serve.
    pub(super) fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Waits until no ride is left to serve.
    pub(super) async fn closed(&self) {
        // The sender is ours, so it outlives the wait.
        self.closing.subscribe().wait_for(|closing| *closing).await.ok();
    }

    /// What it means that time is up.
    pub(super) fn unfinished(&self, deadline: Duration) -> Exit {
        let open: Vec<String> = self.note(|ledger| {
            let rides = ledger.rides.iter().enumerate();
            let open = rides.filter(|(_, ride)| !ride.stage.is_final());
            open.map(|(at, ride)| {
                format!("{} {} ({:?})", self.label(at), ride.allocation, ride.stage)
            })
            .collect()
        });
        let named = open.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = open.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let troubles = self.note(|ledger| ledger.troubles.last().cloned());
        let trouble = troubles.map(|last| format!("; the last trouble was {last}"));
        Exit::failed(format!(
            "time is up after {deadline:.0?}, and {} of {} rides have not ended: {named}{more}{}",
            open.len(),
            self.plan.size.rides,
            trouble.unwrap_or_default()
        ))
    }
}

fn driver_name(at: usize) -> String {
    format!("d{}", at + 1)
}

//! What all people have in common: a phone, patience, and a memory of what they were told.
//!
//! A command has one request id, however often it has to be said: when nobody answers, or the answer
//! is that something is away, it is said again under the same id, over another connection. Only a
//! refusal that nothing uncertain preceded counts as *failed*: an attempt that was never answered
//! may still arrive, and have its effect, after another was refused.
//!
//! Now and then a command that has succeeded is said again much later, and now and then two copies
//! go out at once; each copy is an operation of its own in the history.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kernel::{Role, Uuid};
use platform::client::channel;
use platform::status::reason;
use proto::driving::v1::{Driving, ListDrivingsRequest};
use proto::payment::v1::{ListPaymentsRequest, Payment};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use testkit::{Bearer, DrivingClient, Known, PaymentClient};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::Result;
use crate::calls::{Answer, Call, timed};
use crate::findings::Findings;
use crate::history::{History, Outcome};
use crate::world::World;

/// How often a command is said before nobody can tell what came of it.
const ATTEMPTS: u32 = 5;
/// How often a question is asked.
const QUESTIONS: u32 = 2;
/// A phone gives up this much later than the server was told.
const SLACK: Duration = Duration::from_millis(300);

/// How far the run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Rides begin.
    Open,
    /// What has begun is brought to its end.
    Closing,
    /// Everybody goes home.
    Over,
}

/// What all people share.
#[derive(Clone, Debug)]
pub(crate) struct City {
    pub(crate) world: Arc<World>,
    pub(crate) history: History,
    /// Who brings a consistency token reads what it stands for.
    pub(crate) own_writes: Findings,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) seed: u64,
}

/// Somebody with a phone.
#[derive(Debug)]
pub(crate) struct Person {
    pub(crate) city: City,
    /// `customers/torture-3`.
    pub(crate) who: String,
    pub(crate) rng: StdRng,
    bearer: Bearer,
    lines: BTreeMap<&'static str, Channel>,
    /// What has succeeded lately.
    done: VecDeque<(Call, Uuid)>,
}

/// What somebody was told in the end.
#[derive(Debug)]
pub(crate) enum Told {
    Yes(Answer),
    /// For this reason.
    No(String),
    Nothing,
}

impl City {
    /// Whether it is this late, or later.
    pub(crate) fn is(&self, phase: Phase) -> bool {
        *self.phase.borrow() >= phase
    }
}

impl Person {
    /// Somebody new. The number is their own among all people: it seeds what they do.
    pub(crate) async fn new(city: &City, role: Role, subject: &str, number: u64) -> Result<Person> {
        let who = match role {
            Role::Customer => kernel::CustomerId::from_subject(subject).to_string(),
            Role::Operator => format!("operators/{subject}"),
            _ => kernel::DriverId::from_subject(subject).to_string(),
        };
        Ok(Person {
            city: city.clone(),
            who,
            rng: StdRng::seed_from_u64(city.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            bearer: city.world.bearer(role, subject).await?,
            lines: BTreeMap::new(),
            done: VecDeque::new(),
        })
    }

    /// Waits for a while.
    pub(crate) async fn pause(&mut self, millis: std::ops::Range<u64>) {
        let millis = self.rng.random_range(millis);
        sleep(Duration::from_millis(millis)).await;
    }

    /// Says a command, perhaps twice at once, until there is an answer or nobody can tell.
    pub(crate) async fn command(&mut self, call: Call) -> Told {
        let id = self.new_id();
        let first = self.voice(&call);
        let told = if self.rng.random_bool(0.05) {
            let copy = self.voice(&call).perform(call.clone(), Some(id));
            tokio::join!(first.perform(call.clone(), Some(id)), copy).0
        } else {
            first.perform(call.clone(), Some(id)).await
        };
        match &told {
            Told::Yes(_) => {
                self.done.push_back((call, id));
                if self.done.len() > 8 {
                    self.done.pop_front();
                }
            }
            Told::No(_) => {}
            Told::Nothing => self.hang_up(),
        }
        told
    }

    /// Says something again that has succeeded before, now and then.
    pub(crate) async fn perhaps_repeat(&mut self) {
        if self.rng.random_bool(0.10) {
            self.repeat().await;
        }
    }

    /// Says something again that has succeeded before.
    pub(crate) async fn repeat(&mut self) {
        self.done.make_contiguous().shuffle(&mut self.rng);
        if let Some((call, id)) = self.done.pop_front() {
            self.voice(&call).perform(call, Some(id)).await;
        }
    }

    /// Asks something.
    pub(crate) async fn question(&mut self, call: Call) -> Told {
        let told = self.voice(&call).perform(call, None).await;
        if matches!(told, Told::Nothing) {
            self.hang_up();
        }
        told
    }

    /// The drivings that a driver sees, as far as there is an answer. Not part of the history.
    pub(crate) async fn drivings(&mut self, states: Vec<i32>) -> Option<Vec<Driving>> {
        const PATIENCE: Duration = Duration::from_secs(2);
        let request = ListDrivingsRequest { states, page_size: 20, ..Default::default() };
        let mut client = DrivingClient::new(self.line("driving"));
        let asked = client.list_drivings(timed(request, PATIENCE));
        match timeout(PATIENCE + SLACK, asked).await {
            Ok(Ok(answer)) => Some(answer.into_inner().drivings),
            _ => {
                self.hang_up();
                None
            }
        }
    }

    /// The payments in one of these states that somebody sees, newest first, as far as there is an
    /// answer. Not part of the history.
    pub(crate) async fn payments(&mut self, states: Vec<i32>) -> Option<Vec<Payment>> {
        const PATIENCE: Duration = Duration::from_secs(2);
        let request = ListPaymentsRequest { states, page_size: 20, ..Default::default() };
        let mut client = PaymentClient::new(self.line("payment"));
        let asked = client.list_payments(timed(request, PATIENCE));
        match timeout(PATIENCE + SLACK, asked).await {
            Ok(Ok(answer)) => Some(answer.into_inner().payments),
            _ => {
                self.hang_up();
                None
            }
        }
    }

    /// The next call finds another connection.
    pub(crate) fn hang_up(&mut self) {
        self.lines.clear();
    }

    fn voice(&mut self, call: &Call) -> Voice {
        // So that both replicas are heard, also when nothing is wrong.
        if self.rng.random_bool(0.05) {
            self.hang_up();
        }
        Voice {
            city: self.city.clone(),
            who: self.who.clone(),
            line: self.line(call.context()),
            bearer: self.bearer.clone(),
            rng: StdRng::from_rng(&mut self.rng),
        }
    }

    fn line(&mut self, context: &'static str) -> Known {
        let world = &self.city.world;
        let channel = self.lines.entry(context).or_insert_with(|| connect(world, context)).clone();
        Known::new(channel, self.bearer.clone())
    }

    fn new_id(&mut self) -> Uuid {
        loop {
            let id = Uuid::from_u128(self.rng.random());
            if !id.is_nil() {
                return id;
            }
        }
    }
}

/// What brings one operation to its end, beside others of the same person.
struct Voice {
    city: City,
    who: String,
    line: Known,
    bearer: Bearer,
    rng: StdRng,
}

impl Voice {
    async fn perform(mut self, call: Call, request_id: Option<Uuid>) -> Told {
        let number = self.begin(&call, request_id);
        let most = if call.what().is_command() { ATTEMPTS } else { QUESTIONS };
        let (mut attempt, mut unsure) = (0, false);
        loop {
            attempt += 1;
            let status = match self.attempt(&call, request_id).await {
                Ok(answer) => {
                    let ride = answer.ride.or(call.ride());
                    let outcome = Outcome::Ok(answer.seen.clone());
                    self.city.history.end(number, ride, attempt, outcome);
                    return Told::Yes(answer);
                }
                Err(status) => status,
            };
            let (code, reason) = (status.code(), reason(&status).unwrap_or_default());
            let word = Word::of(&status, &reason);
            unsure |= word == Word::Unsure;
            let again = attempt < most && !self.city.is(Phase::Over);
            match word {
                Word::Refused if unsure => {
                    let message = format!("refused ({reason}) after an attempt without an answer");
                    let outcome = Outcome::Unknown { code, message };
                    self.city.history.end(number, call.ride(), attempt, outcome);
                    return Told::No(reason);
                }
                Word::Refused => {
                    let outcome = Outcome::Failed { code, reason: reason.clone() };
                    self.city.history.end(number, call.ride(), attempt, outcome);
                    return Told::No(reason);
                }
                Word::NotNow | Word::Unsure if again => self.try_elsewhere(&call, attempt).await,
                Word::NotNow if !unsure => {
                    let outcome = Outcome::Failed { code, reason };
                    self.city.history.end(number, call.ride(), attempt, outcome);
                    return Told::Nothing;
                }
                Word::NotNow | Word::Unsure => {
                    let message = format!("{reason} {}", status.message());
                    let outcome = Outcome::Unknown { code, message };
                    self.city.history.end(number, call.ride(), attempt, outcome);
                    return Told::Nothing;
                }
            }
        }
    }

    fn begin(&self, call: &Call, request_id: Option<Uuid>) -> usize {
        self.city.history.begin(&self.who, call.what(), request_id, call.asks_for())
    }

    async fn attempt(&self, call: &Call, request_id: Option<Uuid>) -> Result<Answer, Status> {
        let sent = call.clone().send(self.line.clone(), request_id);
        let late = |_| Err(Status::deadline_exceeded("the phone gave up"));
        timeout(call.patience() + SLACK, sent).await.unwrap_or_else(late)
    }

    async fn try_elsewhere(&mut self, call: &Call, attempt: u32) {
        let channel = connect(&self.city.world, call.context());
        self.line = Known::new(channel, self.bearer.clone());
        let longest = 150 << attempt.min(4);
        sleep(Duration::from_millis(self.rng.random_range(50..longest))).await;
    }
}

/// What a status says about whether something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// It did not, and never will.
    Refused,
    /// It did not; it makes sense to ask again.
    NotNow,
    /// Nobody can tell.
    Unsure,
}

impl Word {
    fn of(status: &Status, reason: &str) -> Word {
        match status.code() {
            // Refused at the door, before anybody looked at it.
            Code::ResourceExhausted if reason == "OVERLOADED" => Word::NotNow,
            Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Unknown
            | Code::Cancelled
            | Code::Internal
            | Code::DataLoss => Word::Unsure,
            _ => Word::Refused,
        }
    }
}

fn connect(world: &World, context: &str) -> Channel {
    channel(&world.service(context).to_string())
}

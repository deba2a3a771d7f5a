//! The plan carried out: every fault begins in its time, lasts, and heals.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::Result;
use crate::check::Expected;
use crate::history::History;
use crate::inject::Injector;
use crate::plan::{
    End, Fault, Kind, MOST_REPLICAS, Name, Order, Peer, Plan, Step, Trouble, Victim, replicas,
};
use crate::world::{Link, Replica, World};

/// Each connection of a reset storm lives about this long.
const BETWEEN_RESETS: Duration = Duration::from_millis(150);
/// How often a broker that is away is asked to take an event.
const TRIES: u32 = 20;
const BETWEEN_TRIES: Duration = Duration::from_millis(500);

/// How many faults there were of each kind.
pub(crate) type Counts = BTreeMap<Kind, usize>;

/// Carries out plans.
#[derive(Clone)]
pub(crate) struct Saboteur {
    world: Arc<World>,
    history: History,
    injector: Arc<Injector>,
    counts: Arc<Mutex<Counts>>,
}

impl Saboteur {
    /// Somebody who does harm to this world.
    pub(crate) fn new(world: Arc<World>, history: History) -> Saboteur {
        Saboteur { world, history, injector: Arc::default(), counts: Arc::default() }
    }

    /// What may have come to the stream by our doing.
    pub(crate) fn expected(&self) -> Expected {
        self.injector.expected()
    }

    /// Carries out a plan from now on; returns when the last fault has healed.
    pub(crate) async fn carry_out(&self, plan: &Plan, seed: u64) -> Counts {
        let begin = Instant::now();
        let mut faults = JoinSet::new();
        for (step, seed) in plan.0.iter().copied().zip(seed..) {
            let this = self.clone();
            faults.spawn(async move {
                tokio::time::sleep_until(begin + step.at).await;
                this.one(step, seed).await;
            });
        }
        while let Some(done) = faults.join_next().await {
            if let Err(panic) = done {
                self.world.incidents().report(format!("the harness: {panic}"));
            }
        }
        self.lock().clone()
    }

    async fn one(&self, step: Step, seed: u64) {
        self.say(format_args!("begins  {}", step.fault));
        let healed = self.inflict(step, seed).await;
        *self.lock().entry(step.fault.kind()).or_default() += 1;
        match healed {
            Ok(()) => self.say(format_args!("healed  {}", step.fault)),
            Err(error) => self.world.incidents().report(format!("{}: {error}", step.fault)),
        }
    }

    async fn inflict(&self, Step { lasts, fault, .. }: Step, seed: u64) -> Result<()> {
        let world = &*self.world;
        match fault {
            Fault::Kill(Victim::Provider) => world.restart_provider(lasts).await,
            Fault::Kill(Victim::Replica(name)) => self.kill(name, lasts).await,
            Fault::Provider(whim) => world.provider_misbehaves(whim, lasts).await,
            Fault::Freeze(name) => self.freeze(name, lasts).await,
            Fault::Broker => world.restart_broker(lasts).await,
            Fault::Database(end) => self.database(end, lasts).await,
            Fault::Network { context, number, peer, trouble } => {
                self.network(context, number, peer, trouble, lasts).await
            }
            Fault::Redelivery { events, order } => self.redeliver(events, order, seed).await,
            Fault::Republish(context) => self.republish(context).await,
            Fault::Poison(which) => self.poison(which, seed).await,
            Fault::Scale(context) => self.scale(context, lasts).await,
            Fault::Rolling => self.rolling().await,
        }
    }

    async fn kill(&self, name: Name, away: Duration) -> Result<()> {
        let replica = self.world.replica(name)?;
        let mut running = replica.custody().await;
        if running.is_running() {
            self.world.kill(replica, &mut running);
            sleep(away).await;
            self.world.launch(replica, &mut running).await?;
        }
        Ok(())
    }

    async fn freeze(&self, name: Name, time: Duration) -> Result<()> {
        let mut running = self.world.replica(name)?.custody().await;
        running.signal("STOP")?;
        sleep(time).await;
        running.signal("CONT")
    }

    async fn database(&self, end: End, away: Duration) -> Result<()> {
        let mut postgres = self.world.postgres().await?;
        match end {
            End::Kill => postgres.kill()?,
            End::Abort => postgres.abort().await?,
        }
        sleep(away).await;
        self.world.restart_postgres(&mut postgres).await
    }

    async fn network(
        &self,
        context: &str,
        number: Option<usize>,
        peer: Peer,
        trouble: Trouble,
        time: Duration,
    ) -> Result<()> {
        let meant = |replica: &&Replica| {
            let Name { context: its, number: n } = replica.name;
            its == context && number.is_none_or(|number| number == n)
        };
        let links: Vec<&Link> = self
            .world
            .replicas()
            .iter()
            .filter(meant)
            .filter_map(|replica| match peer {
                Peer::Broker => Some(&replica.to_broker),
                Peer::Database => replica.to_database.as_ref(),
                Peer::Neighbour => replica.to_neighbour.as_ref(),
            })
            .collect();
        // Always in the order of the replicas, so nobody waits for each other.
        let mut custody = Vec::new();
        for link in &links {
            custody.push(link.custody().await);
        }
        let set = |fault| links.iter().for_each(|link| link.set(fault));
        match trouble {
            Trouble::Delay(delay) => set(testkit::Fault::Delay(delay)),
            Trouble::BlackHole => set(testkit::Fault::BlackHole),
            Trouble::Refused => set(testkit::Fault::Refuse),
            Trouble::Resets => {
                let end = Instant::now() + time;
                while Instant::now() < end {
                    set(testkit::Fault::Reset);
                    set(testkit::Fault::Pass);
                    sleep(BETWEEN_RESETS).await;
                }
                return Ok(());
            }
        }
        sleep(time).await;
        set(testkit::Fault::Pass);
        Ok(())
    }

    async fn redeliver(&self, events: usize, order: Order, seed: u64) -> Result<()> {
        let mut rng = StdRng::seed_from_u64(seed);
        for _ in 1..TRIES {
            let nats = self.world.nats().await;
            if self.injector.again(&nats, &mut rng, events, order).await.is_ok() {
                return Ok(());
            }
            sleep(BETWEEN_TRIES).await;
        }
        let nats = self.world.nats().await;
        self.injector.again(&nats, &mut rng, events, order).await.map(drop)
    }

    async fn republish(&self, context: &str) -> Result<()> {
        for _ in 1..TRIES {
            let arguments = ["outbox", "republish", context, "--since", "24h", "--apply"];
            if self.world.operate("outbox", &arguments).await.is_ok() {
                return Ok(());
            }
            sleep(BETWEEN_TRIES).await;
        }
        let arguments = ["outbox", "republish", context, "--since", "24h", "--apply"];
        self.world.operate("outbox", &arguments).await
    }

    async fn poison(&self, which: usize, seed: u64) -> Result<()> {
        let poison = self.injector.poison(&mut StdRng::seed_from_u64(seed), which);
        self.say(format_args!("        the poison is {} {}", poison.kind, poison.id));
        for _ in 1..TRIES {
            if self.injector.spread(&self.world.nats().await, &poison).await.is_ok() {
                return Ok(());
            }
            sleep(BETWEEN_TRIES).await;
        }
        self.injector.spread(&self.world.nats().await, &poison).await
    }

    /// One replica, then three, then one, and as many as before.
    async fn scale(&self, context: &'static str, time: Duration) -> Result<()> {
        let usual = replicas(self.world.backing());
        self.scale_to(context, 1).await?;
        sleep(time / 3).await;
        self.scale_to(context, MOST_REPLICAS).await?;
        sleep(time / 3).await;
        self.scale_to(context, 1).await?;
        sleep(time / 3).await;
        self.scale_to(context, usual).await
    }

    async fn scale_to(&self, context: &'static str, count: usize) -> Result<()> {
        for number in 1..=MOST_REPLICAS {
            let replica = self.world.replica(Name { context, number })?;
            let mut running = replica.custody().await;
            match (running.is_running(), number <= count) {
                (false, true) => self.world.launch(replica, &mut running).await?,
                (true, false) => self.world.terminate(replica, &mut running).await,
                _ => {}
            }
        }
        Ok(())
    }

    /// All contexts at once, in each one replica after the other.
    async fn rolling(&self) -> Result<()> {
        let restarts = testkit::CONTEXTS.into_iter().map(|context| async move {
            for number in 1..=MOST_REPLICAS {
                let replica = self.world.replica(Name { context, number })?;
                let mut running = replica.custody().await;
                if running.is_running() {
                    self.world.terminate(replica, &mut running).await;
                    self.world.launch(replica, &mut running).await?;
                }
            }
            Ok(())
        });
        futures::future::try_join_all(restarts).await.map(drop)
    }

    fn say(&self, what: std::fmt::Arguments<'_>) {
        eprintln!("{:>7.1} s  {what}", self.history.now().as_secs_f64());
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

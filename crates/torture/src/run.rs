//! One run, from the first process to the verdict.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use testkit::Backing;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::check::{Expected, check};
use crate::evidence::{Evidence, Sources, drained};
use crate::faults::Saboteur;
use crate::findings::Findings;
use crate::history::History;
use crate::people::{City, Phase};
use crate::plan::Plan;
use crate::report::{Invariant, Money, Report, methods};
use crate::world::World;
use crate::{Database, Options, Result, binary, drivers, ledger, operators, riders, story};

/// How long people get to bring to an end what they have begun.
const CLOSING: Duration = Duration::from_secs(6);
/// How long the mesh may take to come to rest after the last fault.
const DRAIN: Duration = Duration::from_secs(15);
/// How often we look whether it has.
const LOOK: Duration = Duration::from_millis(250);
/// The end of a run that does not end.
const FAR_TOO_LONG: Duration = Duration::from_secs(180);

/// Runs; whether every invariant holds.
pub(crate) async fn run(options: &Options) -> Result<bool> {
    let binary = binary::find(options.binary.as_deref())?;
    let world = Arc::new(started(options, &binary).await?);
    let report = timeout(options.duration + FAR_TOO_LONG, tortured(options, &world)).await;
    let report = match report {
        Ok(report) => report,
        Err(_) => Err("the run took far too long".into()),
    };
    if options.keep
        && let Ok(world) = Arc::try_unwrap(world)
    {
        eprintln!("the files of the run are in {}", world.keep().display());
    }
    let report = report?;
    print!("{report}");
    if let Some(file) = &options.json {
        std::fs::write(file, serde_json::to_string_pretty(&report)?)?;
    }
    Ok(report.holds)
}

async fn started(options: &Options, binary: &Path) -> Result<World> {
    let begin = Instant::now();
    eprintln!("starting a mesh of {}", binary.display());
    let world = World::start(binary, backing(options), options.seed).await?;
    eprintln!("it stands after {:.1} s", begin.elapsed().as_secs_f64());
    Ok(world)
}

const fn backing(options: &Options) -> Backing {
    match options.database {
        Database::Postgres => Backing::Postgres,
        Database::Sqlite => Backing::Sqlite,
    }
}

/// The run itself, in a world that stands.
async fn tortured(options: &Options, world: &Arc<World>) -> Result<Report> {
    let mut rng = StdRng::seed_from_u64(options.seed);
    let plan = Plan::draw(&mut rng, options.duration, &options.faults, world.backing());
    eprint!("the plan of seed {}:\n{plan}", options.seed);

    let (history, own_writes) = (History::new(), Findings::default());
    let saboteur = Saboteur::new(world.clone(), history.clone());
    let watch = tokio::spawn({
        let world = world.clone();
        async move { world.watch().await }
    });
    let reader = ledger::Reader::default();
    let reading = tokio::spawn({
        let (reader, world) = (reader.clone(), world.clone());
        async move { reader.watch(&world).await }
    });
    let (phase, phases) = watch::channel(Phase::Open);
    let city = City {
        world: world.clone(),
        history: history.clone(),
        own_writes: own_writes.clone(),
        phase: phases,
        seed: options.seed,
    };
    let faults = life(options, &city, &phase, saboteur.carry_out(&plan, options.seed)).await?;
    drop(city);
    let (sources, expected) = (world.sources().await, saboteur.expected());
    let drained = drain(&sources, &expected).await;
    let (evidence, operations) = (Evidence::collect(&sources).await?, history.operations());
    reading.abort();
    reading.await.ok();
    reader.compare(&evidence.ledger);
    watch.abort();
    // It may be starting a process, which is not to be left behind.
    watch.await.ok();
    world.end().await;
    if options.keep {
        let lines = operations.iter().map(|operation| format!("{operation:?}\n"));
        std::fs::write(world.dir().join("operations.log"), lines.collect::<String>())?;
    }

    let late = drained.as_ref().err().cloned().into_iter().collect();
    let mut invariants = vec![
        Invariant::seen(
            "P0",
            "no process ends by itself, each starts and ends when asked",
            world.incidents(),
        ),
        Invariant::seen("P2", "who brings a token reads what it stands for", &own_writes),
        Invariant::seen("P3", "a row of the ledger stays as it is", reader.findings()),
        Invariant::own("L", "at rest 15 s after the last fault", 1, late),
    ];
    let story = |ride| story::of(ride, &operations, &evidence);
    let verdicts = check(&operations, &evidence, &expected);
    invariants.extend(verdicts.into_iter().map(|verdict| Invariant::of(verdict, story)));
    let rides: BTreeSet<_> = operations.iter().filter_map(|operation| operation.ride).collect();
    Ok(Report {
        seed: options.seed,
        database: options.database.to_string(),
        seconds: options.duration.as_secs_f64(),
        plan: plan.0.iter().map(ToString::to_string).collect(),
        rides: rides.len(),
        money: Money::of(&evidence),
        events: evidence.stream.len(),
        faults,
        operations: methods(&operations),
        drain_seconds: drained.ok().map(|time| time.as_secs_f64()),
        holds: invariants.iter().all(Invariant::holds),
        invariants,
    })
}

/// People ride while things go wrong, until the last fault has healed and everybody has gone home.
async fn life<F>(
    options: &Options,
    city: &City,
    phase: &watch::Sender<Phase>,
    faults: impl Future<Output = F>,
) -> Result<F> {
    let (mut riding, mut driving) = (JoinSet::new(), JoinSet::new());
    for number in 0..options.riders {
        riding.spawn(riders::ride(city.clone(), number));
    }
    for number in 0..options.drivers {
        driving.spawn(drivers::drive(city.clone(), number));
    }
    for number in 0..operators::COUNT {
        driving.spawn(operators::operate(city.clone(), number));
    }
    let (faults, ()) = tokio::join!(faults, sleep(options.duration));
    phase.send_replace(Phase::Closing);
    eprintln!("{:>7.1} s  all has healed", city.history.now().as_secs_f64());
    // Whoever is not home by then is told that it is over.
    timeout(CLOSING, all_home(&mut riding)).await.ok();
    phase.send_replace(Phase::Over);
    all_home(&mut riding).await?;
    all_home(&mut driving).await?;
    eprintln!("{:>7.1} s  everybody is at home", city.history.now().as_secs_f64());
    Ok(faults)
}

async fn all_home(people: &mut JoinSet<Result<()>>) -> Result<()> {
    while let Some(home) = people.join_next().await {
        home??;
    }
    Ok(())
}

/// Waits until the mesh is at rest; the error says what is left when it is too late.
async fn drain(sources: &Sources, expected: &Expected) -> Result<Duration, String> {
    let begin = Instant::now();
    loop {
        let left = match drained(sources, expected).await {
            Ok(()) => return Ok(begin.elapsed()),
            Err(left) => left,
        };
        if begin.elapsed() >= DRAIN {
            return Err(left);
        }
        sleep(LOOK).await;
    }
}

//! The mesh under load: who speaks to it, and what it costs.

use std::collections::BTreeMap;
use std::ops::Sub;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proto::allocation::v1::{Allocation, RequestAllocationRequest};
use proto::google::r#type::LatLng;
use proto::r#type::v1::Place;
use testkit::{AllocationClient, Bearer, CONTEXTS, DashboardClient, DrivingClient};
use testkit::{Known, Mesh, Role};
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;

use crate::Result;
use crate::process::{cpu, cpu_with_children, resident_mb};
use crate::stats::{Rounds, millis};

/// Connections to each context; calls in flight share them, as in a gateway.
const CONNECTIONS: usize = 4;
/// How often `taxi serve allocation` is started to see how long it takes.
const STARTS: u32 = 5;
/// A mesh that uses less than this share of one core has nothing left to do.
const IDLE: f64 = 0.10;
const LOOK: Duration = Duration::from_millis(500);
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

/// Resident memory of each context in MB.
pub(crate) type Memory = BTreeMap<&'static str, f64>;

/// A mesh and its citizens.
pub(crate) struct City {
    pub(crate) mesh: Mesh,
    pub(crate) postgres: u32,
    operator: Bearer,
    lines: BTreeMap<&'static str, Vec<Channel>>,
    customers: Arc<AtomicU64>,
}

/// CPU time since the start of the mesh.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    /// Of the allocation context.
    pub(crate) allocation: Duration,
    /// Of all contexts, that one included.
    pub(crate) contexts: Duration,
    /// Of Postgres, for all of them.
    pub(crate) postgres: Duration,
}

impl Sub for Cpu {
    type Output = Cpu;

    fn sub(self, before: Cpu) -> Cpu {
        Cpu {
            allocation: self.allocation.saturating_sub(before.allocation),
            contexts: self.contexts.saturating_sub(before.contexts),
            postgres: self.postgres.saturating_sub(before.postgres),
        }
    }
}

impl City {
    /// Does something in a city of its own. Only one that has been well treated is held to its
    /// promises when it ends.
    pub(crate) async fn with<T>(
        binary: &Path,
        settings: &[(&str, &str, &str)],
        limit: Duration,
        work: impl AsyncFnOnce(&mut City) -> Result<T>,
    ) -> Result<T> {
        eprintln!("starting a mesh of {}", binary.display());
        let mut city = City::start(binary, settings).await?;
        let done = timeout(limit, work(&mut city)).await;
        let done = done.unwrap_or_else(|_| Err("it took far too long".into()));
        if done.is_err() {
            city.mesh.unchecked();
        }
        done
    }

    /// Starts everything, with further settings: (context, name, value).
    async fn start(binary: &Path, settings: &[(&str, &str, &str)]) -> Result<City> {
        let mut mesh = Mesh::serve_with(binary, settings).await;
        mesh.drains_within(SETTLE_LIMIT);
        let postgres = mesh.postgres().pid().ok_or("Postgres does not run")?;
        let operator = Bearer::new(&mesh.token(Role::Operator, "bench").await);
        let connect = |context| (0..CONNECTIONS).map(|_| mesh.channel(context)).collect();
        let lines = CONTEXTS.into_iter().map(|context| (context, connect(context))).collect();
        Ok(City { mesh, postgres, operator, lines, customers: Arc::default() })
    }

    /// From the exec of `taxi serve allocation` until its ready file is there, in milliseconds: up
    /// to 10 of them are ours, because we look that often.
    pub(crate) async fn ready_times(&mut self) -> Rounds {
        let mut times = Vec::new();
        for _ in 0..STARTS {
            self.mesh.stop("allocation").await;
            let start = Instant::now();
            self.mesh.start_context("allocation").await;
            times.push(millis(start.elapsed()));
        }
        Rounds::of(times)
    }

    /// Resident memory of each context.
    pub(crate) fn resident_mb(&self) -> Result<Memory> {
        let resident = |context| Ok((context, resident_mb(self.mesh.pid(context))?));
        CONTEXTS.into_iter().map(resident).collect()
    }

    /// What everything has cost so far.
    pub(crate) fn cpu(&self) -> Result<Cpu> {
        let mut contexts = Duration::ZERO;
        for context in CONTEXTS {
            contexts += cpu(self.mesh.pid(context))?;
        }
        let allocation = cpu(self.mesh.pid("allocation"))?;
        Ok(Cpu { allocation, contexts, postgres: cpu_with_children(self.postgres)? })
    }

    /// Waits until all that happened has had its consequences: until there is hardly anything on
    /// the CPU, twice in a row. Not for ever: a mesh that never rests is measured as it is.
    pub(crate) async fn settle(&self) -> Result<()> {
        let end = Instant::now() + SETTLE_LIMIT;
        let mut quiet = 0;
        let mut before = self.cpu()?;
        while quiet < 2 {
            if Instant::now() >= end {
                eprintln!("  the mesh still works after {SETTLE_LIMIT:?}: going on regardless");
                break;
            }
            sleep(LOOK).await;
            let now = self.cpu()?;
            let used = now - before;
            let idle = used.contexts + used.postgres <= LOOK.mul_f64(IDLE);
            quiet = if idle { quiet + 1 } else { 0 };
            before = now;
        }
        Ok(())
    }

    /// A client of allocation for an operator, who may ask for anybody.
    pub(crate) fn allocation(&self, n: usize) -> AllocationClient {
        AllocationClient::new(self.known("allocation", n, &self.operator))
    }

    /// A client of the dashboard for an operator, who sees everything.
    pub(crate) fn dashboard(&self, n: usize) -> DashboardClient {
        DashboardClient::new(self.known("dashboard", n, &self.operator))
    }

    /// A client of driving for the n-th driver, by this name.
    pub(crate) async fn driving(&self, n: usize, name: &str) -> DrivingClient {
        let driver = self.mesh.token(Role::Driver, name).await;
        DrivingClient::new(self.known("driving", n, &Bearer::new(&driver)))
    }

    fn known(&self, context: &str, n: usize, who: &Bearer) -> Known {
        Known::new(self.lines[context][n % CONNECTIONS].clone(), who.clone())
    }

    /// Where customers come from.
    pub(crate) fn customers(&self) -> Customers {
        Customers { like: "bench".to_owned(), count: self.customers.clone() }
    }
}

/// New customers without end: each asks for one car.
#[derive(Clone, Debug)]
pub(crate) struct Customers {
    like: String,
    count: Arc<AtomicU64>,
}

impl Customers {
    /// Customers whose names begin like this.
    pub(crate) fn like(name: &str) -> Customers {
        Customers { like: name.to_owned(), count: Arc::default() }
    }

    /// What the next one asks for.
    pub(crate) fn next(&self) -> RequestAllocationRequest {
        let n = self.count.fetch_add(1, Ordering::Relaxed);
        let allocation = Allocation {
            customer: format!("customers/{}-{n}", self.like),
            pickup: Some(pickup()),
            destination: Some(destination()),
            ..Allocation::default()
        };
        RequestAllocationRequest { allocation: Some(allocation), ..Default::default() }
    }
}

/// Where every customer is.
pub(crate) fn pickup() -> Place {
    place("서울특별시 중구 한강대로 405 서울역", 37.5547, 126.9707)
}

/// Where every customer wants to go.
pub(crate) fn destination() -> Place {
    place("서울특별시 강남구 강남대로 396 강남역", 37.4979, 127.0276)
}

fn place(address: &str, latitude: f64, longitude: f64) -> Place {
    Place { address: address.to_owned(), location: Some(LatLng { latitude, longitude }) }
}
